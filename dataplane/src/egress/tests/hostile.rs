//! Receivers that answer late, wrongly, without end or not at all.

use super::*;

/// Long enough for a loopback exchange on a busy machine, short enough to be waited out.
const SHORT: Duration = Duration::from_millis(400);

/// A request of somebody who looks at the whole answer.
fn whole(receiver: &Receiver) -> OutboundRequest {
    OutboundRequest { asks: Asks::Whole, ..post(receiver.target("/")) }
}

/// Sends what comes back from `script`, all at once, and then holds the connection.
async fn once(answer: impl Into<Vec<u8>>) -> (Receiver, Exchange) {
    let answer: Arc<[u8]> = answer.into().into();
    let receiver = Receiver::start(move |mut stream, _| {
        let answer = Arc::clone(&answer);
        async move {
            read_request(&mut stream).await;
            if stream.write_all(&answer).await.is_ok() {
                hold(stream).await;
            }
        }
    })
    .await;
    let exchange = egress().send(&post(receiver.target("/")), AMPLE).await;
    (receiver, exchange)
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let receiver = Receiver::start(|stream, _| hold(stream)).await;
    let exchange = egress().send(&post(receiver.target("/")), SHORT).await;
    assert_eq!(fault(&exchange), (ErrorClass::Timeout, "no response in time"));
    assert_eq!(exchange.remote, Some(receiver.address));
    assert!(exchange.timing.total >= 400_000);
}

#[tokio::test]
async fn receiver_that_never_reads_is_a_timeout() {
    let receiver = Receiver::start(|stream, _| async move {
        tokio::time::sleep(AMPLE).await;
        drop(stream);
    })
    .await;
    let mut request = post(receiver.target("/"));
    request.body = vec![b'x'; 64 * 1024 * 1024].into();
    let exchange = egress().send(&request, SHORT).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Timeout);
}

#[tokio::test]
async fn dripping_head_and_body_end_with_the_attempts_time() {
    for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let drip = if head.is_empty() { b"HTTP/1.1 200 OK\r\nx-drip: " } else { &b"x"[..] };
            for byte in drip.iter().chain(std::iter::repeat(&b'x')) {
                tokio::time::sleep(Duration::from_millis(20)).await; // the drip itself
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let egress = egress();
        let exchange = egress.send(&whole(&receiver), SHORT).await;
        let detail = if head.is_empty() {
            "no response in time"
        } else {
            "the response with status 200 did not end in time"
        };
        assert_eq!(fault(&exchange), (ErrorClass::Timeout, detail));
        assert!(exchange.timing.total < 2_000_000, "{:?}", exchange.timing);
        assert_eq!(egress.connections(), (0, 0));
        // Whoever looks at the status alone has it once its line has dripped in.
        let exchange = egress.send(&post(receiver.target("/")), SHORT * 8).await;
        let answer = response(&exchange);
        assert_eq!((answer.status.as_u16(), answer.cut), (200, Some(Cut::Time)));
        assert!(answer.truncated);
        assert_eq!(egress.connections(), (0, 0));
    }
}

#[tokio::test]
async fn long_body_is_cut_and_costs_the_connection() {
    let length = 10 * 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let receiver = Receiver::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            read_request(&mut stream).await;
            let head = format!("HTTP/1.1 500 No\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                count.fetch_add(4096, Ordering::SeqCst);
            }
        }
    })
    .await;
    let egress = egress();
    let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
    let answer = response(&exchange);
    assert_eq!(answer.status, 500);
    assert_eq!((answer.body.len(), answer.truncated), (limits::RESPONSE_KEPT, true));
    assert_eq!(egress.connections(), (0, 0));
    // What fits into socket buffers was written; the rest met a closed connection.
    assert!(written.load(Ordering::SeqCst) < length);
}

#[tokio::test]
async fn body_within_the_limit_is_read_and_the_connection_kept() {
    for (length, keep, kept) in [
        (limits::RESPONSE_READ, limits::RESPONSE_KEPT, limits::RESPONSE_KEPT),
        (limits::RESPONSE_READ, limits::RESPONSE_READ, limits::RESPONSE_READ),
        (10, 0, 0),
    ] {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        answer.extend(std::iter::repeat_n('x', length));
        let receiver = Receiver::answering(answer).await;
        let egress = egress();
        let request = OutboundRequest { keep, ..post(receiver.target("/")) };
        let exchange = egress.send(&request, AMPLE).await;
        let answer = response(&exchange);
        assert_eq!((answer.body.len(), answer.truncated), (kept, kept < length));
        assert_eq!(egress.connections(), (1, 1));
    }
}

#[tokio::test]
async fn head_beyond_its_limits_leaves_the_status() {
    let lines = |count: usize| {
        let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
        head.extend((1..count).map(|n| format!("x-{n}: v\r\n")));
        head + "content-length: 0\r\n\r\n"
    };
    let (_, exchange) = once(lines(100)).await;
    assert_eq!(response(&exchange).headers.len(), 100);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(17_000));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1_000_000));
    let detail = "the response's head has more than 16 KiB or 100 lines";
    for head in [lines(101), long, endless] {
        let (receiver, exchange) = once(head).await;
        let answer = response(&exchange);
        assert_eq!((answer.status.as_u16(), answer.cut), (200, Some(Cut::Head)));
        assert!(answer.truncated && answer.headers.is_empty());
        let exchange = egress().send(&whole(&receiver), AMPLE).await;
        assert_eq!(fault(&exchange), (ErrorClass::Protocol, detail));
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_fault() {
    let detail = "the response is not HTTP/1.1";
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 99 Low\r\n\r\n"] {
        let (_, exchange) = once(answer).await;
        assert_eq!(fault(&exchange), (ErrorClass::Protocol, detail), "{answer:?}");
    }
    let two_lengths = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    let (receiver, exchange) = once(two_lengths).await;
    assert_eq!(response(&exchange).cut, Some(Cut::Head));
    let exchange = egress().send(&whole(&receiver), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Protocol, detail));
}

#[tokio::test]
async fn crooked_header_lines_are_taken_as_clients_commonly_take_them() {
    for line in ["x-a : 1", "x-a: 1\r\n  folded", "no colon here", "x a: 1", ": 1", "x-a: \u{e9}"] {
        let head = format!("HTTP/1.1 200 OK\r\n{line}\r\nretry-after: 7\r\n");
        let (receiver, exchange) = once(format!("{head}content-length: 2\r\n\r\nok")).await;
        let answer = response(&exchange);
        assert_eq!((answer.status.as_u16(), answer.retry_after()), (200, Some("7")), "{line:?}");
        assert_eq!((&answer.body[..], answer.cut), (&b"ok"[..], None), "{line:?}");
        assert_eq!(receiver.accepted(), 1);
    }
}

#[tokio::test]
async fn head_that_breaks_off_behind_the_status_leaves_the_status() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nserver: x").await.unwrap();
    })
    .await;
    let exchange = egress().send(&post(receiver.target("/")), AMPLE).await;
    let answer = response(&exchange);
    assert_eq!((answer.status.as_u16(), answer.cut), (202, Some(Cut::Head)));
    assert_eq!(fault(&egress().send(&whole(&receiver), AMPLE).await).0, ErrorClass::Protocol);
}

#[tokio::test]
async fn body_that_does_not_end_costs_the_connection_and_not_the_status() {
    for head in ["", "content-length: 5\r\n", "transfer-encoding: chunked\r\n"] {
        let chunk = if head.starts_with('t') { "2\r\nok\r\n" } else { "ok" };
        for status in [200, 500] {
            let answer = format!("HTTP/1.1 {status} X\r\n{head}\r\n{chunk}");
            let receiver = Receiver::answering(answer).await;
            let egress = egress();
            let exchange = egress.send(&post(receiver.target("/")), SHORT).await;
            let answer = response(&exchange);
            assert_eq!((answer.status.as_u16(), answer.cut), (status, Some(Cut::Time)), "{head:?}");
            assert_eq!((&answer.body[..], answer.truncated), (&b"ok"[..], true), "{head:?}");
            assert_eq!((receiver.accepted(), egress.connections()), (1, (0, 0)));
            assert_eq!(fault(&egress.send(&whole(&receiver), SHORT).await).0, ErrorClass::Timeout);
        }
    }
}

/// Sends `answer` and then `more` for as long as anybody reads; how much was taken.
async fn endless(answer: &'static str, more: &'static [u8]) -> (Receiver, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let receiver = Receiver::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let more = more.repeat(8192 / more.len());
            while stream.write_all(&more).await.is_ok() {
                count.fetch_add(more.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    (receiver, written)
}

#[tokio::test]
async fn framing_without_end_is_read_up_to_a_bound() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
    for (answer, more) in [
        (chunked, &b"0"[..]),
        (chunked, b"1;x=y\r\nz\r\n"),
        (chunked, b"00000001\r\nz\r\n"),
        (trailers, b"x: y\r\n"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"more"),
    ] {
        let (receiver, written) = endless(answer, more).await;
        let egress = egress();
        let begin = Instant::now();
        let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
        assert_eq!(response(&exchange).status, 200, "{more:?}");
        assert!(begin.elapsed() < AMPLE / 2, "{more:?}: read until the time-out");
        assert_eq!(egress.connections().0, egress.connections().1, "{more:?}");
        drop(egress);
        // What fits into socket buffers was written besides; none of it without end.
        assert!(written.load(Ordering::SeqCst) < 64 * 1024 * 1024, "{more:?}");
    }
}

#[tokio::test]
async fn interim_responses_are_skipped_up_to_a_number() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let (_, exchange) = once(interim.repeat(8) + "HTTP/1.1 204 Done\r\n\r\n").await;
    assert_eq!(response(&exchange).status, 204);
    let detail = "the receiver sends without end ahead of its answer";
    for answer in [interim.repeat(9) + "HTTP/1.1 204 Done\r\n\r\n", interim.repeat(100_000)] {
        let (_, exchange) = once(answer).await;
        assert_eq!(fault(&exchange), (ErrorClass::Protocol, detail));
    }
}

#[tokio::test]
async fn redirect_is_an_answer_and_not_followed() {
    let elsewhere = Receiver::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/", elsewhere.address);
        let head =
            format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let (_, exchange) = once(head).await;
        assert_eq!(response(&exchange).status.as_u16(), status);
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test]
async fn status_stands_although_the_body_breaks_off() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        stream.write_all(answer).await.unwrap();
        stream.set_zero_linger().unwrap(); // a reset, not an orderly close
    })
    .await;
    let egress = egress();
    let exchange = egress.send(&post(receiver.target("/")), AMPLE).await;
    let answer = response(&exchange);
    assert_eq!((answer.status.as_u16(), answer.truncated), (200, true));
    assert_eq!(egress.connections(), (0, 0));
}

#[tokio::test]
async fn upgrade_is_an_answer_and_ends_the_connection() {
    let head = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let (_, exchange) = once(head).await;
    assert_eq!(response(&exchange).status, 101);
    assert!(!exchange.reused);
}

#[tokio::test]
async fn early_answer_to_a_large_request_is_an_answer() {
    let receiver = Receiver::start(|mut stream, _| async move {
        let mut some = [0; 1024];
        assert!(stream.read(&mut some).await.unwrap() > 0);
        let answer = b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        hold(stream).await;
    })
    .await;
    let egress = egress();
    let mut request = post(receiver.target("/"));
    request.body = vec![b'x'; 32 * 1024 * 1024].into();
    let exchange = egress.send(&request, AMPLE).await;
    assert_eq!(response(&exchange).status, 413);
    assert_eq!(egress.connections(), (0, 0)); // its request is half written
}

#[tokio::test]
async fn refused_connection_is_a_connect_fault() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = target(&format!("http://{address}/?k=s3cret"));
    let exchange = egress().send(&post(refused), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Connect, "connection refused"));
    assert_eq!(exchange.remote, Some(address));
}

#[tokio::test]
async fn connection_that_is_not_answered_is_a_connect_fault() {
    // A full queue of connections that nobody accepts: the system drops further ones silently.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    let limits = EgressLimits { connect: SHORT, ..EgressLimits::default() };
    let egress = Egress::new(EgressOptions { limits, ..options() }).unwrap();
    let request = post(target(&format!("http://{address}/")));
    let exchange = egress.send(&request, AMPLE).await;
    let detail = "the connection was not answered in time";
    assert_eq!(fault(&exchange), (ErrorClass::Connect, detail));
    assert!((400_000..2_000_000).contains(&exchange.timing.connect), "{:?}", exchange.timing);
    let exchange = egress.send(&request, SHORT / 2).await;
    assert_eq!(fault(&exchange), (ErrorClass::Timeout, "time ran out while connecting"));
}
