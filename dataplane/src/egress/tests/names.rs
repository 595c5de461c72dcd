//! Name resolution against a name server on a loopback socket: silent for some names, changing
//! its mind about others.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use tokio::net::UdpSocket;

use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;
/// Bytes of an answer in a datagram (RFC 1035 section 4.2.1).
const DATAGRAM: usize = 512;

/// A name server; silent for names that it was told nothing of.
#[derive(Clone)]
pub(super) struct NameServer {
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
    /// What it answers every question with, if it is not to tell (RFC 1035 section 4.1.1).
    fails: Option<u8>,
    aliases: HashMap<String, Vec<String>>,
    asked: Vec<(String, u16)>,
}

impl NameServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let answers = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answers.lock().unwrap().answer(&question[..length], DATAGRAM);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        let answers = Arc::clone(&zone);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(over_tcp(stream, Arc::clone(&answers)));
            }
        });
        Self { port, zone }
    }

    /// The name's addresses are those of the last of these, each an alias of the next.
    pub(super) fn is_alias(&self, name: &str, of: &[&str]) {
        let of = of.iter().map(|name| (*name).to_owned()).collect();
        self.zone.lock().unwrap().aliases.insert(name.to_owned(), of);
    }

    pub(super) fn says(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.lock().unwrap().names.insert(name.to_owned(), (ttl, addresses));
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        let zone = self.zone.lock().unwrap();
        zone.asked.iter().filter(|(asked, of)| asked == name && *of == kind).count()
    }

    /// The system's resolver, on a machine with that name server and hosts file.
    pub(super) fn resolver(&self, machine: &Path, hosts: &str) -> SystemResolver {
        let (conf, names) = (machine.join("resolv.conf"), machine.join("hosts"));
        std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
        std::fs::write(&names, hosts).unwrap();
        SystemResolver::of(conf, names, self.port, Vec::new())
    }

    fn egress(&self, machine: &Path, hosts: &str) -> Egress {
        let resolver = Arc::new(self.resolver(machine, hosts));
        let policy = opening(&["127.0.0.0/8"]);
        Egress::new(EgressOptions { resolver, policy, ..options() }).unwrap()
    }
}

impl Zone {
    /// The answer of `most` bytes; a longer one is cut to none, and says so.
    fn answer(&mut self, question: &[u8], most: usize) -> Option<Vec<u8>> {
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
        let told = missing || self.fails.is_some() || self.names.contains_key(&name);
        if self.deaf.contains(&kind) || !told {
            return None;
        }
        let (ttl, addresses) = self.names.get(&name).cloned().unwrap_or_default();
        let of_kind = |address: &&IpAddr| address.is_ipv4() == (kind == A);
        let found: Vec<_> = addresses.iter().filter(of_kind).collect();
        let code = self.fails.unwrap_or(if missing { 3 } else { 0 });
        let aliases = self.aliases.get(&name).cloned().unwrap_or_default();
        let mut answer = question[..2].to_vec();
        let count = u16::try_from(found.len() + aliases.len()).unwrap().to_be_bytes();
        answer.extend([0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
        answer.extend(&question[12..at + 5]);
        // Where the owner of the next record stands: the question's name, then each alias.
        let mut owner = 12_u16;
        for alias in aliases {
            let mut name: Vec<u8> = Vec::new();
            for label in alias.split('.') {
                name.push(u8::try_from(label.len()).unwrap());
                name.extend(label.bytes());
            }
            name.push(0);
            answer.extend((0xc000 | owner).to_be_bytes());
            answer.extend([0, 5, 0, 1]); // CNAME
            answer.extend(ttl.to_be_bytes());
            answer.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            owner = u16::try_from(answer.len()).unwrap();
            answer.extend(name);
        }
        for address in found {
            let bytes = match address {
                IpAddr::V4(four) => four.octets().to_vec(),
                IpAddr::V6(six) => six.octets().to_vec(),
            };
            answer.extend((0xc000 | owner).to_be_bytes());
            answer.extend([0, u8::try_from(kind).unwrap(), 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, u8::try_from(bytes.len()).unwrap()]);
            answer.extend(bytes);
        }
        if answer.len() > most {
            answer.truncate(12 + at + 5 - 12);
            answer[2] |= 2; // truncated
            answer[6..8].fill(0);
        }
        Some(answer)
    }
}

/// Answers questions that come over TCP, each behind its length.
async fn over_tcp(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    loop {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).await.is_err() {
            return;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).await.unwrap();
        let answer = zone.lock().unwrap().answer(&question, usize::from(u16::MAX));
        if let Some(answer) = answer {
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).await.unwrap();
        }
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
    assert_eq!(fault(&exchange), (ErrorClass::Dns, "the name does not exist"));
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
async fn search_list_is_never_used() {
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    let resolver = server.resolver(machine.path(), "");
    let conf = "search apps.test\nnameserver 127.0.0.1\noptions ndots:5\n";
    std::fs::write(machine.path().join("resolv.conf"), conf).unwrap();
    for name in ["receiver", "receiver.test"] {
        server.says(&format!("{name}.apps.test"), 60, &["127.0.0.5"]);
        server.zone.lock().unwrap().missing.insert(name.to_owned());
        let missing = resolver.lookup(name.into()).await.unwrap_err();
        assert!(matches!(missing, LookupError::NoName { .. }), "{missing:?}");
        assert_eq!(server.asked(&format!("{name}.apps.test"), A), 0);
    }
    server.says("receiver", 60, &["127.0.0.6"]);
    server.zone.lock().unwrap().missing.clear();
    let found = resolver.lookup("receiver".into()).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 6])]);
    assert_eq!(found.ttl, Duration::from_secs(60));
}

#[tokio::test]
async fn name_servers_of_the_setting_are_asked_instead_of_the_machines() {
    let machine = tempfile::tempdir().unwrap();
    let (server, other) = (NameServer::start().await, NameServer::start().await);
    server.says("ours.test", 60, &["127.0.0.5"]);
    let (conf, hosts) = (machine.path().join("resolv.conf"), machine.path().join("hosts"));
    std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
    std::fs::write(&hosts, "127.0.0.9 listed.test\n").unwrap();
    let servers = vec![SocketAddr::from(([127, 0, 0, 1], server.port))];
    let resolver = SystemResolver::of(conf, hosts, other.port, servers);
    for (name, address) in [("ours.test", 5), ("listed.test", 9)] {
        let found = resolver.lookup(name.into()).await.unwrap();
        assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, address])]);
    }
    assert!(other.zone.lock().unwrap().asked.is_empty());
}

#[tokio::test]
async fn name_server_that_fails_or_refuses_leaves_the_lookup_to_the_next() {
    let machine = tempfile::tempdir().unwrap();
    let (bad, good) = (NameServer::start().await, NameServer::start().await);
    let at = |server: &NameServer| SocketAddr::from(([127, 0, 0, 1], server.port));
    let (conf, hosts) = (machine.path().join("resolv.conf"), machine.path().join("hosts"));
    let of = |servers| SystemResolver::of(conf.clone(), hosts.clone(), 53, servers);
    let alone = of(vec![at(&bad)]);
    let both = of(vec![at(&bad), at(&good)]);
    for (code, said) in [(2, LookupError::ServerFailed), (5, LookupError::ServerRefused)] {
        bad.zone.lock().unwrap().fails = Some(code);
        assert_eq!(alone.lookup("a.test".into()).await.unwrap_err(), said);
        good.says("a.test", 60, &["127.0.0.5"]);
        let found = both.lookup("a.test".into()).await.unwrap();
        assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 5])], "{said}");
        good.zone.lock().unwrap().missing.insert("none.test".to_owned());
        assert!(both.lookup("none.test".into()).await.unwrap_err().is_gone(), "{said}");
    }
}

#[tokio::test]
async fn an_allowed_address_behind_a_hundred_denied_ones_is_found() {
    // Nothing is connected to: the last address is denied by a rule, and the first refusal is told.
    let mut many: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
    many.push("9.9.9.9".to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let resolver = Arc::new(Scripted::answering(&many));
    let deny = vec!["9.9.9.9".parse().unwrap()];
    let rules = EgressRules { allow: Vec::new(), deny };
    let policy = EgressPolicy { rules, ..opening(&["10.0.0.0/32:1"]) };
    let egress = Egress::new(EgressOptions { resolver, policy, ..options() }).unwrap();
    let exchange = egress.send(&of_tenant("acme", "many.test", 8080), AMPLE).await;
    let said = (ErrorClass::Denied, "the deployment denies the receiver");
    assert_eq!(fault(&exchange), said);
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
    assert!(matches!(missing.unwrap_err(), LookupError::NoName { .. }));
}
