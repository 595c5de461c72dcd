//! Nothing is connected to that is denied, counted at the listening side: addresses, URLs, whatever
//! a name server says, the process's own ports, and tenants' rules.

use std::collections::HashSet;

use super::names::NameServer;
use super::*;

/// One hundred and more addresses, of every class that is denied, and of several spellings.
fn forbidden() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for (first, count) in [
        ([127, 0, 0, 1], 12),
        ([10, 0, 0, 1], 8),
        ([172, 16, 0, 1], 8),
        ([192, 168, 0, 1], 8),
        ([169, 254, 169, 254], 1),
        ([168, 63, 129, 16], 1),
        ([100, 64, 0, 1], 4),
        ([0, 0, 0, 0], 4),
        ([192, 0, 2, 1], 2),
        ([198, 18, 0, 1], 2),
        ([224, 0, 0, 1], 2),
        ([255, 255, 255, 255], 1),
    ] {
        let first = u32::from_be_bytes(first);
        all.extend((0..count).map(|n| IpAddr::V4((first + n).into())));
    }
    let inside = all.clone();
    let four = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(*ip)),
        IpAddr::V6(_) => unreachable!(),
    };
    for (number, ip) in inside.iter().enumerate() {
        let mapped = (0xffff_u128 << 32) | four(ip);
        let nat64 = (0x64_ff9b_u128 << 96) | four(ip);
        let six_to_four = (0x2002_u128 << 112) | (four(ip) << 80);
        let compatible = four(ip);
        let forms = [mapped, nat64, six_to_four, compatible];
        all.push(IpAddr::V6(forms[number % forms.len()].into()));
    }
    for text in ["::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "2001::1", "64:ff9b:1::1"]
    {
        all.push(text.parse().unwrap());
    }
    let mut seen = HashSet::new();
    all.retain(|ip| seen.insert(*ip));
    all
}

#[tokio::test]
async fn a_hundred_addresses_and_a_hundred_urls_are_denied() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let all = forbidden();
    assert!(all.len() >= 100, "only {}", all.len());
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    let resolver = Arc::new(server.resolver(machine.path(), ""));
    let policy = opening(&[]);
    let egress = Egress::new(EgressOptions { policy, resolver, ..options() }).unwrap();
    let (mut literals, mut names) = (0, 0);
    for (number, ip) in all.iter().enumerate() {
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let url = ::url::Url::parse(&format!("http://{host}:{port}/{number}")).unwrap();
        let exchange = egress.send(&post(target(url.as_str())), AMPLE).await;
        assert_eq!(fault(&exchange).0, ErrorClass::Denied, "{url}");
        literals += 1;
        let name = format!("n{number}.test");
        server.says(&name, 60, &[&ip.to_string()]);
        let exchange = egress.send(&post(target(&format!("http://{name}:{port}/"))), AMPLE).await;
        assert_eq!(fault(&exchange).0, ErrorClass::Denied, "{name}: {ip}");
        assert_eq!(exchange.remote, None, "{name}: {ip}");
        names += 1;
    }
    assert!(literals >= 100 && names >= 100);
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_turns_inwards_while_it_is_used_is_never_connected_to() {
    let outside = Receiver::answering(OK).await; // on 127.0.0.1, which is open here
    let port = outside.address.port();
    let inside = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    let resolver = Arc::new(server.resolver(machine.path(), ""));
    let limits = EgressLimits { name_known: Duration::ZERO, ..EgressLimits::default() };
    let egress = Egress::new(EgressOptions { resolver, limits, ..options() }).unwrap();
    let request = post(target(&format!("http://rebind.test:{port}/")));
    for turn in 0..50 {
        let (address, denied) = [("127.0.0.1", false), ("127.0.0.2", true)][turn % 2];
        server.says("rebind.test", 0, &[address]);
        let exchange = egress.send(&request, AMPLE).await;
        match denied {
            true => assert_eq!(fault(&exchange).0, ErrorClass::Denied),
            false => assert_eq!(response(&exchange).status, 200),
        }
        // Both at once: only the one that is open.
        server.says("rebind.test", 0, &["127.0.0.2", "127.0.0.1", "10.0.0.1"]);
        let exchange = egress.send(&request, AMPLE).await;
        assert_eq!(exchange.remote, Some(outside.address));
    }
    let waiting = tokio::time::timeout(Duration::ZERO, inside.accept()).await;
    assert!(waiting.is_err(), "somebody connected to the inside");
}

#[tokio::test]
async fn chains_of_aliases_and_hundreds_of_records_are_judged_to_the_last() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let machine = tempfile::tempdir().unwrap();
    let server = NameServer::start().await;
    let resolver = Arc::new(server.resolver(machine.path(), ""));
    let egress = Egress::new(EgressOptions { resolver, ..options() }).unwrap();
    let ask = async |name: &str| {
        egress.send(&post(target(&format!("http://{name}:{port}/"))), AMPLE).await
    };
    // An alias of an alias, with a denied and an allowed end.
    server.is_alias("one.test", &["two.test", "three.test"]);
    server.says("one.test", 60, &["127.0.0.2"]);
    assert_eq!(fault(&ask("one.test").await).0, ErrorClass::Denied);
    server.is_alias("four.test", &["five.test"]);
    server.says("four.test", 60, &["127.0.0.1"]);
    assert_eq!(response(&ask("four.test").await).status, 200);
    // 400 records do not fit a datagram: they come over TCP. All are denied but one.
    let mut many: Vec<String> = (0..399).map(|n| format!("10.0.{}.{}", n / 200, n % 200)).collect();
    many.insert(3, "127.0.0.1".to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.says("many.test", 60, &many);
    assert_eq!(response(&ask("many.test").await).status, 200);
    let inside: Vec<&str> = many.iter().copied().filter(|ip| ip.starts_with("10.")).collect();
    server.says("inside.test", 60, &inside);
    assert_eq!(fault(&ask("inside.test").await).0, ErrorClass::Denied);
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn the_processs_own_port_and_its_redis_are_closed_though_their_network_is_open() {
    let (api, redis) = (Receiver::answering(OK).await, Receiver::answering(OK).await);
    let receiver = Receiver::answering(OK).await;
    let own = Own {
        listeners: vec![SocketAddr::from(([0, 0, 0, 0], api.address.port()))],
        hosts: vec![("localhost".to_owned(), redis.address.port())],
    };
    let policy = opening(&["127.0.0.0/8", "::/0", "0.0.0.0/0"]);
    let resolver = Arc::new(Scripted::answering(&["127.0.0.1"]));
    let egress = Egress::new(EgressOptions { policy, own, resolver, ..options() }).unwrap();
    for host in ["127.0.0.1", "127.0.0.9", "[::1]", "0.0.0.0", "[::ffff:7f00:1]", "name.test"] {
        for closed in [&api, &redis] {
            let url = format!("http://{host}:{}/", closed.address.port());
            let exchange = egress.send(&post(target(&url)), AMPLE).await;
            let said = (ErrorClass::Denied, "an address of Pregón's own");
            assert_eq!(fault(&exchange), said, "{url}");
        }
    }
    let open = format!("http://name.test:{}/", receiver.address.port());
    assert_eq!(response(&egress.send(&post(target(&open)), AMPLE).await).status, 200);
    assert_eq!((api.accepted(), redis.accepted(), receiver.accepted()), (0, 0, 1));
}

#[tokio::test]
async fn the_unspecified_address_does_not_lead_to_a_listener_on_loopback() {
    let api = Receiver::answering(OK).await;
    let own = Own { listeners: vec![api.address], ..Own::default() };
    let policy = opening(&["::/0", "0.0.0.0/0"]);
    let egress = Egress::new(EgressOptions { policy, own, ..options() }).unwrap();
    for host in ["0.0.0.0", "[::]", "[::ffff:0:0]"] {
        let url = format!("http://{host}:{}/", api.address.port());
        let exchange = egress.send(&post(target(&url)), AMPLE).await;
        let said = (ErrorClass::Denied, "an address of Pregón's own");
        assert_eq!(fault(&exchange), said, "{url}");
    }
    assert_eq!(api.accepted(), 0);
}

#[tokio::test]
async fn a_tenants_new_rules_close_its_connections_and_nobody_elses() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let resolver = Arc::new(Scripted::answering(&["127.0.0.1"]));
    let egress = Egress::new(EgressOptions { resolver: resolver.clone(), ..options() }).unwrap();
    let ask = async |tenant: &str| {
        let url = EndpointUrl::parse_stored(&format!("http://receiver.test:{port}/")).unwrap();
        let target = Target::new(TenantId::parse(tenant).unwrap(), &url);
        egress.send(&post(target), AMPLE).await
    };
    for tenant in ["acme", "globex"] {
        assert_eq!(response(&ask(tenant).await).status, 200);
    }
    assert_eq!(egress.connections(), (2, 2));
    let rules =
        EgressRules { allow: Vec::new(), deny: vec![format!("*.test:{port}").parse().unwrap()] };
    let says = TenantEgress { rules, pool: None };
    egress.set_tenants(&[(TenantId::parse("acme").unwrap(), says)].into_iter().collect());
    assert_eq!(egress.connections(), (1, 1));
    let said = (ErrorClass::Denied, "the tenant's rules deny the receiver");
    assert_eq!(fault(&ask("acme").await), said);
    assert!(ask("globex").await.reused);
    assert_eq!((receiver.accepted(), resolver.asked()), (2, 1));
    egress.set_tenants(&Default::default());
    assert_eq!(response(&ask("acme").await).status, 200);
}

#[tokio::test]
async fn a_connection_opened_under_other_rules_is_not_taken_though_it_is_still_idle() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress();
    let request = post(receiver.target("/"));
    assert_eq!(response(&egress.send(&request, AMPLE).await).status, 200);
    let rules = EgressRules { allow: Vec::new(), deny: vec!["203.0.113.0/24".parse().unwrap()] };
    let says = TenantEgress { rules, pool: None };
    // Told, and nothing is closed yet.
    egress.0.tenants.set(&[(TenantId::parse("acme").unwrap(), says)].into_iter().collect());
    assert_eq!(egress.connections(), (1, 1));
    let exchange = egress.send(&request, AMPLE).await;
    assert_eq!(response(&exchange).status, 200);
    assert!(!exchange.reused);
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn a_connection_in_use_while_rules_change_is_closed_after_its_request() {
    let (begun, wait) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell, go) = (Arc::clone(&begun), Arc::clone(&wait));
    let receiver = Receiver::start(move |mut stream, _| {
        let (tell, go) = (Arc::clone(&tell), Arc::clone(&go));
        async move {
            while read_request(&mut stream).await.is_some() {
                tell.notify_one();
                go.notified().await;
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let egress = egress();
    let request = post(receiver.target("/"));
    let change = async {
        begun.notified().await;
        let deny = vec!["203.0.113.0/24".parse().unwrap()];
        let rules = EgressRules { allow: Vec::new(), deny };
        let says = TenantEgress { rules, pool: None };
        egress.set_tenants(&[(TenantId::parse("acme").unwrap(), says)].into_iter().collect());
        wait.notify_one();
    };
    let (exchange, ()) = tokio::join!(egress.send(&request, AMPLE), change);
    assert_eq!(response(&exchange).status, 200);
    assert_eq!(egress.connections(), (0, 0));
}
