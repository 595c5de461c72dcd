//! Egress against receivers on loopback sockets, each following a script. No public host is
//! named, and the only waits are those of the limits under test, which are shortened.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use pregon_core::clock::SystemClock;
use pregon_core::id::TenantId;
use pregon_core::limits;
use pregon_core::url::{AddressPolicy, EgressRules, EndpointUrl};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod denied;
mod guard;
mod hostile;
mod names;
mod reuse;
mod terms;
mod trust;
mod ways;

/// Far longer than any test takes: for requests whose time limit is not under test.
const AMPLE: Duration = Duration::from_secs(20);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A receiver: accepts, counts, and runs its script on each connection.
struct Receiver {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Receiver {
    /// `script` gets each connection with its number, from 0.
    async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, number));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request with the same bytes, and then waits for the next.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut stream, _| {
            let answer = Arc::clone(&answer);
            async move {
                while read_request(&mut stream).await.is_some() {
                    if stream.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn target(&self, path: &str) -> Target {
        target(&format!("http://{}{path}", self.address))
    }
}

/// Reads one request, head and body; none at the connection's end.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if read.len() >= end + 4 + length.map_or(0, |n| n.parse().unwrap()) {
                return Some(String::from_utf8(read).unwrap());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Keeps a connection open without a word until the other side closes it.
async fn hold(mut stream: TcpStream) {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
}

fn target(url: &str) -> Target {
    let url = EndpointUrl::parse_stored(url).unwrap();
    Target::new(TenantId::parse("acme").unwrap(), &url)
}

fn post(target: Target) -> OutboundRequest {
    OutboundRequest {
        method: http::Method::POST,
        target,
        uri: None,
        spelled: Vec::new(),
        headers: vec![(HeaderName::from_static("webhook-id"), HeaderValue::from_static("evt_1"))],
        body: Bytes::from_static(b"{\"a\":1}"),
        keep: limits::RESPONSE_KEPT,
        asks: Asks::Status,
        resend: Resend::IfUnheard,
    }
}

/// A resolver that gives the same answer to every question, and counts them.
#[derive(Clone)]
struct Scripted {
    answer: Option<Vec<IpAddr>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn answering(addresses: &[&str]) -> Self {
        let parsed = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Self { answer: Some(parsed), asked: Arc::default() }
    }

    fn silent() -> Self {
        Self { answer: None, asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Scripted {
    fn lookup(&self, _: Arc<str>) -> BoxFuture<'static, Result<Found, LookupError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.clone();
        Box::pin(async move {
            match answer {
                Some(addresses) => Ok(Found { addresses, ttl: Duration::from_secs(60) }),
                None => std::future::pending().await,
            }
        })
    }
}

/// A policy that opens these networks, and http.
fn opening(allow: &[&str]) -> EgressPolicy {
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    let addresses = AddressPolicy::opening(allow);
    EgressPolicy { addresses, allow_http: true, ..EgressPolicy::default() }
}

fn options() -> EgressOptions {
    EgressOptions {
        policy: opening(&["127.0.0.1/32"]),
        own: Own::default(),
        pools: Vec::new(),
        resolver: Arc::new(SystemResolver::default()),
        extra_roots: None,
        clock: Arc::new(SystemClock),
        limits: EgressLimits::default(),
    }
}

fn egress() -> Egress {
    Egress::new(options()).unwrap()
}

fn fault(exchange: &Exchange) -> (ErrorClass, &str) {
    let fault = exchange.result.as_ref().expect_err("a fault");
    (fault.class, &fault.detail)
}

fn response(exchange: &Exchange) -> &Response {
    exchange.result.as_ref().expect("a response")
}
