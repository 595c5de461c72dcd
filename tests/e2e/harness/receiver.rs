//! A receiver inside the test: keeps what comes and answers as it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::tls::Authority;

/// No request of ours is larger: an event of a megabyte and its envelope.
const BODY_LEN: usize = 2 * 1024 * 1024;

/// A request as received.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Headers in the order sent, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// How many requests with this `webhook-id` had come to this path before.
    pub earlier: u32,
    /// When its headers were there.
    pub at: Instant,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status with a header.
    With(u16, &'static str, String),
    /// This status with a body.
    Body(u16, String),
    /// 204, after a while.
    After(Duration),
    /// This status with a body, after a while.
    BodyAfter(Duration, u16, String),
    /// Nothing, for ever.
    Never,
}

/// What came with one `webhook-id`.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// How many requests.
    pub count: u32,
    /// When the first.
    pub first: Instant,
}

type Behaviour = dyn Fn(&Request) -> Answer + Send + Sync;

/// The receiver. It ends with its handle.
pub struct Receiver {
    scheme: &'static str,
    addr: SocketAddr,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

struct Shared {
    behaviour: Box<Behaviour>,
    keep: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    seen: HashMap<(String, String), Seen>,
    gauges: HashMap<String, Gauge>,
    last: Option<Instant>,
    silence: Duration,
}

#[derive(Clone, Copy, Default)]
struct Gauge {
    now: usize,
    most: usize,
}

impl Request {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Path without query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies of ours are UTF-8")
    }
}

impl Receiver {
    /// A receiver that keeps every request.
    pub async fn start(behave: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::open(true, Box::new(behave)).await
    }

    /// A receiver that acknowledges everything.
    pub async fn friendly() -> Self {
        Self::start(|_| Answer::Status(204)).await
    }

    /// A receiver for load: keeps ids, counts and times only.
    pub async fn counting(behave: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::open(false, Box::new(behave)).await
    }

    /// A receiver under TLS, with a certificate of this authority.
    pub async fn over_tls(
        authority: &Authority,
        behave: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (cert, key) = authority.pair();
        let key = PrivateKeyDer::try_from(key).expect("a key of rcgen");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.into()], key)
            .expect("a certificate and its key");
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Self::listen(true, tls, Box::new(behave)).await
    }

    async fn open(keep: bool, behaviour: Box<Behaviour>) -> Self {
        Self::listen(keep, None, behaviour).await
    }

    async fn listen(keep: bool, tls: Option<TlsAcceptor>, behaviour: Box<Behaviour>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let addr = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { behaviour, keep, state: Mutex::default() });
        let accept = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { scheme, addr, shared, accept }
    }

    /// A URL of it.
    pub fn url(&self, target: &str) -> String {
        format!("{}://{}{target}", self.scheme, self.addr)
    }

    /// Everything that came to a path, in order.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state();
        state.requests.iter().filter(|request| request.path() == path).cloned().collect()
    }

    /// Waits until so many requests came to a path, and gives them.
    pub async fn expect(&self, path: &str, count: usize) -> Vec<Request> {
        super::eventually(&format!("{count} requests to {path}"), || async {
            let requests = self.requests(path);
            if requests.len() >= count { Ok(requests) } else { Err(requests.len()) }
        })
        .await
    }

    /// Each `webhook-id` that came to a path.
    pub fn seen(&self, path: &str) -> HashMap<String, Seen> {
        let state = self.state();
        let here = state.seen.iter().filter(|((at, _), _)| at == path);
        here.map(|((_, id), seen)| (id.clone(), *seen)).collect()
    }

    /// Distinct `webhook-id`s that came to a path.
    pub fn distinct(&self, path: &str) -> usize {
        self.state().seen.keys().filter(|(at, _)| at == path).count()
    }

    /// Requests to a path that are being answered now.
    pub fn in_flight(&self, path: &str) -> usize {
        self.state().gauges.get(path).copied().unwrap_or_default().now
    }

    /// The most that were being answered at once.
    pub fn most_in_flight(&self, path: &str) -> usize {
        self.state().gauges.get(path).copied().unwrap_or_default().most
    }

    /// The longest time between two requests that followed each other, whatever their paths.
    pub fn longest_silence(&self) -> Duration {
        self.state().silence
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Ends its connections when it is aborted.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| serve(Arc::clone(&shared), request));
        let tls = tls.clone();
        connections.spawn(async move {
            let http = http1::Builder::new();
            // A sender that breaks off is part of the stories.
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => Ok(()),
                },
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = read(body).await;
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let mut received = Request {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: headers.collect(),
        body,
        earlier: 0,
        at,
    };
    let path = received.path().to_owned();
    {
        let mut state = shared.lock();
        let key = (path.clone(), received.header("webhook-id").to_owned());
        let seen = state.seen.entry(key).or_insert(Seen { count: 0, first: at });
        received.earlier = seen.count;
        seen.count += 1;
        let before = state.last.replace(at).unwrap_or(at);
        state.silence = state.silence.max(at.saturating_duration_since(before));
        if shared.keep {
            state.requests.push(received.clone());
        }
    }
    let _counted = Counted::new(&shared, path);
    Ok(answer((shared.behaviour)(&received)).await)
}

async fn answer(answer: Answer) -> hyper::Response<Full<Bytes>> {
    let (mut header, mut body) = (None, Bytes::new());
    let status = match answer {
        Answer::Status(status) => status,
        Answer::With(status, name, value) => {
            header = Some((name, value));
            status
        }
        Answer::Body(status, text) => {
            body = text.into();
            status
        }
        Answer::After(wait) => {
            // A slow receiver is the story.
            tokio::time::sleep(wait).await;
            204
        }
        Answer::BodyAfter(wait, status, text) => {
            tokio::time::sleep(wait).await; // the same
            body = text.into();
            status
        }
        Answer::Never => std::future::pending().await,
    };
    let mut response = hyper::Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    response.body(Full::new(body)).expect("a status and a header")
}

/// Reads a body within [`BODY_LEN`].
async fn read(mut body: Incoming) -> Bytes {
    let mut whole = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        whole.extend_from_slice(&data);
        assert!(whole.len() <= BODY_LEN, "a request larger than any of ours");
    }
    whole.into()
}

/// Counts a request as being answered until it is dropped, whoever breaks off.
struct Counted {
    shared: Arc<Shared>,
    path: String,
}

impl Counted {
    fn new(shared: &Arc<Shared>, path: String) -> Self {
        let mut state = shared.lock();
        let gauge = state.gauges.entry(path.clone()).or_default();
        gauge.now += 1;
        gauge.most = gauge.most.max(gauge.now);
        drop(state);
        Self { shared: Arc::clone(shared), path }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock()
            && let Some(gauge) = state.gauges.get_mut(&self.path)
        {
            gauge.now -= 1;
        }
    }
}
