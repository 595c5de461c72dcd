//! The receiver's HTTP/1.1 server, over TLS if it has a certificate.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pregon_core::clock::{SharedClock, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use super::behaviour::{Ending, Plan, Script, plan};
use super::receipt::Receipt;
use super::tls::Tls;
use super::verify::{Contracts, Secret, delivery_id, judge};

/// The largest body that is read: four times what Pregón sends by default.
const BODY_LEN: usize = 1024 * 1024;
/// How long a body, or the head of the next request, may take to come.
const READ_TIME: Duration = Duration::from_secs(60);
/// How long a hang or a drip lasts at most: beyond any sender's patience.
const HANG_TIME: Duration = Duration::from_secs(600);
/// How long a drip rests between two bytes.
const DRIP_REST: Duration = Duration::from_millis(200);
/// How long to leave a listener alone that cannot accept.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Requests remembered for `/fail-first`; the oldest is forgotten first.
const REMEMBERED: usize = 100_000;

type Reply = Response<Either<Full<Bytes>, Drip>>;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    script: Script,
    contracts: Contracts,
    clock: SharedClock,
    receipts: mpsc::Sender<Receipt>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    secrets: Vec<Secret>,
    requests: usize,
    seen: Seen,
    /// A second since the Unix epoch, and the requests that came in it.
    second: (i64, u32),
}

impl State {
    /// How many requests came in the second of this moment, another one included.
    fn in_second(&mut self, now: Timestamp) -> u32 {
        let (second, count) = &mut self.second;
        if *second != now.seconds() {
            (*second, *count) = (now.seconds(), 0);
        }
        *count = count.saturating_add(1);
        *count
    }
}

impl Shared {
    pub(super) fn new(
        script: Script,
        contracts: Contracts,
        clock: SharedClock,
        receipts: mpsc::Sender<Receipt>,
    ) -> Self {
        Self { script, contracts, clock, receipts, state: Mutex::default() }
    }

    pub(super) fn trust(&self, secrets: impl IntoIterator<Item = Secret>) {
        self.with_state(|state| state.secrets.extend(secrets));
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Whoever panicked in here left nothing half done that would matter to a receiver.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads, verifies, notes and answers one request. An error closes the connection.
    async fn receive(&self, request: Request<Incoming>) -> Result<Reply, Closed> {
        let (head, body) = request.into_parts();
        let body = timeout(READ_TIME, read(body)).await.map_err(|_| Closed)??;
        let time = self.clock.now();
        let path = head.uri.path();
        let (number, earlier, secrets, lately) = self.with_state(|state| {
            state.requests += 1;
            let id = delivery_id(&head.headers).unwrap_or_default();
            let lately = state.in_second(time);
            let earlier = state.seen.count(format!("{id} {path}"));
            (state.requests, earlier, state.secrets.clone(), lately)
        });
        let mut plan = plan(&self.script, path, number - 1, earlier);
        let contract = self.contracts.get(plan.contract.as_deref()).unwrap_or_else(|| {
            plan.refuse("/contract/ must be followed by a built-in or given name\n".to_owned());
            self.contracts.usual()
        });
        if self.script.per_second.is_some_and(|most| lately > most) {
            plan.overload();
        }
        if body.is_none() {
            plan.ending = Ending::Answer;
            plan.status = StatusCode::PAYLOAD_TOO_LARGE;
        }
        let body = body.unwrap_or_default();
        let url = asked_for(&head.uri, &head.headers);
        let judgement = judge(contract, &secrets, &url, &head.headers, &body, time);
        let receipt = Receipt {
            number,
            time,
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            judgement,
            plan: plan.clone(),
        };
        // Nobody reads receipts any more when the receiver is about to end.
        let _ = self.receipts.send(receipt).await;
        end(plan).await
    }
}

/// The URL that the sender has: this receiver knows no TLS.
fn asked_for(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("http://{}{path}", host.unwrap_or_default())
}

/// How often each (delivery, path) came.
#[derive(Debug, Default)]
struct Seen {
    counts: HashMap<Arc<str>, u32>,
    order: VecDeque<Arc<str>>,
}

impl Seen {
    /// How often it came before; it comes once more now.
    fn count(&mut self, request: String) -> u32 {
        if let Some(count) = self.counts.get_mut(request.as_str()) {
            *count = count.saturating_add(1);
            return *count - 1;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        let request: Arc<str> = request.into();
        self.counts.insert(Arc::clone(&request), 1);
        self.order.push_back(request);
        0
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

/// Accepts connections for ever. Dropping the future ends them all.
pub(super) async fn accept(
    tcp: TcpListener,
    tls: Option<Tls>,
    connections: usize,
    shared: Arc<Shared>,
) {
    let places = Arc::new(Semaphore::new(connections));
    let mut open = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match tcp.accept().await {
            Ok((conn, _)) => {
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                open.spawn(async move {
                    begin(conn, tls, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                sleep(ACCEPT_REST).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

/// Serves one connection, once its handshake is done.
async fn begin(conn: TcpStream, tls: Option<Tls>, shared: Arc<Shared>) {
    // Answers are small: each is to leave at once.
    let _ = conn.set_nodelay(true);
    let Some(tls) = tls else { return serve(conn, shared).await };
    match timeout(READ_TIME, tls.accept(conn)).await {
        Ok(Ok(conn)) => serve(conn, shared).await,
        Ok(Err(error)) => tracing::warn!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve(conn: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.receive(request).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIME)
        .serve_connection(TokioIo::new(conn), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The whole body; `None` if it is too large.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, Closed> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| Closed)?.into_data() {
            if whole.len() + data.len() > BODY_LEN {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(whole.freeze()))
}

/// Ends a request as planned.
async fn end(plan: Plan) -> Result<Reply, Closed> {
    sleep(plan.delay).await;
    let body = match plan.ending {
        Ending::Answer => Either::Left(Full::from(plan.body)),
        Ending::Drip => Either::Right(Drip::new()),
        Ending::Hang => {
            sleep(HANG_TIME).await;
            return Err(Closed);
        }
        Ending::Close => return Err(Closed),
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = plan.status;
    if let Some(seconds) = plan.retry_after {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(reply)
}

/// A body that comes byte by byte.
struct Drip {
    rest: Pin<Box<Sleep>>,
    left: u32,
}

impl Drip {
    fn new() -> Self {
        let left = u32::try_from(HANG_TIME.as_millis() / DRIP_REST.as_millis()).unwrap_or(0);
        Self { rest: Box::pin(sleep(DRIP_REST)), left }
    }
}

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        ready!(self.rest.as_mut().poll(cx));
        self.left = left;
        let next = self.rest.deadline() + DRIP_REST;
        self.rest.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b".")))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_requests_are_remembered() {
        let mut seen = Seen::default();
        assert_eq!(seen.count("first".into()), 0);
        assert_eq!(seen.count("first".into()), 1);
        for i in 0..REMEMBERED {
            seen.count(i.to_string());
        }
        assert_eq!((seen.counts.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(seen.count("first".into()), 0);
    }
}
