//! Peers that ask much and take nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::JoinSet;

use super::*;

const MIB: usize = 1 << 20;

/// How often the handler of the test at hand has made an answer, by what it was asked.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Answers with a page of 4 MiB; what is asked as `counted` is counted.
pub(super) async fn list(request: Request<Body>) -> Response<Body> {
    let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
    let answer = |ask: tonic::Request<Ask>| async move {
        if ask.get_ref().service == "counted" {
            MADE.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<_, Status>(tonic::Response::new(Ask { service: "x".repeat(4 * MIB - 100) }))
    };
    grpc.unary(service_fn(answer), request).await
}

type Client = tonic::client::Grpc<legacy::Client<HttpConnector, Body>>;

/// A client with one connection, over which no data comes.
async fn greedy(addr: SocketAddr) -> Client {
    let client = legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(0)
        .build_http::<Body>();
    let mut grpc =
        tonic::client::Grpc::with_origin(client, format!("http://{addr}").parse().unwrap());
    // A refusal is all headers, so it comes.
    let refused = ask(&mut grpc, ELSEWHERE, "", "10S").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    grpc
}

async fn ask(grpc: &mut Client, path: &'static str, what: &str, time: &str) -> Result<Ask, Status> {
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(Ask { service: what.to_owned() });
    request.metadata_mut().insert("grpc-timeout", time.parse().unwrap());
    let codec: ProstCodec<Ask, Ask> = ProstCodec::default();
    grpc.unary(request, path.parse().unwrap(), codec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_peer_that_takes_nothing_has_a_few_answers_made() {
    let limits = Limits { unsent_per_connection: 14 * MIB, ..Limits::default() };
    let server = Running::start(limits).await;
    let greedy = greedy(server.addr).await;
    let mut calls = JoinSet::new();
    for _ in 0..32 {
        let mut grpc = greedy.clone();
        calls.spawn(async move { ask(&mut grpc, LIST, "counted", "1S").await });
    }
    // Three fill the connection's room, and wait to be taken; the others wait for room.
    for _ in 0..29 {
        let refused = timeout(SOON, calls.join_next()).await.expect("answers").unwrap();
        let refused = refused.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    }
    assert_eq!(MADE.load(Ordering::Relaxed), 3);
    // Nobody else waits for that, on the greedy one's connection neither.
    let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let origin = format!("http://{}", server.addr).parse().unwrap();
    let mut modest =
        tonic::client::Grpc::with_origin(client, origin).max_decoding_message_size(8 * MIB);
    let page = timeout(SOON, ask(&mut modest, LIST, "", "5S")).await.expect("answers").unwrap();
    assert!(page.service.len() > 4 * MIB - 1024);
    drop(calls);
}

/// On a clock that jumps to the next timer whenever nothing else happens.
#[tokio::test]
async fn a_connection_whose_answer_is_not_taken_is_cut() {
    let server = Running::start(Limits::default()).await;
    let mut greedy = greedy(server.addr).await;
    tokio::time::pause();
    let started = Instant::now();
    let cut = timeout(Duration::from_secs(600), ask(&mut greedy, LIST, "", "10S"));
    cut.await.expect("it is cut").unwrap_err();
    let waited = started.elapsed().as_secs();
    assert!(waited <= 100, "{waited} s");
}

/// The same of a stream whose handler has nothing more to say, and of one that was never read.
#[tokio::test]
async fn a_connection_with_a_stream_that_is_not_read_is_cut() {
    let server = Running::start(Limits::default()).await;
    let mut greedy = greedy(server.addr).await;
    greedy.ready().await.unwrap();
    let request = tonic::Request::new(Ask { service: "hang".to_owned() });
    let codec: ProstCodec<Ask, Answer> = ProstCodec::default();
    let answers = greedy.server_streaming(request, STREAM.parse().unwrap(), codec).await;
    let mut answers = answers.unwrap().into_inner();
    tokio::time::pause();
    let started = Instant::now();
    let cut = timeout(Duration::from_secs(600), answers.message());
    cut.await.expect("it is cut").unwrap_err();
    let waited = started.elapsed().as_secs();
    assert!(waited <= 100, "{waited} s");
}

/// A quiet stream is not a stalled one.
#[tokio::test]
async fn a_stream_whose_messages_are_taken_stays() {
    let server = Running::start(Limits::default()).await;
    let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let origin = format!("http://{}", server.addr).parse().unwrap();
    let mut modest: Client = tonic::client::Grpc::with_origin(client, origin);
    modest.ready().await.unwrap();
    let request = tonic::Request::new(Ask { service: "hang".to_owned() });
    let codec: ProstCodec<Ask, Answer> = ProstCodec::default();
    let answers = modest.server_streaming(request, STREAM.parse().unwrap(), codec).await;
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap(), Some(Answer { status: 1 }));
    tokio::time::pause();
    let more = timeout(Duration::from_secs(600), answers.message()).await;
    assert!(more.is_err(), "{more:?}");
}
