//! A real server on port 0, as its clients see it.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod reflection;
mod unsent;
mod waiting;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper_util::rt::TokioExecutor;
use pregon_core::clock::SystemClock;
use pregon_rpc::access::{self, Access, Reach, Table, Who};
use pregon_rpc::call::Deadline;
use pregon_rpc::health::Health;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{
    ALLOW_PLAINTEXT, BindError, Drained, Lack, Limits, Listen, Listener, Server, ServerError,
    TLS_CERT_FILE, TOKENS_FILE,
};
use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest as Ask, HealthCheckResponse as Answer};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use tower::service_fn;

/// Every wait of a test that should not take long.
const SOON: Duration = Duration::from_secs(5);

/// What the test service receives at most, so that a test need not send 4 MiB.
const RECEIVED_LEN: usize = 1024;

const ECHO: &str = "/test.Test/Echo";
const HANG: &str = "/test.Test/Hang";
const LEFT: &str = "/test.Test/Left";
const PANIC: &str = "/test.Test/Panic";
const STREAM: &str = "/test.Test/Stream";
const LIST: &str = "/test.Test/ListBytes";
const ELSEWHERE: &str = "/test.OfTheOtherPlane/Act";

static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let method = |path: &str, server_streaming| MethodDescriptorProto {
        name: Some(path.rsplit('/').next().unwrap().to_owned()),
        input_type: Some(".grpc.health.v1.HealthCheckRequest".into()),
        output_type: Some(".grpc.health.v1.HealthCheckResponse".into()),
        server_streaming: Some(server_streaming),
        ..Default::default()
    };
    let service = |name: &str, method| ServiceDescriptorProto {
        name: Some(name.into()),
        method,
        ..Default::default()
    };
    let methods = vec![
        method(ECHO, false),
        method(HANG, false),
        method(LEFT, false),
        method(PANIC, false),
        method(STREAM, true),
        method(LIST, false),
    ];
    let file = FileDescriptorProto {
        name: Some("test.proto".into()),
        package: Some("test".into()),
        service: vec![
            service("Test", methods),
            service("OfTheOtherPlane", vec![method(ELSEWHERE, false)]),
        ],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
});

/// A service with a method for everything that a handler can do to a server.
#[derive(Clone)]
struct Test;

impl NamedService for Test {
    const NAME: &'static str = "test.Test";
}

impl tower::Service<Request<Body>> for Test {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if path == LIST {
                return Ok(unsent::list(request).await);
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(RECEIVED_LEN), None);
            Ok(if path == STREAM {
                grpc.server_streaming(service_fn(stream), request).await
            } else {
                grpc.unary(service_fn(move |ask| unary(path.clone(), ask)), request).await
            })
        })
    }
}

async fn unary(path: String, ask: tonic::Request<Ask>) -> Result<tonic::Response<Answer>, Status> {
    let status = match path.as_str() {
        ECHO => i32::try_from(ask.get_ref().service.len()).unwrap(),
        HANG => std::future::pending().await,
        LEFT => {
            let left = Deadline::of(&ask).unwrap() - Instant::now();
            i32::try_from(left.as_millis().div_ceil(1000)).unwrap()
        }
        PANIC => panic!("as the test wants"),
        _ => return Err(Status::unimplemented("")),
    };
    Ok(tonic::Response::new(Answer { status }))
}

type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<Answer, Status>> + Send>>;

/// Answers once, then does what it was asked to.
async fn stream(ask: tonic::Request<Ask>) -> Result<tonic::Response<Answers>, Status> {
    assert!(Deadline::of(&ask).is_none());
    let first = tokio_stream::once(Ok(Answer { status: 1 }));
    let rest: Answers = match ask.into_inner().service.as_str() {
        "hang" => Box::pin(tokio_stream::pending()),
        "panic" => Box::pin(tokio_stream::iter([0]).map(|_| panic!("as the test wants"))),
        _ => Box::pin(tokio_stream::empty()),
    };
    Ok(tonic::Response::new(Box::pin(first.chain(rest))))
}

/// The test's methods for anybody, besides what every server has.
fn table() -> Table {
    let access = Access { who: Who::Known, reach: Reach::Shared };
    let ours = [ECHO, HANG, LEFT, PANIC, STREAM, LIST, ELSEWHERE].map(|path| (path, access));
    Table::new(&[access::API, &ours].concat())
}

/// A listener on a free port of loopback, unguarded.
async fn local() -> Listener {
    let listen = Listen::open("127.0.0.1:0".parse().unwrap());
    Listener::bind(listen, Arc::new(SystemClock)).await.unwrap()
}

struct Running {
    addr: SocketAddr,
    channel: Channel,
    health: Health,
    revision: Revision,
    shutdown: CancellationToken,
    served: JoinHandle<Result<Drained, ServerError>>,
}

impl Running {
    async fn start(limits: Limits) -> Self {
        let revision = Revision::none();
        let listener = local().await;
        let ready = Server::new(&DESCRIPTORS, &[LEFT], revision.clone(), limits)
            .unwrap()
            .with_table(table())
            .with_elsewhere("the other plane serves it")
            .with(Test)
            .unwrap()
            .on(listener)
            .await
            .unwrap();
        let (addr, health) = (ready.local_addr(), ready.health());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(ready.serve(shutdown.clone()));
        let channel = connect(addr).await.unwrap();
        Self { addr, channel, health, revision, shutdown, served }
    }

    async fn call(
        &self,
        path: &'static str,
        service: &str,
    ) -> Result<tonic::Response<Answer>, Status> {
        let ask = tonic::Request::new(Ask { service: service.into() });
        call(self.addr, path, ask).await
    }

    async fn stream(&self, then: &str) -> tonic::Streaming<Answer> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let ask = tonic::Request::new(Ask { service: then.into() });
        let codec = ProstCodec::default();
        grpc.server_streaming(ask, STREAM.parse().unwrap(), codec).await.unwrap().into_inner()
    }

    async fn drained(self) -> Drained {
        self.shutdown.cancel();
        timeout(SOON, self.served).await.expect("drains").unwrap().unwrap()
    }
}

async fn connect(addr: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await
}

/// Calls without tonic's channel, which stops waiting at `grpc-timeout` itself: the server's own
/// answer is what the tests look at.
async fn call(
    addr: SocketAddr,
    path: &'static str,
    ask: tonic::Request<Ask>,
) -> Result<tonic::Response<Answer>, Status> {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let origin = format!("http://{addr}").parse().unwrap();
    let mut grpc = tonic::client::Grpc::with_origin(client, origin);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<Ask, Answer> = ProstCodec::default();
    timeout(SOON, grpc.unary(ask, path.parse().unwrap(), codec)).await.expect("answers")
}

#[tokio::test]
async fn beyond_loopback_only_with_tls_and_tokens() {
    let bind = |listen| Listener::bind(listen, Arc::new(SystemClock));
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let mut listen = Listen::open(addr.parse().unwrap());
        let refused = bind(listen.clone()).await.unwrap_err().to_string();
        assert!(refused.contains(TLS_CERT_FILE) && refused.contains(TOKENS_FILE), "{refused}");
        assert!(refused.contains(ALLOW_PLAINTEXT), "{refused}");
        // Plain text can be allowed; that there are no tokens cannot.
        listen.allow_plaintext = true;
        let BindError::Unguarded { lacks, .. } = bind(listen).await.unwrap_err() else { panic!() };
        assert_eq!(lacks, [Lack::Tokens]);
    }
    let taken = local().await;
    let taken = bind(Listen::open(taken.local_addr())).await.unwrap_err();
    assert!(matches!(taken, BindError::Io { .. }), "{taken}");
}

#[tokio::test]
async fn only_described_methods_can_be_served() {
    let new = |descriptors, waits: &[&str]| {
        Server::new(descriptors, waits, Revision::none(), Limits::default())
    };
    assert!(matches!(new(&DESCRIPTORS, &[STREAM]), Err(ServerError::Methods(_))));
    let unknown = new(&[], &[]).unwrap().with(Test).unwrap_err();
    assert!(matches!(unknown, ServerError::UnknownService("test.Test")));
}

#[tokio::test]
async fn health_says_what_it_was_told() {
    let server = Running::start(Limits::default()).await;
    let client = HealthClient::new(server.channel.clone());
    let check = async |service: &str| {
        let ask = Ask { service: service.into() };
        client.clone().check(ask).await.map(|answer| answer.into_inner().status())
    };

    assert_eq!(check("").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("test.Test").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("test.Other").await.unwrap_err().code(), Code::NotFound);
    server.health.set("test.Test", true).await;
    assert_eq!(check("test.Test").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    server.health.set_all(false).await;
    assert_eq!(check("").await.unwrap(), ServingStatus::NotServing);
}

#[tokio::test]
async fn answers_carry_the_revision() {
    let server = Running::start(Limits::default()).await;
    let answer = server.call(ECHO, "abc").await.unwrap();
    assert_eq!(answer.metadata().get("pregon-revision"), None);
    assert_eq!(answer.get_ref().status, 3);
    server.revision.advance(42);
    let answer = server.call(ECHO, "").await.unwrap();
    assert_eq!(answer.metadata().get("pregon-revision").unwrap(), "42");
    let failure = server.call(PANIC, "").await.unwrap_err();
    assert_eq!(failure.metadata().get("pregon-revision").unwrap(), "42");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let server = Running::start(Limits::default()).await;
    assert!(server.call(ECHO, &"a".repeat(RECEIVED_LEN - 3)).await.is_ok());
    let refused = server.call(ECHO, &"a".repeat(RECEIVED_LEN)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
    assert!(refused.message().contains("the limit is: 1024 bytes"), "{refused}");
}

#[tokio::test]
async fn what_is_not_served_here_says_where_to_go() {
    let server = Running::start(Limits::default()).await;
    for (path, reason, words) in [
        (ELSEWHERE, "NOT_SERVED_HERE", "test.OfTheOtherPlane is not served here: the other plane"),
        ("/test.Other/Echo", "METHOD_UNKNOWN", "no such method"),
    ] {
        let refused = server.call(path, "").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, reason);
        assert!(refused.message().contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_deadline_is_honoured_and_the_server_keeps_its_own() {
    let server = Running::start(Limits::default()).await;
    let call = |path, time: Option<&str>| {
        let mut ask = tonic::Request::new(Ask::default());
        if let Some(time) = time {
            ask.metadata_mut().insert("grpc-timeout", time.parse().unwrap());
        }
        call(server.addr, path, ask)
    };
    let late = call(HANG, Some("50m")).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(late.message().contains("50 ms"), "{late}");

    let left = async |path, time| call(path, time).await.unwrap().into_inner().status;
    assert_eq!(left(LEFT, None).await, 60);
    assert_eq!(left(LEFT, Some("7S")).await, 7);
    assert_eq!(left(LEFT, Some("2H")).await, 60);
}

#[tokio::test]
async fn a_panic_is_one_calls_internal() {
    let server = Running::start(Limits::default()).await;
    let failure = server.call(PANIC, "").await.unwrap_err();
    assert_eq!(failure.code(), Code::Internal);
    assert_eq!(failure.get_details_error_info().unwrap().reason, "INTERNAL");
    assert!(!failure.message().contains("test wants"), "{failure}");

    let mut answers = server.stream("panic").await;
    let failure = answers.message().await.unwrap_err();
    assert_eq!(failure.code(), Code::Internal);
    assert_eq!(failure.get_details_error_info().unwrap().reason, "INTERNAL");
    assert!(server.call(ECHO, "").await.is_ok());
}

#[tokio::test]
async fn load_is_shed_until_a_call_ends() {
    let server = Running::start(Limits { calls: 1, ..Limits::default() }).await;
    let mut held = server.stream("hang").await;
    held.message().await.unwrap().unwrap();

    let shed = server.call(ECHO, "").await.unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted);
    assert_eq!(shed.get_details_error_info().unwrap().reason, "LOAD_SHED");
    assert!(shed.get_details_retry_info().is_some());
    let probe = HealthClient::new(server.channel.clone()).check(Ask::default()).await;
    assert!(probe.is_ok(), "a probe is answered however busy the server is");

    drop(held);
    let freed = async {
        // The server hears of the reset a moment later.
        while server.call(ECHO, "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, freed).await.expect("the call's place is free again");
}

/// Waits until a connection is closed by its server.
async fn closed(tcp: &mut TcpStream) {
    let _ = timeout(SOON, tcp.read_to_end(&mut Vec::new())).await.expect("it is closed");
}

#[tokio::test]
async fn who_says_nothing_makes_room_and_one_connection_too_many_is_closed() {
    let server = Running::start(Limits { connections: 2, ..Limits::default() }).await;
    let check = |channel: &Channel| {
        let mut client = HealthClient::new(channel.clone());
        async move { client.check(Ask::default()).await }
    };
    check(&server.channel).await.unwrap();
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let second = connect(server.addr).await.unwrap();
    check(&second).await.unwrap();
    closed(&mut silent).await;

    let mut third = TcpStream::connect(server.addr).await.unwrap();
    closed(&mut third).await;
    for kept in [&server.channel, &second] {
        assert!(check(kept).await.is_ok(), "those who have a place keep it");
    }
    drop(second);
    let again = async {
        loop {
            match connect(server.addr).await {
                Ok(channel) if check(&channel).await.is_ok() => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(SOON, again).await.expect("its place is free again");
}

/// On a clock that jumps to the next timer whenever nothing else happens.
#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Running::start(Limits::default()).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    tokio::time::pause();
    let started = Instant::now();
    let mut heard = Vec::new();
    let _ = silent.read_to_end(&mut heard).await;
    let waited = started.elapsed().as_secs();
    assert!((9..=11).contains(&waited), "{waited} s");
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_watchers_go() {
    let server = Running::start(Limits::default()).await;
    server.health.set_all(true).await;
    let watch = HealthClient::new(server.channel.clone()).watch(Ask::default()).await;
    let mut watch = watch.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut ask = tonic::Request::new(Ask::default());
    ask.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let under_way = tokio::spawn(call(server.addr, HANG, ask));
    tokio::time::sleep(Duration::from_millis(50)).await; // for the call to reach its handler

    let addr = server.addr;
    assert_eq!(server.drained().await, Drained::Complete);
    let answer = under_way.await.unwrap().unwrap_err();
    assert_eq!(answer.code(), Code::DeadlineExceeded, "the handler had its whole time: {answer}");
    assert!(answer.message().contains("300 ms"), "the server answered: {answer}");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none());
    assert!(TcpStream::connect(addr).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_drain_ends_at_its_limit() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let server = Running::start(limits).await;
    let mut held = server.stream("hang").await;
    held.message().await.unwrap().unwrap();
    // One that never says a word holds nothing up for longer either.
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // for the server to accept it

    assert_eq!(server.drained().await, Drained::Cut { connections: 2 });
    assert!(held.message().await.is_err());
}
