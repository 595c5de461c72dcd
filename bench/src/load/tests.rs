//! The load generator against a server that forgets, refuses and hangs up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use clap::Parser;
use pregon_proto::v1::event_service_server::{EventService, EventServiceServer};
use pregon_proto::v1::{
    Durability, PublishAck, PublishBatchRequest, PublishBatchResponse, PublishBatchResult,
    PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse, publish_ack,
    publish_batch_result,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{LoadArgs, LoadReport, publish};

/// Answers every seventh request as it is told, and keeps which ids it accepted.
#[derive(Clone, Debug)]
struct Fake {
    trouble: Option<Code>,
    cut: bool,
    seen: Arc<Mutex<(u64, BTreeMap<String, u32>)>>,
    tenants: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Fake {
    fn new(trouble: Option<Code>, cut: bool) -> Self {
        Self { trouble, cut, seen: Arc::default(), tenants: Arc::default() }
    }

    fn accept(&self, request: &PublishRequest) -> Result<PublishResponse, Status> {
        let mut seen = self.seen.lock().unwrap();
        seen.0 += 1;
        if let Some(code) = self.trouble.filter(|_| seen.0.is_multiple_of(7)) {
            return Err(Status::new(code, "as told"));
        }
        *self.tenants.lock().unwrap().entry(request.tenant.clone()).or_default() += 1;
        let number = seen.0;
        let id = request.event.as_ref().map(|event| event.id.clone()).unwrap_or_default();
        let id = if id.is_empty() { format!("assigned-{number}") } else { id };
        let times = seen.1.entry(id).or_default();
        *times += 1;
        Ok(PublishResponse {
            duplicate: *times > 1,
            durability: Durability::Fsync.into(),
            ..PublishResponse::default()
        })
    }

    fn accepted(&self) -> usize {
        self.seen.lock().unwrap().1.len()
    }
}

#[tonic::async_trait]
impl EventService for Fake {
    type PublishStreamStream =
        Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        self.accept(request.get_ref()).map(Response::new)
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        let result = |request| PublishBatchResult {
            outcome: Some(match self.accept(request) {
                Ok(answer) => publish_batch_result::Outcome::Result(answer),
                Err(status) => publish_batch_result::Outcome::Status(wire(&status)),
            }),
        };
        let results = request.get_ref().requests.iter().map(result).collect();
        Ok(Response::new(PublishBatchResponse { results }))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (fake, mut requests) = (self.clone(), request.into_inner());
        let (answers, stream) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut read = 0;
            while let Some(Ok(request)) = requests.next().await {
                read += 1;
                let outcome = match fake.accept(&request.request.unwrap_or_default()) {
                    Ok(answer) => publish_ack::Outcome::Result(answer),
                    Err(status) => publish_ack::Outcome::Status(wire(&status)),
                };
                // Cut off after what was stored and before it is acknowledged.
                let cut = fake.cut && read == 100;
                let ack = PublishAck { sequence: request.sequence, outcome: Some(outcome) };
                let answer = match cut {
                    true => Err(Status::unavailable("draining")),
                    false => Ok(PublishStreamResponse { acks: vec![ack] }),
                };
                if answers.send(answer).await.is_err() || cut {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn wire(status: &Status) -> tonic_types::Status {
    let message = status.message().to_owned();
    tonic_types::Status { code: status.code().into(), message, ..Default::default() }
}

/// Only so that a test's arguments are parsed as those of the command line.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: LoadArgs,
}

async fn load(fake: &Fake, line: &str) -> LoadReport {
    let target = serve(fake).await.to_string();
    load_at(&target, line).await
}

async fn serve(fake: &Fake) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(EventServiceServer::new(fake.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

async fn load_at(target: &str, line: &str) -> LoadReport {
    let line = ["load", "--target", target].into_iter().chain(line.split_whitespace());
    publish(Line::parse_from(line).args).await.unwrap()
}

#[tokio::test]
async fn every_mode_publishes_every_event_once() {
    for mode in ["unary", "batch --batch 7", "stream --window 10"] {
        let fake = Fake::new(None, false);
        let line = format!("--mode {mode} --events 500 --concurrency 3 --connections 2");
        let report = load(&fake, &line).await;
        assert_eq!((report.acked, report.duplicates, report.retries), (500, 0, 0), "{mode}");
        assert_eq!((fake.accepted(), report.durability.as_str()), (500, "fsync"), "{mode}");
        assert_eq!((report.errors.len(), report.ack_latency.count), (0, 500), "{mode}");
    }
}

#[tokio::test]
async fn several_targets_each_get_a_connection() {
    let (one, two) = (Fake::new(None, false), Fake::new(None, false));
    let targets = format!("{},{}", serve(&one).await, serve(&two).await);
    let report = load_at(&targets, "--mode unary --events 200 --concurrency 4").await;
    assert_eq!((report.acked, one.accepted() + two.accepted()), (200, 200));
    assert!(one.accepted() > 0 && two.accepted() > 0);
}

#[tokio::test]
async fn what_is_refused_for_now_is_published_again_under_the_same_id() {
    for mode in ["unary", "batch", "stream"] {
        for code in [Code::Unavailable, Code::ResourceExhausted] {
            let fake = Fake::new(Some(code), false);
            let report = load(&fake, &format!("--mode {mode} --events 300")).await;
            assert_eq!((report.acked, fake.accepted()), (300, 300), "{mode} {code:?}");
            assert!(report.retries >= 300 / 7, "{mode} {code:?}: {} retries", report.retries);
            assert!(report.errors.is_empty(), "{mode} {code:?}: {:?}", report.errors);
        }
    }
}

#[tokio::test]
async fn what_is_refused_for_good_or_cannot_be_repeated_is_an_error() {
    for (ids, code) in [("given", Code::InvalidArgument), ("assigned", Code::Unavailable)] {
        for mode in ["unary", "batch", "stream"] {
            let fake = Fake::new(Some(code), false);
            let report = load(&fake, &format!("--mode {mode} --events 70 --ids {ids}")).await;
            assert_eq!((report.acked, report.retries), (60, 0), "{mode} {ids}");
            let errors = BTreeMap::from([(format!("{code:?}: as told"), 10)]);
            assert_eq!(report.errors, errors, "{mode} {ids}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_where_it_was() {
    let fake = Fake::new(None, true);
    let report = load(&fake, "--mode stream --events 450 --concurrency 1 --window 20").await;
    assert_eq!((report.acked, fake.accepted()), (450, 450));
    // Each cut loses the answer to one event that was stored; up to a window is sent again.
    assert!((4..=5).contains(&report.duplicates), "{} duplicates", report.duplicates);
    assert!(report.retries <= 5 * 20, "{} retries", report.retries);
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}

#[tokio::test]
async fn a_rate_is_kept_and_a_duration_ends_it() {
    for mode in ["unary", "batch --batch 10", "stream"] {
        let fake = Fake::new(None, false);
        let report = load(&fake, &format!("--mode {mode} --rate 1000 --seconds 0.2")).await;
        assert_eq!(report.acked, 200, "{mode}");
        let took = report.end.since(report.start).as_secs_f64();
        assert!((0.19..2.0).contains(&took), "{mode} took {took} s");
    }
    let fake = Fake::new(None, false);
    let report = load(&fake, "--seconds 0.05 --events 100000000").await;
    assert!(report.acked > 0 && report.errors.is_empty(), "{report:?}");
}

#[tokio::test]
async fn numbers_begin_where_told_and_ids_are_made_of_them() {
    let fake = Fake::new(None, false);
    load(&fake, "--events 2 --first 41 --id-prefix x:").await;
    let ids: Vec<_> = fake.seen.lock().unwrap().1.keys().cloned().collect();
    assert_eq!(ids, ["x:0000000041", "x:0000000042"]);
}

#[tokio::test]
async fn events_go_round_the_tenants() {
    for mode in ["unary", "batch --batch 7", "stream"] {
        let fake = Fake::new(None, false);
        load(&fake, &format!("--mode {mode} --events 30 --tenants 3")).await;
        let tenants = ["tenants/bench-0", "tenants/bench-1", "tenants/bench-2"];
        let expected = BTreeMap::from(tenants.map(|tenant| (tenant.to_owned(), 10)));
        assert_eq!(*fake.tenants.lock().unwrap(), expected, "{mode}");
    }
}

#[test]
fn one_tenant_has_the_name_and_several_have_numbers() {
    assert_eq!(super::tenants("tenants/x", 1), ["tenants/x"]);
    assert_eq!(super::tenants("tenants/x", 2), ["tenants/x-0", "tenants/x-1"]);
}
