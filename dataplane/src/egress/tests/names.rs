//! Name resolution against a name server on a loopback socket: silent for some names, changing
//! its mind about others.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use tokio::net::UdpSocket;

use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;

/// A name server; silent for names that it was told nothing of.
#[derive(Clone)]
struct NameServer {
    port: u16,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    /// By name: the time to live in seconds, and the addresses.
    names: HashMap<String, (u32, Vec<IpAddr>)>,
    /// Those for which it says that there is no such name.
    missing: HashSet<String>,
    /// Kinds of question that it does not answer at all.
    deaf: Vec<u16>,
    asked: Vec<(String, u16)>,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let answers = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answers.lock().unwrap().answer(&question[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { port, zone }
    }

    fn says(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.lock().unwrap().names.insert(name.to_owned(), (ttl, addresses));
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        let zone = self.zone.lock().unwrap();
        zone.asked.iter().filter(|(asked, of)| asked == name && *of == kind).count()
    }

    /// The system's resolver, on a machine with that name server and hosts file.
    fn resolver(&self, machine: &Path, hosts: &str) -> SystemResolver {
        let (conf, names) = (machine.join("resolv.conf"), machine.join("hosts"));
        std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
        std::fs::write(&names, hosts).unwrap();
        SystemResolver::of(conf, names, self.port)
    }

    fn egress(&self, machine: &Path, hosts: &str) -> Egress {
        let resolver = Arc::new(self.resolver(machine, hosts));
        let addresses = AddressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()] };
        Egress::new(EgressOptions { resolver, addresses, ..options() }).unwrap()
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        let (mut name, mut at) = (String::new(), 12);
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            name.extend([std::str::from_utf8(&question[at + 1..end]).unwrap(), "."]);
            at = end;
        }
        let name = name.trim_end_matches('.').to_lowercase();
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        self.asked.push((name.clone(), kind));
        let missing = self.missing.contains(&name);
        if self.deaf.contains(&kind) || !(missing || self.names.contains_key(&name)) {
            return None;
        }
        let (ttl, addresses) = self.names.get(&name).cloned().unwrap_or_default();
        let of_kind = |address: &&IpAddr| address.is_ipv4() == (kind == A);
        let found: Vec<_> = addresses.iter().filter(of_kind).collect();
        let code = if missing { 3 } else { 0 };
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
        answer.extend(&question[12..at + 5]);
        for address in found {
            let bytes = match address {
                IpAddr::V4(four) => four.octets().to_vec(),
                IpAddr::V6(six) => six.octets().to_vec(),
            };
            answer.extend([0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, u8::try_from(bytes.len()).unwrap()]);
            answer.extend(bytes);
        }
        Some(answer)
    }
}

fn of_tenant(tenant: &str, host: &str, port: u16) -> OutboundRequest {
    let url = EndpointUrl::parse_stored(&format!("http://{host}:{port}/")).unwrap();
    post(Target::new(TenantId::parse(tenant).unwrap(), &url))
}

#[tokio::test]
async fn silent_names_of_one_tenant_leave_the_others_alone() {
    let (receiver, machine) = (Receiver::answering(OK).await, tempfile::tempdir().unwrap());
    let port = receiver.address.port();
    let server = NameServer::start().await;
    let egress = server.egress(machine.path(), "");
    let silent: Vec<_> =
        (0..100).map(|n| of_tenant("noisy", &format!("silent{n}.test"), port)).collect();
    let silent = futures::future::join_all(silent.iter().map(|it| egress.send(it, AMPLE)));
    let others = async {
        for number in 0..40 {
            let name = format!("quick{number}.test");
            server.says(&name, 60, &["127.0.0.1"]);
            let exchange = egress.send(&of_tenant("acme", &name, port), AMPLE).await;
            assert_eq!(response(&exchange).status, 200, "{name}");
            assert!(exchange.timing.dns < 1_000_000, "{name}: {:?}", exchange.timing);
        }
    };
    let (silent, ()) = futures::future::join(silent, others).await;
    for exchange in &silent {
        assert_eq!(fault(exchange).0, ErrorClass::Dns);
    }
    let line = "too many of the tenant's names are being looked up";
    assert!(silent.iter().any(|exchange| fault(exchange).1 == line), "places without number");
}

#[tokio::test]
async fn lookups_under_way_are_bounded_and_leave_places_for_the_next_tenant() {
    tokio::time::pause(); // no socket is involved
    let scripted = Scripted::silent();
    let limits = EgressLimits { lookups: 8, lookups_per_tenant: 6, ..EgressLimits::default() };
    let resolver = Arc::new(scripted.clone());
    let egress = Egress::new(EgressOptions { limits, resolver, ..options() }).unwrap();
    let requests = |tenant: &'static str, number| {
        (0..number).map(move |n| of_tenant(tenant, &format!("{tenant}{n}.test"), 8080))
    };
    let requests: Vec<_> =
        ["one", "two", "three", "four"].map(|it| requests(it, 20)).into_iter().flatten().collect();
    let sends = requests.iter().map(|request| egress.send(request, AMPLE));
    let sends = futures::future::join_all(sends);
    let asked = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scripted.asked()
    };
    let (exchanges, asked) = futures::future::join(sends, asked).await;
    assert!(asked <= 8, "{asked} lookups under way");
    let of = |tenant: usize| &exchanges[tenant * 20..][..20];
    for tenant in 0..2 {
        let waited = "no answer from the name server in time";
        assert!(of(tenant).iter().any(|exchange| fault(exchange).1 == waited), "tenant {tenant}");
    }
}

#[tokio::test]
async fn receiver_that_moves_is_followed_although_its_connection_is_kept() {
    let (old, machine) = (Receiver::answering(OK).await, tempfile::tempdir().unwrap());
    let port = old.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let server = NameServer::start().await;
    server.says("moving.test", 1, &["127.0.0.1"]);
    let egress = server.egress(machine.path(), "");
    let request = of_tenant("acme", "moving.test", port);
    for number in 0..3 {
        let exchange = egress.send(&request, AMPLE).await;
        assert_eq!((response(&exchange).status.as_u16(), exchange.reused), (200, number > 0));
    }
    server.says("moving.test", 1, &["127.0.0.2"]);
    let new = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while read_request(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
        }
    });
    let begin = Instant::now();
    loop {
        let exchange = egress.send(&request, AMPLE).await;
        assert_eq!(response(&exchange).status, 200);
        if exchange.remote.unwrap().ip() == IpAddr::from([127, 0, 0, 2]) {
            break;
        }
        assert!(begin.elapsed() < AMPLE, "still at the old address");
        tokio::time::sleep(Duration::from_millis(50)).await; // the traffic's own pace
    }
    assert!(egress.send(&request, AMPLE).await.reused);
    assert_eq!((old.accepted(), egress.connections()), (1, (1, 1)));
    drop(egress);
    new.await.unwrap();
}

#[tokio::test]
async fn answer_is_kept_for_half_a_minute_at_most() {
    let receiver = Receiver::answering(OK).await;
    let scripted = Scripted::answering(&["127.0.0.1"]); // holds for a minute, it says
    let resolver = Arc::new(scripted.clone());
    let egress = Egress::new(EgressOptions { resolver, ..options() }).unwrap();
    let request = of_tenant("acme", "steady.test", receiver.address.port());
    assert!(egress.send(&request, AMPLE).await.result.is_ok());
    assert!(egress.send(&request, AMPLE).await.result.is_ok());
    assert_eq!(scripted.asked(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(29)).await;
    tokio::time::resume();
    assert!(egress.send(&request, AMPLE).await.result.is_ok());
    assert_eq!(scripted.asked(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert!(egress.send(&request, AMPLE).await.result.is_ok());
    assert_eq!(scripted.asked(), 2);
}

#[tokio::test]
async fn kept_connection_is_used_while_the_name_server_is_silent_and_not_when_the_name_is_gone() {
    let (receiver, machine) = (Receiver::answering(OK).await, tempfile::tempdir().unwrap());
    let server = NameServer::start().await;
    server.says("fading.test", 1, &["127.0.0.1"]);
    let resolver = Arc::new(server.resolver(machine.path(), ""));
    let limits = EgressLimits {
        lookup: Duration::from_millis(200),
        name_failed: Duration::from_millis(1),
        ..EgressLimits::default()
    };
    let egress = Egress::new(EgressOptions { resolver, limits, ..options() }).unwrap();
    let request = of_tenant("acme", "fading.test", receiver.address.port());
    assert!(egress.send(&request, AMPLE).await.result.is_ok());
    server.zone.lock().unwrap().names.clear();
    tokio::time::sleep(Duration::from_millis(1_100)).await; // the answer's own time
    let exchange = egress.send(&request, AMPLE).await;
    assert_eq!((response(&exchange).status.as_u16(), exchange.reused), (200, true));
    assert!(exchange.timing.dns > 0);
    server.zone.lock().unwrap().missing.insert("fading.test".into());
    let begin = Instant::now();
    while egress.send(&request, AMPLE).await.result.is_ok() {
        assert!(begin.elapsed() < AMPLE, "still sent to a name that is gone");
    }
    let exchange = egress.send(&request, AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Dns, "the name does not resolve"));
}

#[tokio::test]
async fn hosts_file_comes_first_and_is_read_again_when_it_changes() {
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    server.says("both.test", 60, &["127.0.0.9"]);
    let resolver = server.resolver(machine.path(), "# ours\n127.0.0.3 Both.test other.test\n");
    let found = resolver.lookup("both.test".into()).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 3])]);
    assert_eq!(server.asked("both.test", A) + server.asked("both.test", AAAA), 0);
    std::fs::write(machine.path().join("hosts"), "127.0.0.44 third.test\n").unwrap();
    let begin = Instant::now();
    while resolver.lookup("both.test".into()).await.unwrap().addresses
        != [IpAddr::from([127, 0, 0, 9])]
    {
        assert!(begin.elapsed() < AMPLE, "the file is not read again");
        tokio::time::sleep(Duration::from_millis(100)).await; // a look every two seconds
    }
}

#[tokio::test]
async fn search_list_is_used_for_names_without_dots() {
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    server.says("receiver.apps.test", 60, &["127.0.0.5"]);
    let resolver = server.resolver(machine.path(), "");
    let conf = "search apps.test\nnameserver 127.0.0.1\noptions ndots:1\n";
    std::fs::write(machine.path().join("resolv.conf"), conf).unwrap();
    let found = resolver.lookup("receiver".into()).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 5])]);
    assert_eq!(found.ttl, Duration::from_secs(60));
}

#[tokio::test]
async fn name_server_that_answers_for_one_family_only_suffices() {
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    server.zone.lock().unwrap().deaf = vec![AAAA];
    server.says("half.test", 60, &["127.0.0.5"]);
    let resolver = server.resolver(machine.path(), "");
    let found = tokio::time::timeout(Duration::from_secs(2), resolver.lookup("half.test".into()));
    assert_eq!(found.await.unwrap().unwrap().addresses, [IpAddr::from([127, 0, 0, 5])]);
    let server = NameServer::start().await;
    server.says("dual.test", 60, &["2001:db8::1", "127.0.0.5"]);
    let found = server.resolver(machine.path(), "").lookup("dual.test".into()).await.unwrap();
    let both = ["127.0.0.5", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap());
    assert_eq!(found.addresses, both);
    server.zone.lock().unwrap().missing.insert("missing.test".into());
    let missing = server.resolver(machine.path(), "").lookup("missing.test".into()).await;
    assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}
