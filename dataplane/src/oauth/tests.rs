//! Tokens against a token endpoint and a receiver on loopback sockets, each following a script.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use pregon_core::id::TenantId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::testing::receiver::egress;

const AMPLE: Duration = Duration::from_secs(20);

/// A server that answers the nth request, from 0, by a script, and takes them down.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    /// As many answers as it has permits.
    gate: Arc<Semaphore>,
}

impl Server {
    async fn start(script: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let opened = Arc::clone(&gate);
        let (log, script, number) = (Arc::clone(&seen), Arc::new(script), AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = Vec::new();
                loop {
                    let text = String::from_utf8_lossy(&read).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length =
                            head.lines().find_map(|it| it.strip_prefix("content-length: "));
                        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                            let number = number.fetch_add(1, Ordering::SeqCst);
                            log.lock().unwrap().push(text.clone());
                            opened.acquire().await.unwrap().forget();
                            let (status, body) = script(number, &text);
                            let answer = format!(
                                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\
                                 connection: close\r\n\r\n{body}",
                                body.len()
                            );
                            let _ = stream.write_all(answer.as_bytes()).await;
                            break;
                        }
                    }
                    if stream.read_buf(&mut read).await.is_ok_and(|count| count == 0) {
                        break;
                    }
                }
            }
        });
        Self { url, seen, gate }
    }

    /// A token endpoint that grants t0, t1 and so on, for so many seconds each.
    async fn granting(seconds: u32) -> Self {
        Self::start(move |number, _| {
            let token = format!(r#""access_token":"tok{number}","token_type":"bEaReR""#);
            (200, format!(r#"{{{token},"expires_in":{seconds}}}"#))
        })
        .await
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The tokens that requests came with.
    fn tokens(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let token = |it: &String| {
            let line = it.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
            line.unwrap_or("none").to_owned()
        };
        seen.iter().map(token).collect()
    }
}

/// A receiver that takes these tokens only.
async fn taking(tokens: &'static [&'static str]) -> Server {
    Server::start(|_, request| {
        let taken = tokens.iter().any(|it| request.contains(&format!("Bearer {it}\r\n")));
        (if taken { 204 } else { 401 }, String::new())
    })
    .await
}

fn target(url: &str) -> (EndpointUrl, Target) {
    let url = EndpointUrl::parse_stored(url).unwrap();
    let target = Target::new(TenantId::parse("acme").unwrap(), &url);
    (url, target)
}

fn client_of(server: &Server, style: Oauth2Style) -> Client {
    let (url, target) = target(&server.url);
    let grant = Grant {
        of: "subscriptions/shop",
        client_id: "shop:1",
        client_secret: &SecretBytes::new(b"hush hush+%".to_vec()),
        scopes: &["send".to_owned(), "orders:write".to_owned()],
        audience: "https://api.example/",
        style,
    };
    Client::new(url, target, &grant).unwrap()
}

fn request(server: &Server) -> OutboundRequest {
    OutboundRequest {
        method: Method::POST,
        target: target(&server.url).1,
        uri: None,
        headers: Vec::new(),
        spelled: Vec::new(),
        body: Bytes::from_static(b"{}"),
        keep: limits::RESPONSE_KEPT,
        asks: Asks::Status,
        resend: Resend::IfUnheard,
    }
}

fn status(exchange: &Exchange) -> u16 {
    exchange.result.as_ref().expect("an answer").status.as_u16()
}

/// Lets time pass, without anybody waiting for it.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn one_fetch_serves_all_that_wait_and_those_that_come() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok0"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let all = (0..20).map(|_| send(&egress, Some(&client), &request, AMPLE));
    for exchange in join_all(all).await {
        assert_eq!((status(&exchange), exchange.resent), (204, false));
        assert_eq!(exchange.lent, [SecretBytes::new(b"tok0".to_vec())]);
    }
    assert_eq!((tokens.count(), receiver.count()), (1, 20));
    assert_eq!(status(&send(&egress, Some(&client.clone()), &request, AMPLE).await), 204);
    assert_eq!(tokens.count(), 1);
    // Without a client it is sent as it is.
    assert_eq!(status(&send(&egress, None, &request, AMPLE).await), 401);
    assert_eq!(receiver.tokens().last().unwrap(), "none");
}

#[tokio::test]
async fn the_client_identifies_itself_as_rfc_6749_has_it() {
    let receiver = taking(&["tok0"]).await;
    let asked = "grant_type=client_credentials&scope=send+orders%3Awrite\
                 &audience=https%3A%2F%2Fapi.example%2F";
    for style in [Oauth2Style::Basic, Oauth2Style::Post] {
        let tokens = Server::granting(3600).await;
        let client = client_of(&tokens, style);
        send(&egress(), Some(&client), &request(&receiver), AMPLE).await;
        let seen = tokens.seen.lock().unwrap()[0].clone();
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
        let pair = BASE64.encode(b"shop%3A1:hush+hush%2B%25");
        let (basic, fields) = match style {
            Oauth2Style::Basic => (true, asked.to_owned()),
            Oauth2Style::Post => {
                (false, format!("{asked}&client_id=shop%3A1&client_secret=hush+hush%2B%25"))
            }
        };
        assert_eq!(head.contains(&format!("authorization: Basic {pair}")), basic, "{head}");
        assert_eq!(body, fields);
        for text in ["hush", "tok0", &pair] {
            assert!(!format!("{client:?}").contains(text));
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once_within_the_attempt() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok1", "tok2"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let ask = async || send(&egress, Some(&client), &request, AMPLE).await;
    // The first one is refused while it is fresh: another would not come within the second.
    assert_eq!((status(&ask().await), tokens.count()), (401, 1));
    later(1).await;
    let exchange = ask().await;
    assert_eq!((status(&exchange), exchange.resent, tokens.count()), (204, true, 2));
    assert_eq!(exchange.lent.len(), 2);
    assert_eq!(receiver.tokens(), ["tok0", "tok0", "tok1"]);
    assert_eq!((status(&ask().await), tokens.count()), (204, 2));
}

#[tokio::test]
async fn a_receiver_that_takes_no_token_does_not_have_one_fetched_for_each_request() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&[]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let mut fetched = Vec::new();
    for second in 0..20 {
        let all = (0..3).map(|_| send(&egress, Some(&client), &request, AMPLE));
        for exchange in join_all(all).await {
            assert_eq!(status(&exchange), 401);
        }
        if fetched.len() < tokens.count() {
            assert_eq!(fetched.len() + 1, tokens.count());
            fetched.push(second);
        }
        later(1).await;
    }
    assert_eq!(fetched, [0, 1, 2, 4, 8, 16]);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_beside_the_requests() {
    let (tokens, receiver) = (Server::granting(100).await, taking(&["tok0", "tok1", "tok2"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let ask = async || send(&egress, Some(&client), &request, AMPLE).await;
    ask().await;
    later(89).await;
    ask().await;
    assert_eq!((tokens.count(), receiver.tokens()), (1, vec!["tok0".to_owned(); 2]));
    later(2).await;
    ask().await; // with the old one, and has it renewed
    drop(client.0.turn.lock().await); // whoever renews it has done so
    ask().await;
    assert_eq!(
        (tokens.count(), receiver.tokens()[2..].to_vec()),
        (2, vec!["tok0".to_owned(), "tok1".to_owned()])
    );
    later(101).await;
    ask().await;
    assert_eq!((tokens.count(), receiver.tokens().last().unwrap().as_str()), (3, "tok2"));
}

#[tokio::test]
async fn a_dead_token_endpoint_is_left_alone_and_its_fault_is_not_the_receivers() {
    let tokens = Server::start(|number, _| match number {
        0..4 => (503, "hush".to_owned()),
        _ => (200, r#"{"access_token":"tok","token_type":"Bearer"}"#.to_owned()),
    })
    .await;
    let receiver = taking(&["tok"]).await;
    let (client, egress) = (client_of(&tokens, Oauth2Style::Post), egress());
    let request = request(&receiver);
    let mut asked = Vec::new();
    for second in 0..16 {
        let all = (0..5).map(|_| send(&egress, Some(&client), &request, AMPLE));
        let all = join_all(all).await;
        if asked.len() < tokens.count() {
            asked.push(second);
        }
        for exchange in all.iter().filter(|_| tokens.count() < 5) {
            let why = exchange.result.as_ref().unwrap_err();
            let (class, detail) = (why.class, why.detail.as_ref());
            assert_eq!((class, detail), (ErrorClass::Token, "token endpoint: answered 503"));
            // The lane waits until it may be asked again.
            let again = why.again.unwrap();
            assert!(!again.is_zero() && again <= Duration::from_secs(8), "{again:?}");
        }
        later(1).await;
    }
    assert_eq!(asked, [0, 1, 3, 7, 15]);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_silent_token_endpoint_takes_the_attempts_time_and_no_more() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = Server { url, seen: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let receiver = taking(&[]).await;
    let (client, egress) = (client_of(&silent, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let within = Duration::from_millis(200);
    let all = (0..3).map(|_| send(&egress, Some(&client), &request, within));
    for exchange in join_all(all).await {
        let why = exchange.result.unwrap_err();
        assert_eq!(why.class, ErrorClass::Token, "{}", why.detail);
        assert!(exchange.timing.total < 2_000_000 && exchange.lent.is_empty());
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_fetch_outlives_those_who_wait_for_it() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok0"]).await);
    tokens.gate.forget_permits(Semaphore::MAX_PERMITS);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    // One has little time, and one hangs up.
    let hasty = send(&egress, Some(&client), &request, Duration::from_millis(60)).await;
    let why = hasty.result.unwrap_err();
    let told = (why.class, why.detail.as_ref(), why.again);
    assert_eq!(told, (ErrorClass::Token, "token endpoint: no token in time", None));
    let patient = send(&egress, Some(&client), &request, AMPLE);
    assert!(tokio::time::timeout(Duration::from_millis(60), patient).await.is_err());
    let patient = send(&egress, Some(&client), &request, AMPLE);
    tokens.gate.add_permits(1);
    assert_eq!((status(&patient.await), tokens.count(), receiver.count()), (204, 1, 1));
}

#[tokio::test]
async fn a_refused_token_is_kept_until_there_is_another() {
    let tokens = Server::start(|number, _| match number {
        0 => (200, r#"{"access_token":"tok","token_type":"Bearer"}"#.to_owned()),
        _ => (503, String::new()),
    })
    .await;
    let receiver =
        Server::start(|number, _| (if number == 1 { 401 } else { 204 }, String::new())).await;
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    let ask = async || status(&send(&egress, Some(&client), &request, AMPLE).await);
    assert_eq!(ask().await, 204);
    later(1).await;
    assert_eq!((ask().await, tokens.count()), (401, 2));
    assert_eq!((ask().await, tokens.count()), (204, 2));
    assert_eq!(receiver.tokens(), ["tok"; 3]);
}

#[tokio::test]
async fn a_401_is_the_answer_where_no_other_token_comes_in_time() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok1"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    send(&egress, Some(&client), &request, AMPLE).await;
    later(1).await;
    tokens.gate.forget_permits(Semaphore::MAX_PERMITS);
    let within = Duration::from_millis(500);
    let exchange = send(&egress, Some(&client), &request, within).await;
    assert_eq!((status(&exchange), exchange.resent, tokens.count()), (401, false, 2));
    tokens.gate.add_permits(1);
    drop(client.0.turn.lock().await); // it is fetched all the same
    assert_eq!(status(&send(&egress, Some(&client), &request, AMPLE).await), 204);
    assert_eq!((tokens.count(), receiver.tokens().last().unwrap().as_str()), (2, "tok1"));
}

#[tokio::test]
async fn what_must_not_arrive_twice_is_not_sent_again_with_another_token() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok1"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let once = OutboundRequest { resend: Resend::IfUnsent, ..request(&receiver) };
    let ask = async || send(&egress, Some(&client), &once, AMPLE).await;
    assert_eq!(status(&ask().await), 401);
    later(1).await;
    let exchange = ask().await;
    assert_eq!((status(&exchange), exchange.resent, receiver.count()), (401, false, 2));
    drop(client.0.turn.lock().await); // the new token has come
    assert_eq!((status(&ask().await), tokens.count(), receiver.count()), (204, 2, 3));
}

#[tokio::test]
async fn what_the_policy_denies_is_not_asked_for_a_token() {
    let tokens = Server::granting(3600).await;
    let receiver = taking(&[]).await;
    let (url, target) = target("http://169.254.169.254/");
    let secret = SecretBytes::new(b"hush".to_vec());
    let (client_id, client_secret, style) = ("a", &secret, Oauth2Style::Basic);
    let grant = Grant { of: "", client_id, client_secret, scopes: &[], audience: "", style };
    let client = Client::new(url, target, &grant).unwrap();
    let exchange = send(&egress(), Some(&client), &request(&receiver), AMPLE).await;
    let why = exchange.result.unwrap_err();
    let told = (why.class, why.detail.as_ref());
    let why = "token endpoint: not a public address (link-local)";
    assert_eq!(told, (ErrorClass::Token, why));
    assert_eq!((tokens.count(), receiver.count()), (0, 0));
}

#[tokio::test]
async fn tokens_are_shared_until_what_they_are_asked_with_changes() {
    let (tokens, receiver) = (Server::granting(3600).await, taking(&["tok0", "tok1"]).await);
    let (client, egress) = (client_of(&tokens, Oauth2Style::Basic), egress());
    let request = request(&receiver);
    send(&egress, Some(&client), &request, AMPLE).await;
    let mut same = client_of(&tokens, Oauth2Style::Basic);
    same.go_on_from(&client);
    send(&egress, Some(&same), &request, AMPLE).await;
    assert_eq!(tokens.count(), 1);
    let mut other = client_of(&tokens, Oauth2Style::Post);
    other.go_on_from(&client);
    send(&egress, Some(&other), &request, AMPLE).await;
    assert_eq!(
        (tokens.count(), receiver.tokens()),
        (2, ["tok0", "tok0", "tok1"].map(str::to_owned).to_vec())
    );
}

#[test]
fn answers_are_read_without_being_repeated() {
    let read = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let read = answer::read(status, body.as_bytes(), false);
        read.map(|granted| (granted.token.expose().to_vec(), granted.life.as_secs()))
    };
    let granted = |rest: &str| {
        read(200, &format!(r#"{{"access_token":"hush","token_type":"BEARER"{rest}}}"#))
    };
    for (rest, life) in [
        ("", 300),
        (r#","expires_in":null"#, 300),
        (r#","expires_in":60,"scope":"x""#, 60),
        (r#","expires_in":"60""#, 60),
        (r#","expires_in":59.9"#, 59),
        (r#","expires_in":0"#, 1),
        (r#","expires_in":99999999999"#, 86400),
        (r#","expires_in":1e30"#, 86400),
        (r#","expires_in":"99999999999999999999999""#, 86400),
        (r#","expires_in":-1"#, 300),
        (r#","expires_in":"soon""#, 300),
        (r#","expires_in":"NaN""#, 300),
        (r#","expires_in":[60]"#, 300),
    ] {
        assert_eq!(granted(rest), Ok((b"hush".to_vec(), life)), "{rest}");
    }
    let long = format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, "x".repeat(8193));
    for (status, body, why) in [
        (200, "hush", "the answer is no JSON object"),
        (200, r#"["hush"]"#, "the answer is no JSON object"),
        (200, r#"{"access_token":"hush"}"#, "the answer has no token_type"),
        (
            200,
            r#"{"access_token":"hush","token_type":"mac"}"#,
            "the answer's token_type is not bearer",
        ),
        (200, r#"{"token_type":"bearer"}"#, "the answer has no access_token"),
        (200, r#"{"access_token":"","token_type":"bearer"}"#, "the answer has no access_token"),
        (
            200,
            r#"{"access_token":"hush\nx: y","token_type":"bearer"}"#,
            "the token is not visible ASCII",
        ),
        (200, long.as_str(), "the token is longer than 8192 bytes"),
        (
            400,
            r#"{"error":"invalid_scope","error_description":"hush"}"#,
            "answered 400 invalid_scope",
        ),
        (401, r#"{"error":"hush"}"#, "answered 401"),
        (302, "hush", "answered 302"),
        (201, r#"{"access_token":"hush","token_type":"bearer"}"#, "answered 201"),
    ] {
        assert_eq!(read(status, body), Err(why.to_owned()));
    }
    let cut = answer::read(StatusCode::OK, b"{}", true).unwrap_err();
    assert_eq!(cut, "the answer is longer than 64 KiB or breaks off");
}
