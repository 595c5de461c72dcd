//! A receiver on a loopback socket, and the way out to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use pregon_core::clock::SystemClock;
use pregon_core::url::AddressPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::egress::{
    Egress, EgressLimits, EgressOptions, EgressPolicy, Found, LookupError, Own, Resolver,
};

/// What a receiver does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Sends these bytes.
    Bytes(Arc<[u8]>),
    /// Says nothing.
    Silence,
    /// Closes the connection once it has the request.
    Close,
    /// Closes the connection before it has read a byte.
    Slam,
}

/// A receiver: takes requests down and answers as it was told last.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    seen: watch::Receiver<Vec<String>>,
    closed: watch::Receiver<usize>,
}

impl Receiver {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let (requests, seen) = watch::channel(Vec::new());
        let (hung_up, closed) = watch::channel(0);
        let (answers, requests) = (Arc::clone(&answer), Arc::new(requests));
        let hung_up = Arc::new(hung_up);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = serve(stream, Arc::clone(&answers), Arc::clone(&requests));
                let hung_up = Arc::clone(&hung_up);
                tokio::spawn(async move {
                    served.await;
                    hung_up.send_modify(|count| *count += 1);
                });
            }
        });
        Self { address, answer, seen, closed }
    }

    /// One that answers with this status and body.
    pub(crate) async fn answering(status: u16, body: &str) -> Self {
        Self::start(answer(status, body)).await
    }

    pub(crate) fn will(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/ask", self.address)
    }

    /// The requests so far, whole.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }

    /// Waits until there were so many requests.
    pub(crate) async fn saw(&self, count: usize) {
        self.seen.clone().wait_for(|seen| seen.len() >= count).await.unwrap();
    }

    /// Waits until so many connections are over.
    pub(crate) async fn hung_up(&self, count: usize) {
        self.closed.clone().wait_for(|closed| *closed >= count).await.unwrap();
    }
}

/// An answer with this status and body.
pub(crate) fn answer(status: u16, body: &str) -> Answer {
    let length = body.len();
    let text = match status {
        204 => format!("HTTP/1.1 {status} x\r\n\r\n"),
        _ => format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}"),
    };
    Answer::Bytes(text.into_bytes().into())
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<Answer>>,
    seen: Arc<watch::Sender<Vec<String>>>,
) {
    if matches!(*answers.lock().unwrap(), Answer::Slam) {
        return;
    }
    while let Some(request) = read_request(&mut stream).await {
        seen.send_modify(|seen| seen.push(request));
        let answer = answers.lock().unwrap().clone();
        match answer {
            Answer::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Answer::Silence => {}
            Answer::Close | Answer::Slam => return,
        }
    }
}

/// Reads one request, head and body; none at the connection's end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
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

/// A resolver that knows no name.
struct Nowhere;

impl Resolver for Nowhere {
    fn lookup(&self, _: Arc<str>) -> BoxFuture<'static, Result<Found, LookupError>> {
        Box::pin(async { Err(LookupError::NoName { ttl: None }) })
    }
}

/// A way out to 127.0.0.1 and nowhere else, that resolves no name.
pub(crate) fn egress() -> Egress {
    Egress::new(EgressOptions {
        policy: EgressPolicy {
            addresses: AddressPolicy::opening(vec!["127.0.0.1/32".parse().unwrap()]),
            allow_http: true,
            ..EgressPolicy::default()
        },
        own: Own::default(),
        pools: Vec::new(),
        resolver: Arc::new(Nowhere),
        extra_roots: None,
        clock: Arc::new(SystemClock),
        limits: EgressLimits::default(),
    })
    .unwrap()
}
