//! Exports to a collector of the test, which has a limit as those in Go have it.

use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

use super::*;
use crate::pipe::{Pipe, pipe};
use crate::settings::Target;

/// Every wait of a test.
const SOON: Duration = Duration::from_secs(60);

/// A collector that refuses what is larger than it takes.
#[derive(Clone, Debug)]
struct Collector {
    takes: usize,
    /// What it refuses with.
    refusal: Status,
    /// Records of each request that it took, and `None` for each that it refused.
    seen: Arc<Mutex<Vec<Option<usize>>>>,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let fits = request.encoded_len() <= self.takes;
        let scopes = request.resource_logs.iter().flat_map(|all| &all.scope_logs);
        let count: usize = scopes.map(|scope| scope.log_records.len()).sum();
        self.seen.lock().unwrap().push(fits.then_some(count));
        match fits {
            true => Ok(tonic::Response::new(ExportLogsServiceResponse::default())),
            false => Err(self.refusal.clone()),
        }
    }
}

/// A collector, and what exports to it: numbers as records of so many bytes.
struct World {
    collector: Collector,
    pipe: Pipe<usize>,
    tally: Arc<Tally>,
    going: CancellationToken,
    exports: JoinHandle<()>,
}

impl World {
    async fn start(takes: usize, refusal: Status) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Collector { takes, refusal, seen: Arc::default() };
        let service = LogsServiceServer::new(collector.clone()).max_decoding_message_size(64 << 20);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

        let target = Target {
            endpoint,
            headers: Vec::new(),
            timeout: SOON,
            gzip: false,
            certificate: None,
            client: None,
        };
        let (tally, queue) = (Arc::new(Tally::default()), Queue::default());
        let client = connect(Signal::Logs, &target).unwrap();
        let exporter = Exporter::new(Signal::Logs, client, queue.timeout, Arc::clone(&tally));
        let (pipe, outlet) = pipe(queue.len, Arc::clone(&tally));
        let encode = |size: usize, items: &mut Items| {
            let record = LogRecord { event_name: "x".repeat(size), ..LogRecord::default() };
            items.push(&record.encode_to_vec());
        };
        let envelope = Envelope { resource: Vec::new(), scope: Vec::new() };
        let (exports, going) = (Exports { exporter, envelope, encode }, CancellationToken::new());
        let exports = tokio::spawn(run(exports, outlet, queue, going.clone(), SOON));
        Self { collector, pipe, tally, going, exports }
    }

    /// Pushes so many of a size, as fast as they leave.
    async fn push(&self, count: usize, size: usize) {
        for _ in 0..count {
            while self.tally.queued() >= 16_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.pipe.push(size);
        }
    }

    /// Ends it; what became of each request.
    async fn end(self) -> (Vec<Option<usize>>, Arc<Tally>) {
        self.going.cancel();
        timeout(SOON, self.exports).await.expect("ends").unwrap();
        let seen = self.collector.seen.lock().unwrap().clone();
        (seen, self.tally)
    }
}

fn too_large() -> Status {
    Status::resource_exhausted("grpc: received message larger than max")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_records_arrive_however_long_they_are() {
    let world = World::start(4 << 20, too_large()).await;
    world.push(40_000, 2_500).await;
    let (seen, tally) = world.end().await;
    assert_eq!(seen.iter().flatten().sum::<usize>(), 40_000);
    assert!(seen.iter().all(Option::is_some), "none was too large");
    assert_eq!(tally.exported(), 40_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_finds_too_large_is_halved() {
    let world = World::start(1 << 20, too_large()).await;
    world.push(1_000, 2_500).await;
    let (seen, tally) = world.end().await;
    assert_eq!(seen.iter().flatten().sum::<usize>(), 1_000);
    assert!(seen.contains(&None));
    assert_eq!((tally.exported(), tally.dropped(Loss::Refused)), (1_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_eighths_is_lost_at_once() {
    let world = World::start(0, too_large()).await;
    world.push(1_000, 2_500).await;
    let begun = Instant::now();
    let (seen, tally) = world.end().await;
    assert!(begun.elapsed() < Queue::default().timeout, "nothing was repeated until its time ends");
    assert!(seen.len() <= 30 && seen.iter().all(Option::is_none), "{seen:?}");
    assert_eq!((tally.exported(), tally.dropped(Loss::Refused)), (0, 1_000));
}

#[test]
fn a_time_to_wait_asks_for_patience() {
    let waits = Status::with_details(
        Code::ResourceExhausted,
        "slow down",
        Bytes::from_static(b"\x12\x2a\n(type.googleapis.com/google.rpc.RetryInfo"),
    );
    assert!(retryable(&waits) && !is_too_large(&waits));
    assert!(!retryable(&too_large()) && is_too_large(&too_large()));
    assert!(!is_too_large(&Status::unavailable("")) && retryable(&Status::unavailable("")));
}
