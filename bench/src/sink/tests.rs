//! The sink over real connections, and its counts without any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::serve::accept;
use super::tls::Tls;
use super::{Manner, Sink, Tally, host};
use crate::clock::Moment;
use crate::direct::{self, DirectArgs, DirectReport};
use crate::stamp::Stamp;

const OK: Manner = Manner { delay: Duration::ZERO, hang: false, refuse_every: None };

async fn serve(manner: Manner, status: StatusCode, tls: Option<Tls>) -> (SocketAddr, Arc<Sink>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sink = Arc::new(Sink::new(Tally::new(2, 1000, 7), manner, status));
    tokio::spawn(accept(listener, sink.clone(), tls, 64));
    (address, sink)
}

async fn sink(manner: Manner) -> (SocketAddr, Tally) {
    let (address, sink) = serve(manner, StatusCode::OK, None).await;
    (address, sink.tally.clone())
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
    let (address, sink) = serve(Manner { delay, ..OK }, StatusCode::IM_A_TEAPOT, None).await;
    let sent = send(address, 7).await;
    assert_eq!((sent.requests, sent.refused), (100, 100));
    assert!(sent.latency.p50_us >= 5000.0, "{:?}", sent.latency);
    let report = sink.tally.report();
    assert_eq!((report.received, report.refused, report.last), (0, 100, Moment(0)));
}

#[tokio::test]
async fn one_that_was_down_takes_what_it_had_refused() {
    use crate::run::sink_client::{stats, turn_to};

    let (address, _) = serve(OK, StatusCode::OK, None).await;
    turn_to(address, StatusCode::SERVICE_UNAVAILABLE).await.unwrap();
    assert_eq!(send(address, 7).await.refused, 100);
    assert_eq!(send(address, 7).await.refused, 100);
    turn_to(address, StatusCode::OK).await.unwrap();
    assert_eq!(send(address, 7).await.refused, 0);
    let report = stats(address).await.unwrap();
    assert_eq!((report.refused, report.refused_events), (200, 100));
    assert_eq!((report.received, report.repeats), (100, 0));
}

#[tokio::test]
async fn each_tenth_event_is_refused_once() {
    let (address, tally) = sink(Manner { refuse_every: Some(10), ..OK }).await;
    assert_eq!(send(address, 7).await.refused, 10);
    assert_eq!((tally.report().unique(), tally.report().refused), (90, 10));
    assert_eq!(send(address, 7).await.refused, 0);
    assert_eq!((tally.report().unique(), tally.report().refused), (100, 10));
    tally.reset(8);
    assert_eq!(send(address, 8).await.refused, 10, "another phase, other events");
    assert_eq!(send(address, 7).await.refused, 0, "what is not expected is nobody's");
}

#[tokio::test]
async fn with_a_certificate_it_takes_https_and_http_at_one_port() {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let hosts = [0, 1].map(|number| host([127, 0, 0, 1].into(), number).unwrap());
    let (address, sink) = serve(OK, StatusCode::OK, Some(Tls::make(&file, &hosts).unwrap())).await;
    send(address, 7).await;
    assert_eq!(sink.tally.report().received, 100);

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&file).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    for host in hosts {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(ServerName::from(host), stream).await.unwrap();
        stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.0 200");
    }
}

#[test]
fn hosts_are_counted_from_the_first_and_stay_on_this_machine() {
    let first = [127, 0, 0, 1].into();
    assert_eq!(host(first, 0).unwrap(), first);
    assert_eq!(host(first, 49).unwrap(), std::net::IpAddr::from([127, 0, 0, 50]));
    assert!(host([127, 255, 255, 255].into(), 1).is_err());
    assert!(host("::1".parse().unwrap(), 1).is_err());
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
    tally.count(0, stamp(99), 10, Moment(1000), true);
    tally.count(1, stamp(99), 10, Moment(2000), true);
    tally.count(5, stamp(98), 10, Moment(3000), true); // no such route: the first
    tally.count(0, stamp(128), 10, Moment(4000), true); // beyond what is remembered
    tally.count(0, stamp(128), 10, Moment(5000), true);
    tally.count(0, None, 10, Moment(6000), true);
    let report = tally.report();
    let routes: Vec<_> = report.routes.iter().map(|route| (route.route, route.received)).collect();
    assert_eq!(routes, [(0, 4), (1, 1)]);
    assert_eq!((report.repeats, report.unstamped, report.bytes), (0, 1, 60));
    assert_eq!((report.first, report.last), (Moment(1000), Moment(5000)));
    assert_eq!(report.latency.max_us, 5.0);
}
