//! Egress pools: by which way requests leave, and whose fault it is when the way fails.

use pregon_core::id::PoolName;

use super::*;

/// A way to the proxy at an address.
fn by(kind: ProxyKind, proxy: SocketAddr, login: Option<(&str, &str)>) -> Via {
    let login = login.map(|(user, password)| Login {
        user: user.to_owned(),
        password: zeroize::Zeroizing::new(password.to_owned()),
    });
    Via::Proxy(ProxyOptions { kind, host: proxy.ip().to_string(), port: proxy.port(), login })
}

/// A node with one pool, `way`.
fn with(via: Via) -> Egress {
    let pools = vec![PoolOptions { name: pool("way"), via, identity: None }];
    let resolver = Arc::new(Scripted::answering(&["127.0.0.1"]));
    Egress::new(EgressOptions { pools, resolver, ..options() }).unwrap()
}

fn pool(name: &str) -> PoolName {
    PoolName::parse(name).unwrap()
}

/// A request by a pool that the subscription names.
fn through(name: &str, receiver: &Receiver) -> OutboundRequest {
    let url = format!("http://receiver.test:{}/hook", receiver.address.port());
    let url = EndpointUrl::parse_stored(&url).unwrap();
    let choice = PoolChoice { receiver: Some(pool(name)), ..PoolChoice::default() };
    post(Target::by(TenantId::parse("acme").unwrap(), &url, choice, None))
}

/// An HTTP proxy that notes what it is asked, answers that, and after a 2xx connects.
async fn http_proxy(answer: &'static str) -> (Receiver, Arc<std::sync::Mutex<Vec<String>>>) {
    let heads = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&heads);
    let proxy = Receiver::start(move |mut stream, _| {
        let noted = Arc::clone(&noted);
        async move {
            let Some(head) = read_request(&mut stream).await else { return };
            let to = head.split(' ').nth(1).unwrap().to_owned();
            noted.lock().unwrap().push(head);
            if stream.write_all(answer.as_bytes()).await.is_err() || !answer.contains(" 20") {
                return;
            }
            let mut far = TcpStream::connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
        }
    })
    .await;
    (proxy, heads)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[tokio::test]
async fn an_http_proxy_is_told_the_address_that_was_judged_and_who_asks() {
    let receiver = Receiver::answering(OK).await;
    let (proxy, heads) = http_proxy(ESTABLISHED).await;
    let egress = with(by(ProxyKind::Connect, proxy.address, Some(("pregon", "s3cret"))));
    for number in 0..2 {
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        assert_eq!(response(&exchange).status, 200);
        assert_eq!((exchange.remote, exchange.reused), (Some(receiver.address), number > 0));
    }
    let heads = heads.lock().unwrap().clone();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    let line = format!("CONNECT {} HTTP/1.1\r\n", receiver.address);
    assert!(head.starts_with(&line) && !head.contains("receiver.test"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic"), "{head}");
    assert!(head.contains("cHJlZ29uOnMzY3JldA=="), "{head}");
}

#[tokio::test]
async fn what_an_http_proxy_does_wrong_is_a_fault_of_the_pool() {
    let receiver = Receiver::answering(OK).await;
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "(407)"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "CONNECT with 502"),
        ("HTTP/1.1 403 Filtered\r\ncontent-length: 0\r\n\r\n", "CONNECT with 403"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n", "CONNECT with 302"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "no answer that is HTTP"),
        ("", "its proxy"),
    ];
    for (answer, said) in cases {
        let (proxy, _) = http_proxy(answer).await;
        let egress = with(by(ProxyKind::Connect, proxy.address, None));
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        let (class, detail) = fault(&exchange);
        assert_eq!(class, ErrorClass::Egress, "{detail}");
        assert!(detail.starts_with("egress pool way: ") && detail.contains(said), "{detail}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_away_or_silent_is_a_fault_of_the_pool() {
    let receiver = Receiver::answering(OK).await;
    let away = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let egress = with(by(ProxyKind::Connect, away, None));
    let exchange = egress.send(&through("way", &receiver), AMPLE).await;
    let tried = "egress pool way: its proxy: connection refused (tried 127.0.0.1)";
    assert_eq!(fault(&exchange), (ErrorClass::Egress, tried));
    let silent = Receiver::start(|stream, _| hold(stream)).await;
    for kind in [ProxyKind::Connect, ProxyKind::Socks5] {
        let pools =
            PoolOptions { name: pool("way"), via: by(kind, silent.address, None), identity: None };
        let limits =
            EgressLimits { connect: Duration::from_millis(300), ..EgressLimits::default() };
        let resolver = Arc::new(Scripted::answering(&["127.0.0.1"]));
        let egress = EgressOptions { pools: vec![pools], limits, resolver, ..options() };
        let egress = Egress::new(egress).unwrap();
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        let late = "egress pool way: its proxy did not open the connection in time \
                    (tried 127.0.0.1)";
        assert_eq!(fault(&exchange), (ErrorClass::Egress, late));
        // The attempt's own time is up before the proxy's.
        let exchange = egress.send(&through("way", &receiver), Duration::from_millis(50)).await;
        assert_eq!(fault(&exchange).0, ErrorClass::Egress);
    }
    assert_eq!(receiver.accepted(), 0);
}

/// A SOCKS5 proxy that answers a request with that reply, and after 0 connects. It asks for a
/// password if it is given one.
async fn socks(reply: u8, password: Option<&'static str>) -> Receiver {
    Receiver::start(move |mut stream, _| async move {
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        let mut methods = vec![0; usize::from(greeting[1])];
        stream.read_exact(&mut methods).await.unwrap();
        let wanted = if password.is_some() { 2 } else { 0 };
        if !methods.contains(&wanted) {
            let _ = stream.write_all(&[5, 0xff]).await;
            return;
        }
        stream.write_all(&[5, wanted]).await.unwrap();
        if let Some(password) = password {
            let mut pair = Vec::new();
            for _ in 0..2 {
                let mut length = [0; 2];
                let read = if pair.is_empty() { &mut length[..] } else { &mut length[..1] };
                stream.read_exact(read).await.unwrap();
                let length = if pair.is_empty() { length[1] } else { length[0] };
                let mut text = vec![0; usize::from(length)];
                stream.read_exact(&mut text).await.unwrap();
                pair.push(String::from_utf8(text).unwrap());
            }
            let good = pair[1] == password;
            stream.write_all(&[1, u8::from(!good)]).await.unwrap();
            if !good {
                return;
            }
        }
        let mut request = [0; 10]; // version, CONNECT, 0, IPv4, address, port
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request[..4], [5, 1, 0, 1], "no name is sent");
        stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        if reply == 0 {
            let [.., a, b, c, d, high, low] = request;
            let mut far = TcpStream::connect(SocketAddr::from((
                [a, b, c, d],
                u16::from_be_bytes([high, low]),
            )))
            .await
            .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_socks_proxy_is_told_an_address_and_a_password_where_it_wants_one() {
    let receiver = Receiver::answering(OK).await;
    let open = socks(0, None).await;
    let egress = with(by(ProxyKind::Socks5, open.address, None));
    let exchange = egress.send(&through("way", &receiver), AMPLE).await;
    assert_eq!(response(&exchange).status, 200);
    let closed = socks(0, Some("s3cret")).await;
    let egress = with(by(ProxyKind::Socks5, closed.address, Some(("pregon", "s3cret"))));
    assert!(egress.send(&through("way", &receiver), AMPLE).await.result.is_ok());
    for login in [None, Some(("pregon", "other"))] {
        let egress = with(by(ProxyKind::Socks5, closed.address, login));
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        let (class, detail) = fault(&exchange);
        assert_eq!(class, ErrorClass::Egress, "{detail}");
        assert!(detail.contains("does not accept the user or the password"), "{detail}");
    }
}

#[tokio::test]
async fn of_a_socks_proxys_replies_two_are_the_receivers() {
    let receiver = Receiver::answering(OK).await;
    for reply in 1..=9 {
        let proxy = socks(reply, None).await;
        let egress = with(by(ProxyKind::Socks5, proxy.address, None));
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        let expected = match reply {
            4 | 5 => ErrorClass::Connect, // host unreachable, connection refused
            _ => ErrorClass::Egress,
        };
        assert_eq!(fault(&exchange).0, expected, "{reply}: {}", fault(&exchange).1);
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn a_receiver_that_a_socks_proxy_waits_for_in_vain_is_charged() {
    let receiver = Receiver::answering(OK).await;
    for password in [None, Some("s3cret")] {
        // It lets us in, reads the request, and has no answer.
        let proxy = Receiver::start(move |mut stream, _| async move {
            let mut greeting = [0; 2];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.read_exact(&mut vec![0; usize::from(greeting[1])]).await.unwrap();
            match password {
                None => stream.write_all(&[5, 0]).await.unwrap(),
                Some(password) => {
                    stream.write_all(&[5, 2]).await.unwrap();
                    let length = 3 + "pregon".len() + password.len();
                    stream.read_exact(&mut vec![0; length]).await.unwrap();
                    stream.write_all(&[1, 0]).await.unwrap();
                }
            }
            hold(stream).await;
        })
        .await;
        let login = password.map(|password| ("pregon", password));
        let via = by(ProxyKind::Socks5, proxy.address, login);
        let pools = vec![PoolOptions { name: pool("way"), via, identity: None }];
        let limits =
            EgressLimits { connect: Duration::from_millis(500), ..EgressLimits::default() };
        let resolver = Arc::new(Scripted::answering(&["127.0.0.1"]));
        let egress = Egress::new(EgressOptions { pools, limits, resolver, ..options() }).unwrap();
        let exchange = egress.send(&through("way", &receiver), AMPLE).await;
        let said = "the proxy had no answer from the receiver in time (tried 127.0.0.1)";
        assert_eq!(fault(&exchange), (ErrorClass::Connect, said));
        let exchange = egress.send(&through("way", &receiver), Duration::from_millis(250)).await;
        assert_eq!(fault(&exchange), (ErrorClass::Timeout, "time ran out while connecting"));
    }
}

#[tokio::test]
async fn an_address_of_a_proxy_that_is_silent_leaves_time_for_the_next() {
    let receiver = Receiver::answering(OK).await;
    let (proxy, _) = http_proxy(ESTABLISHED).await;
    // A listener whose queue is full answers nobody.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 9], proxy.address.port()))).unwrap();
    let silent = socket.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    let mut queue = Vec::new();
    let short = Duration::from_millis(200);
    while let Ok(made) = tokio::time::timeout(short, TcpStream::connect(address)).await {
        queue.push(made.unwrap());
    }
    let via = Via::Proxy(ProxyOptions {
        kind: ProxyKind::Connect,
        host: "proxy.test".to_owned(),
        port: proxy.address.port(),
        login: None,
    });
    let pools = vec![PoolOptions { name: pool("way"), via, identity: None }];
    let resolver = Arc::new(Scripted::answering(&["127.0.0.9", "127.0.0.1"]));
    let limits = EgressLimits { connect: Duration::from_secs(2), ..EgressLimits::default() };
    let policy = opening(&["127.0.0.1/32"]);
    let egress =
        Egress::new(EgressOptions { pools, resolver, limits, policy, ..options() }).unwrap();
    let exchange = egress.send(&through("way", &receiver), AMPLE).await;
    assert_eq!(response(&exchange).status, 200);
    assert!(!queue.is_empty(), "the first address was to be silent");
}

#[tokio::test]
async fn a_proxy_is_not_even_asked_for_a_denied_address() {
    let proxy = Receiver::answering(ESTABLISHED).await;
    let pools = vec![PoolOptions {
        name: pool("way"),
        via: by(ProxyKind::Connect, proxy.address, None),
        identity: None,
    }];
    let resolver = Arc::new(Scripted::answering(&["10.0.0.1", "169.254.169.254"]));
    let egress = Egress::new(EgressOptions { pools, resolver, ..options() }).unwrap();
    let receiver = Receiver::answering(OK).await;
    let exchange = egress.send(&through("way", &receiver), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Denied, "not a public address (private)"));
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn a_source_address_is_what_the_receiver_sees() {
    let seen = Arc::<std::sync::Mutex<Vec<IpAddr>>>::default();
    let noted = Arc::clone(&seen);
    let receiver = Receiver::start(move |mut stream, _| {
        noted.lock().unwrap().push(stream.peer_addr().unwrap().ip());
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let from = |v4: Option<&str>, v6: Option<&str>| Via::Source {
        v4: v4.map(|ip| ip.parse().unwrap()),
        v6: v6.map(|ip| ip.parse().unwrap()),
    };
    let egress = with(from(Some("127.0.0.77"), None));
    assert!(egress.send(&through("way", &receiver), AMPLE).await.result.is_ok());
    assert_eq!(*seen.lock().unwrap(), [IpAddr::from([127, 0, 0, 77])]);
    let elsewhere = with(from(Some("192.0.2.1"), None));
    let exchange = elsewhere.send(&through("way", &receiver), AMPLE).await;
    let lacks =
        "egress pool way: the machine does not have the address 192.0.2.1 (tried 127.0.0.1)";
    assert_eq!(fault(&exchange), (ErrorClass::Egress, lacks));
    let other = with(from(None, Some("::1")));
    let exchange = other.send(&through("way", &receiver), AMPLE).await;
    let lacks = "egress pool way: it has no source address of the receiver's family";
    assert_eq!(fault(&exchange), (ErrorClass::Egress, lacks));
}

#[tokio::test]
async fn subscription_goes_before_tenant_and_tenant_before_contract() {
    let receiver = Receiver::answering(OK).await;
    let nowhere = with(Via::Direct);
    let acme = TenantId::parse("acme").unwrap();
    let url = format!("http://receiver.test:{}/", receiver.address.port());
    let url = EndpointUrl::parse_stored(&url).unwrap();
    let ask = async |receiver: Option<&str>, tenant: Option<&str>, contract: &str| {
        let says = TenantEgress { pool: tenant.map(pool), ..TenantEgress::default() };
        nowhere.set_tenants(&[(acme.clone(), says)].into_iter().collect());
        let choice = PoolChoice::new(receiver.map(pool), contract);
        let exchange =
            nowhere.send(&post(Target::by(acme.clone(), &url, choice, None)), AMPLE).await;
        exchange.result.map(|_| ()).map_err(|fault| (fault.class, fault.detail.into_owned()))
    };
    let none = |name| Err((ErrorClass::Egress, format!("the node has no egress pool {name}")));
    assert_eq!(ask(None, None, "default").await, Ok(()));
    assert_eq!(ask(None, None, "c").await, none("c"));
    assert_eq!(ask(None, Some("t"), "c").await, none("t"));
    assert_eq!(ask(Some("s"), Some("t"), "c").await, none("s"));
    assert_eq!(ask(Some("way"), Some("t"), "c").await, Ok(()));
    assert_eq!(ask(None, Some("way"), "c").await, Ok(()));
}
