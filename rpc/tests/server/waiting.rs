//! A process that waits, and then serves at the same port.

use super::*;

#[tokio::test]
async fn who_waits_answers_probes_and_refuses_the_rest_and_then_leaves_the_port() {
    let mut listen = Listen::open("127.0.0.1:0".parse().unwrap());
    // Callers need a credential, and nobody can say yet who has one.
    listen.keys = true;
    let listener = Listener::bind(listen, Arc::new(SystemClock)).await.unwrap();
    let server = || Server::new(&DESCRIPTORS, &[], Revision::none(), Limits::default()).unwrap();
    let waiting = server().with_table(table()).waiting("the keys are not open yet");
    let waiting = waiting.on(listener.again().await.unwrap()).await.unwrap();
    let (addr, health) = (waiting.local_addr(), waiting.health());
    assert_eq!(addr, listener.local_addr());
    health.set_condition("keys", Some("the KMS is sealed".into())).await;
    let end = CancellationToken::new();
    let served = tokio::spawn(waiting.serve(end.clone()));

    for path in [ECHO, STREAM, ELSEWHERE] {
        let refused = call(addr, path, tonic::Request::new(Ask::default())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{path}: {refused}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "NOT_READY");
        assert_eq!(refused.message(), "the keys are not open yet");
        assert!(refused.get_details_retry_info().is_some(), "{path}");
    }
    let channel = connect(addr).await.unwrap();
    let mut probe = HealthClient::new(channel);
    let mut check = async |service: &str| {
        let ask = Ask { service: service.into() };
        timeout(SOON, probe.check(ask)).await.unwrap().unwrap().into_inner().status()
    };
    assert_eq!(check("readiness").await, ServingStatus::NotServing);
    assert_eq!(check("liveness").await, ServingStatus::Serving);

    end.cancel();
    let drained = timeout(SOON, served).await.expect("drains").unwrap().unwrap();
    assert_eq!(drained, Drained::Complete);
    // Whoever comes before the next listens is not refused: the port stays open.
    let early = tokio::spawn(connect(addr));
    let ready = server().with_table(table()).with(Test).unwrap().on(listener).await.unwrap();
    ready.health().set_all(true).await;
    let end = CancellationToken::new();
    let served = tokio::spawn(ready.serve(end.clone()));
    let channel = timeout(SOON, early).await.unwrap().unwrap().unwrap();
    let ask = Ask { service: "readiness".into() };
    let said = timeout(SOON, HealthClient::new(channel).check(ask)).await.unwrap().unwrap();
    assert_eq!(said.into_inner().status(), ServingStatus::Serving);
    let refused = call(addr, ECHO, tonic::Request::new(Ask::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    end.cancel();
    timeout(SOON, served).await.expect("drains").unwrap().unwrap();
}
