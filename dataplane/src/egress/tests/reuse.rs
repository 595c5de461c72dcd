//! Connections: kept, re-used, bounded, given up.

use std::task::{Context, Waker};

use super::*;

#[tokio::test]
async fn request_is_sent_as_given_and_the_answer_reported() {
    let (tell, mut reported) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::start(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            let request = read_request(&mut stream).await.unwrap();
            tell.send(request).await.unwrap();
            let answer =
                b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\ncontent-length: 4\r\n\r\nwait";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let mut request = post(receiver.target("/hook?b=2&a=%31"));
    request.headers.push((http::header::HOST, HeaderValue::from_static("elsewhere")));
    request.headers.push((http::header::CONTENT_LENGTH, HeaderValue::from_static("1")));
    let exchange = egress().send(&request, AMPLE).await;

    let sent = reported.recv().await.unwrap();
    let mut lines: Vec<&str> = sent.lines().collect();
    assert_eq!(lines.remove(0), "POST /hook?b=2&a=%31 HTTP/1.1");
    let host = format!("host: {}", receiver.address);
    for line in [&host, "webhook-id: evt_1", "accept-encoding: identity", "content-length: 7"] {
        assert!(lines.contains(&line), "no {line:?} in {sent}");
    }
    assert!(!sent.contains("elsewhere") && !sent.contains("content-length: 1\r"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n{\"a\":1}"), "{sent}");

    assert_eq!(exchange.remote, Some(receiver.address));
    let answer = response(&exchange);
    assert_eq!((answer.status.as_u16(), answer.retry_after()), (429, Some("7")));
    assert_eq!((&answer.body[..], answer.truncated), (&b"wait"[..], false));
    assert!(exchange.timing.total >= exchange.timing.first_byte);
    let kept = exchange.result.unwrap().into_head(limits::RESPONSE_KEPT);
    assert_eq!(kept.headers[0], ("retry-after".to_owned(), "7".to_owned()));
}

#[tokio::test]
async fn names_go_out_with_the_capitals_that_the_request_has_and_no_other_does() {
    let (tell, mut reported) = tokio::sync::mpsc::channel(1);
    let receiver = Receiver::start(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                tell.send(request).await.unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let egress = egress();
    // Larger than what one write takes.
    for (body, spelled) in [(10, true), (4 << 20, true), (10, false), (0, true)] {
        let mut request = post(receiver.target("/"));
        request.headers.push((HeaderName::from_static("x-sign"), HeaderValue::from_static("a")));
        request.body = vec![b'x'; body].into();
        if spelled {
            request.spelled = vec!["Webhook-ID".into(), "X-Sign".into(), "X-Absent".into()];
        }
        request.uri = Some(http::Uri::from_static("/other?webhook-id:=1"));
        let exchange = tokio::spawn({
            let egress = egress.clone();
            async move { egress.send(&request, AMPLE).await }
        });
        let sent = reported.recv().await.unwrap();
        assert!(response(&exchange.await.unwrap()).status.is_success());
        let (head, rest) = sent.split_once("\r\n\r\n").unwrap();
        assert_eq!(rest.len(), body);
        let mut lines: Vec<&str> = head.lines().collect();
        assert_eq!(lines.remove(0), "POST /other?webhook-id:=1 HTTP/1.1");
        let wanted = match spelled {
            true => ["Webhook-ID: evt_1", "X-Sign: a"],
            false => ["webhook-id: evt_1", "x-sign: a"],
        };
        assert!(wanted.iter().all(|line| lines.contains(line)), "{head}");
        let length = format!("content-length: {body}");
        assert!(body == 0 || lines.contains(&&*length), "{head}");
    }
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn connection_is_kept_for_the_next_request() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    for answer in [std::str::from_utf8(OK).unwrap(), chunked, empty] {
        let receiver = Receiver::answering(answer).await;
        let egress = egress();
        for number in 0..5 {
            let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
            assert!(response(&exchange).status.is_success());
            assert_eq!(exchange.reused, number > 0, "request {number} with {answer:?}");
            assert_eq!(exchange.timing.connect == 0, number > 0);
        }
        assert_eq!(receiver.accepted(), 1);
        assert_eq!(egress.connections(), (1, 1));
    }
}

#[tokio::test]
async fn tenants_do_not_share_connections() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress();
    for tenant in ["acme", "globex"] {
        let tenant = TenantId::parse(tenant).unwrap();
        let url = EndpointUrl::parse_stored(&format!("http://{}/", receiver.address)).unwrap();
        let target = Target::new(tenant, &url);
        assert!(!egress.send(&post(target), AMPLE).await.reused);
    }
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let receiver = Receiver::answering(answer).await;
    let egress = egress();
    for _ in 0..3 {
        assert!(
            response(&egress.send(&post(receiver.target("/")), AMPLE).await).status.is_success()
        );
        assert_eq!(egress.connections(), (0, 0));
    }
    assert_eq!(receiver.accepted(), 3);
}

/// The first connection answers once, takes the second request and closes without a word: the
/// close crossed the request.
async fn crossing(second_answer: &'static [u8]) -> (Receiver, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let receiver = Receiver::start(move |mut stream, number| {
        let seen = Arc::clone(&seen);
        async move {
            while read_request(&mut stream).await.is_some() {
                if seen.fetch_add(1, Ordering::SeqCst) == 1 && number == 0 {
                    stream.write_all(second_answer).await.unwrap();
                    return;
                }
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (receiver, requests)
}

#[tokio::test]
async fn request_that_crosses_a_close_is_sent_once_more() {
    let (receiver, requests) = crossing(b"").await;
    let egress = egress();
    let first = egress.send(&post(receiver.target("/")), AMPLE).await;
    assert!(first.result.is_ok());
    let second = egress.send(&post(receiver.target("/")), AMPLE).await;
    assert_eq!(response(&second).status, 200);
    assert!(!second.reused && second.resent && !first.resent);
    assert_eq!((receiver.accepted(), requests.load(Ordering::SeqCst)), (2, 3));
}

#[tokio::test]
async fn request_is_not_repeated_once_a_byte_was_answered() {
    let (receiver, requests) = crossing(b"H").await;
    let egress = egress();
    assert!(egress.send(&post(receiver.target("/")), AMPLE).await.result.is_ok());
    let second = egress.send(&post(receiver.target("/")), AMPLE).await;
    assert_eq!(fault(&second).0, ErrorClass::Protocol);
    assert!(second.reused);
    assert_eq!((receiver.accepted(), requests.load(Ordering::SeqCst)), (1, 2));
}

fn post_once(target: Target) -> OutboundRequest {
    OutboundRequest { resend: Resend::IfUnsent, ..post(target) }
}

#[tokio::test]
async fn request_that_must_not_arrive_twice_is_not_repeated_once_it_left() {
    let (receiver, requests) = crossing(b"").await;
    let egress = egress();
    assert!(egress.send(&post_once(receiver.target("/")), AMPLE).await.result.is_ok());
    let second = egress.send(&post_once(receiver.target("/")), AMPLE).await;
    assert_eq!(fault(&second).0, ErrorClass::Protocol);
    assert!(second.reused);
    assert_eq!((receiver.accepted(), requests.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn request_that_must_not_arrive_twice_leaves_connections_alone_that_were_idle_for_long() {
    let receiver = Receiver::answering(OK).await;
    let limits = EgressLimits { idle_once: Duration::ZERO, ..Default::default() };
    let egress = Egress::new(EgressOptions { limits, ..options() }).unwrap();
    for _ in 0..2 {
        assert!(!egress.send(&post_once(receiver.target("/")), AMPLE).await.reused);
    }
    assert_eq!(receiver.accepted(), 2);
    assert_eq!(egress.connections(), (2, 2), "others may still use them");
    assert!(egress.send(&post(receiver.target("/")), AMPLE).await.reused);
}

#[tokio::test]
async fn fresh_connection_is_not_repeated() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
    })
    .await;
    let exchange = egress().send(&post(receiver.target("/")), AMPLE).await;
    let closed = "the connection was closed before a response";
    assert_eq!(fault(&exchange), (ErrorClass::Protocol, closed));
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn connection_closed_while_idle_is_seen_before_it_is_used() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let egress = egress();
    for _ in 0..20 {
        let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
        assert_eq!(response(&exchange).status, 200);
    }
    assert_eq!(receiver.accepted(), 20);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_the_connection() {
    let receiver = Receiver::start(|mut stream, number| async move {
        while read_request(&mut stream).await.is_some() {
            let answer = if number == 0 { [OK, OK].concat() } else { OK.to_vec() };
            stream.write_all(&answer).await.unwrap();
        }
    })
    .await;
    let egress = egress();
    assert!(egress.send(&post(receiver.target("/")), AMPLE).await.result.is_ok());
    assert!(!egress.send(&post(receiver.target("/")), AMPLE).await.reused);
    assert_eq!(receiver.accepted(), 2);
}

/// Answers only when `together` requests wait, so that as many connections are open.
async fn in_step(together: usize) -> Receiver {
    let barrier = Arc::new(tokio::sync::Barrier::new(together));
    Receiver::start(move |mut stream, _| {
        let barrier = Arc::clone(&barrier);
        async move {
            while read_request(&mut stream).await.is_some() {
                barrier.wait().await;
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await
}

async fn send_together(egress: &Egress, receivers: &[&Receiver], each: usize) {
    let requests: Vec<_> = receivers
        .iter()
        .flat_map(|receiver| (0..each).map(|_| post(receiver.target("/"))))
        .collect();
    let sends = requests.iter().map(|request| egress.send(request, AMPLE));
    for exchange in futures::future::join_all(sends).await {
        assert_eq!(response(&exchange).status, 200);
    }
}

#[tokio::test]
async fn idle_connections_are_bounded_per_receiver_and_in_total() {
    let (one, two) = (in_step(10).await, in_step(10).await);
    let limits = EgressLimits {
        idle_per_receiver: 3,
        idle_total: 5,
        burst_per_receiver: 7,
        burst_total: 12,
        ..EgressLimits::default()
    };
    let egress = Egress::new(EgressOptions { limits, ..options() }).unwrap();
    send_together(&egress, &[&one], 10).await;
    assert_eq!(egress.connections(), (7, 7));
    send_together(&egress, &[&two], 10).await;
    assert_eq!(egress.connections(), (12, 12));
    tokio::time::pause(); // the sweep's 5 s, and nothing else is waited for
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(egress.connections(), (5, 5), "fewer are kept for long");
}

/// A task that drives many requests uses up tokio's budget at any step of any of them; no wake-up
/// may be lost to that, nor an idle connection be taken for a dead one.
#[tokio::test]
async fn budget_may_end_at_any_step() {
    const BUDGET: usize = 128;
    let receiver = Receiver::answering(OK).await;
    let egress = egress();
    let request = post(receiver.target("/"));
    for left in 0..30 {
        let mut send = Box::pin(egress.send(&request, AMPLE));
        let mut scarce = false;
        let send = std::future::poll_fn(|cx| {
            scarce = !scarce; // every other poll has its whole budget, or nothing would move
            for _ in left..if scarce { BUDGET } else { left } {
                let burn = std::pin::pin!(tokio::task::coop::consume_budget());
                let _ = burn.poll(&mut Context::from_waker(Waker::noop()));
            }
            send.as_mut().poll(cx)
        });
        tokio::task::yield_now().await; // the next poll begins with a whole budget
        assert_eq!(response(&send.await).status, 200, "{left} left");
        assert_eq!(receiver.accepted(), 1, "{left} left");
    }
}

#[tokio::test]
async fn open_connections_are_bounded_and_the_excess_is_the_nodes_fault() {
    let receiver = Receiver::start(|stream, _| hold(stream)).await;
    let other = Receiver::answering(OK).await;
    let limits = EgressLimits { open: 3, ..EgressLimits::default() };
    let egress = Egress::new(EgressOptions { limits, ..options() }).unwrap();
    // One idle connection makes room for the third that is wanted.
    assert!(egress.send(&post(other.target("/")), AMPLE).await.result.is_ok());
    let wait = Duration::from_millis(500);
    let request = post(receiver.target("/"));
    let sends = (0..4).map(|_| egress.send(&request, wait));
    let mut classes: Vec<_> =
        futures::future::join_all(sends).await.iter().map(|exchange| fault(exchange).0).collect();
    classes.sort_by_key(|class| class.word());
    use ErrorClass::{Local, Timeout};
    assert_eq!(classes, [Local, Timeout, Timeout, Timeout]);
    assert_eq!(egress.connections(), (0, 0));
}

#[tokio::test]
async fn idle_connections_are_swept_in_time() {
    let receiver = Receiver::answering(OK).await;
    let limits = EgressLimits { idle_timeout: Duration::from_millis(50), ..Default::default() };
    let egress = Egress::new(EgressOptions { limits, ..options() }).unwrap();
    assert!(egress.send(&post(receiver.target("/")), AMPLE).await.result.is_ok());
    assert_eq!(egress.connections(), (1, 1));
    tokio::time::pause(); // the sweep's 5 s, and nothing else is waited for
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(egress.connections(), (0, 0));
}

#[tokio::test]
async fn policy_change_closes_connections() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress();
    assert!(egress.send(&post(receiver.target("/")), AMPLE).await.result.is_ok());
    egress.set_policy(opening(&[]));
    assert_eq!(egress.connections(), (0, 0));
    let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Denied, "not a public address (loopback)"));
    egress.set_policy(EgressPolicy { allow_http: false, ..options().policy });
    let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Denied, "http without TLS is not allowed"));
}
