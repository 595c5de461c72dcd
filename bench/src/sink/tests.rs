//! The sink over real connections, and its counts without any.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::serve::accept;
use super::{Manner, Tally};
use crate::clock::Moment;
use crate::direct::{self, DirectArgs, DirectReport};
use crate::stamp::Stamp;

const OK: Manner = Manner { delay: Duration::ZERO, hang: false, status: hyper::StatusCode::OK };

async fn sink(manner: Manner) -> (SocketAddr, Tally) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tally = Tally::new(2, 1000, 7);
    tokio::spawn(accept(listener, tally.clone(), manner, 64));
    (address, tally)
}

async fn send(target: SocketAddr, phase: u64) -> DirectReport {
    let args =
        DirectArgs { target, connections: 4, seconds: 10.0, requests: 100, size: 2000, phase };
    direct::send(args).await.unwrap()
}

#[tokio::test]
async fn every_request_is_counted_once_and_repeats_are_found() {
    let (address, tally) = sink(OK).await;
    let sent = send(address, 7).await;
    assert_eq!((sent.requests, sent.refused), (100, 0));
    let report = tally.report();
    assert_eq!((report.received, report.repeats, report.latency.count), (100, 0, 100));
    assert!(report.bytes > 100 * 2000, "{} bytes", report.bytes);
    assert!(report.first >= sent.start && report.last <= sent.end);

    send(address, 7).await;
    let report = tally.report();
    assert_eq!((report.received, report.repeats, report.unique()), (200, 100, 100));
    assert_eq!(report.latency.count, 100, "a repeat has no latency");

    tally.reset(8);
    send(address, 7).await;
    let report = tally.report();
    assert_eq!((report.received, report.stale), (0, 100), "of the phase before");
}

#[tokio::test]
async fn it_answers_as_late_and_with_what_it_was_told() {
    let delay = Duration::from_millis(5);
    let manner = Manner { delay, hang: false, status: hyper::StatusCode::IM_A_TEAPOT };
    let (address, tally) = sink(manner).await;
    let sent = send(address, 7).await;
    assert_eq!((sent.requests, sent.refused), (100, 100));
    assert!(sent.latency.p50_us >= 5000.0, "{:?}", sent.latency);
    assert_eq!(tally.report().received, 100);
}

#[tokio::test]
async fn one_that_hangs_counts_what_it_does_not_answer() {
    let (address, tally) = sink(Manner { hang: true, ..OK }).await;
    // Real time, because the sink's connection is real: long enough that an answer would be here.
    let sent = tokio::time::timeout(Duration::from_millis(200), send(address, 7)).await;
    assert!(sent.is_err(), "answered: {sent:?}");
    assert_eq!(tally.report().received, 4, "one on each connection");
}

#[tokio::test]
async fn it_is_read_and_reset_over_http() {
    use crate::run::sink_client::{arrived, reset, stats};

    let (address, _) = sink(OK).await;
    send(address, 7).await;
    assert_eq!(stats(address).await.unwrap().received, 100);
    assert_eq!(arrived(address, 100).await.unwrap().unique(), 100);
    reset(address, 9).await.unwrap();
    assert_eq!(stats(address).await.unwrap().received, 0);
    send(address, 9).await;
    assert_eq!(stats(address).await.unwrap().received, 100);
}

#[test]
fn routes_are_counted_apart_and_what_cannot_be_read_too() {
    let tally = Tally::new(2, 128, 0);
    let stamp = |sequence| Some(Stamp { phase: 0, sequence, since: Moment(0) });
    tally.count(0, stamp(99), 10, Moment(1000));
    tally.count(1, stamp(99), 10, Moment(2000));
    tally.count(5, stamp(98), 10, Moment(3000)); // no such route: the first
    tally.count(0, stamp(128), 10, Moment(4000)); // beyond what is remembered
    tally.count(0, stamp(128), 10, Moment(5000));
    tally.count(0, None, 10, Moment(6000));
    let report = tally.report();
    let routes: Vec<_> = report.routes.iter().map(|route| (route.route, route.received)).collect();
    assert_eq!(routes, [(0, 4), (1, 1)]);
    assert_eq!((report.repeats, report.unstamped, report.bytes), (0, 1, 60));
    assert_eq!((report.first, report.last), (Moment(1000), Moment(5000)));
    assert_eq!(report.latency.max_us, 5.0);
}
