//! The guard: forbidden addresses are not connected to, whatever names resolve to.

use super::*;

fn guarded(resolver: impl Resolver, allow: &[&str]) -> Egress {
    let (policy, resolver) = (opening(allow), Arc::new(resolver));
    Egress::new(EgressOptions { policy, resolver, ..options() }).unwrap()
}

/// A URL that names an address, or a name.
fn named(host: &str, port: u16) -> Target {
    target(&format!("http://{host}:{port}/"))
}

#[tokio::test]
async fn denied_literals_are_not_connected_to() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let egress = guarded(SystemResolver::default(), &[]);
    for address in [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[::ffff:7f00:1]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
    ] {
        let exchange = egress.send(&post(named(address, port)), AMPLE).await;
        assert_eq!(fault(&exchange).0, ErrorClass::Denied, "{address}");
        assert_eq!(exchange.remote, None, "{address}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn allowed_network_lets_its_addresses_through_and_no_others() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let egress = guarded(SystemResolver::default(), &["127.0.0.1/32"]);
    for address in ["127.0.0.1", "[::ffff:7f00:1]"] {
        let exchange = egress.send(&post(named(address, port)), AMPLE).await;
        assert_eq!(response(&exchange).status, 200, "{address}");
        assert_eq!(exchange.remote, Some(receiver.address));
    }
    let exchange = egress.send(&post(named("127.0.0.2", port)), AMPLE).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Denied);
}

#[tokio::test]
async fn name_of_the_machine_itself_is_denied() {
    let receiver = Receiver::answering(OK).await;
    let egress = guarded(SystemResolver::default(), &[]);
    let exchange = egress.send(&post(named("localhost", receiver.address.port())), AMPLE).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Denied);
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn only_allowed_addresses_of_a_mixed_answer_are_tried() {
    let receiver = Receiver::answering(OK).await;
    let answer = ["10.0.0.1", "127.0.0.2", "169.254.169.254", "::1", "127.0.0.1"];
    let egress = guarded(Scripted::answering(&answer), &["127.0.0.1/32"]);
    let exchange = egress.send(&post(named("mixed.test", receiver.address.port())), AMPLE).await;
    assert_eq!(response(&exchange).status, 200);
    assert_eq!(exchange.remote, Some(receiver.address));
}

#[tokio::test]
async fn name_that_turns_inwards_is_judged_at_each_connect() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    // What the name says is kept, whom it may reach is not: the policy is asked at every connect.
    let scripted = Scripted::answering(&["127.0.0.1"]);
    let egress = guarded(scripted.clone(), &["127.0.0.1/32"]);
    assert!(egress.send(&post(named("rebind.test", port)), AMPLE).await.result.is_ok());
    egress.set_policy(opening(&[]));
    let exchange = egress.send(&post(named("rebind.test", port)), AMPLE).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Denied);
    assert_eq!((scripted.asked(), receiver.accepted()), (1, 1));
}

#[tokio::test]
async fn next_address_is_tried_when_one_refuses() {
    let receiver = Receiver::answering(OK).await; // on 127.0.0.1 only
    let scripted = Scripted::answering(&["127.0.0.3", "127.0.0.2", "127.0.0.1"]);
    let egress = guarded(scripted, &["127.0.0.0/8"]);
    let exchange = egress.send(&post(named("three.test", receiver.address.port())), AMPLE).await;
    assert_eq!(response(&exchange).status, 200);
    assert_eq!(exchange.remote, Some(receiver.address));
}

#[tokio::test]
async fn number_of_addresses_tried_is_bounded() {
    let receiver = Receiver::answering(OK).await;
    let dead = (2..10).map(|n| format!("127.0.0.{n}")).chain(["127.0.0.1".to_owned()]);
    let many: Vec<_> = dead.collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let scripted = Scripted::answering(&many);
    let egress = guarded(scripted.clone(), &["127.0.0.0/8"]);
    let request = post(named("many.test", receiver.address.port()));
    for asked in 1..3 {
        let exchange = egress.send(&request, AMPLE).await;
        let (class, detail) = fault(&exchange);
        let tried = "connection refused (tried 127.0.0.2, 127.0.0.3, 127.0.0.4, 127.0.0.5, \
                     127.0.0.6, 127.0.0.7, 127.0.0.8, 127.0.0.9)";
        assert_eq!((class, detail), (ErrorClass::Connect, tried));
        // Addresses that were of no use are asked for again.
        assert_eq!((scripted.asked(), receiver.accepted()), (asked, 0));
    }
}

#[tokio::test]
async fn lookups_are_shared_and_their_answers_kept() {
    let receiver = Receiver::answering(OK).await;
    let scripted = Scripted::answering(&["127.0.0.1"]);
    let egress = guarded(scripted.clone(), &["127.0.0.1/32"]);
    let request = post(named("shared.test", receiver.address.port()));
    let sends = (0..10).map(|_| egress.send(&request, AMPLE));
    for exchange in futures::future::join_all(sends).await {
        assert_eq!(response(&exchange).status, 200);
    }
    assert_eq!((scripted.asked(), receiver.accepted()), (1, 10));
}

#[tokio::test]
async fn silent_name_server_fails_the_attempt_in_two_seconds() {
    tokio::time::pause(); // no socket is involved, so time may jump
    let scripted = Scripted::silent();
    let egress = guarded(scripted.clone(), &[]);
    let begin = Instant::now();
    let exchange = egress.send(&post(named("silent.test", 8080)), AMPLE).await;
    let detail = "no answer from the name server in time";
    assert_eq!(fault(&exchange), (ErrorClass::Dns, detail));
    assert_eq!(begin.elapsed().as_secs(), 2);
    // The failure stands for a while, and then the name is asked for again.
    let exchange = egress.send(&post(named("silent.test", 8080)), AMPLE).await;
    assert_eq!((fault(&exchange), scripted.asked()), ((ErrorClass::Dns, detail), 1));
    tokio::time::sleep(Duration::from_secs(4)).await;
    egress.send(&post(named("silent.test", 8080)), AMPLE).await;
    assert_eq!(scripted.asked(), 2);
}

#[tokio::test]
async fn lookup_goes_on_when_its_first_caller_gives_up() {
    tokio::time::pause();
    let scripted = Scripted::silent();
    let egress = guarded(scripted.clone(), &[]);
    let request = post(named("silent.test", 8080));
    let impatient = egress.send(&request, Duration::from_secs(1));
    let (first, second) = tokio::join!(impatient, egress.send(&request, AMPLE));
    let detail = "time ran out while the name was resolved";
    assert_eq!(fault(&first), (ErrorClass::Timeout, detail));
    assert_eq!(fault(&second).0, ErrorClass::Dns);
    assert_eq!(scripted.asked(), 1);
}

#[tokio::test]
async fn empty_answer_and_resolver_that_panics_are_dns_faults() {
    struct Panics;
    impl Resolver for Panics {
        fn lookup(&self, _: Arc<str>) -> BoxFuture<'static, Result<Found, LookupError>> {
            Box::pin(async { panic!("a fault of the resolver's") })
        }
    }
    let empty = guarded(Scripted::answering(&[]), &[]);
    let exchange = empty.send(&post(named("empty.test", 8080)), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Dns, "the name has no address"));
    let panics = guarded(Panics, &[]);
    for _ in 0..2 {
        let exchange = panics.send(&post(named("panics.test", 8080)), AMPLE).await;
        assert_eq!(fault(&exchange), (ErrorClass::Dns, "the resolver failed"));
    }
}

#[tokio::test]
async fn names_kept_are_bounded() {
    let limits = EgressLimits { names: 3, ..EgressLimits::default() };
    let scripted = Scripted::answering(&["10.0.0.1"]);
    let resolver = Arc::new(scripted.clone());
    let egress = Egress::new(EgressOptions { limits, resolver, ..options() }).unwrap();
    for number in 0..10 {
        let exchange = egress.send(&post(named(&format!("n{number}.test"), 8080)), AMPLE).await;
        assert_eq!(fault(&exchange), (ErrorClass::Denied, "not a public address (private)"));
    }
    assert_eq!(scripted.asked(), 10);
    let resolver = Arc::new(Scripted::silent());
    let egress = Egress::new(EgressOptions { limits, resolver, ..options() }).unwrap();
    tokio::time::pause();
    let requests: Vec<_> = (0..4).map(|n| post(named(&format!("n{n}.test"), 8080))).collect();
    let sends = requests.iter().map(|request| egress.send(request, AMPLE));
    let exchanges = futures::future::join_all(sends).await;
    let busy = "too many names are being looked up";
    assert_eq!(fault(&exchanges[3]), (ErrorClass::Local, busy)); // of ours, not of the name
}
