//! What goes in and what comes out: the request, the response or fault, and the clock of stages.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use http_body_util::Full;
use pregon_core::attempt::{ResponseHead, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::outcome::ErrorClass;
use pregon_core::rate_headers;
use pregon_core::secret::SecretBytes;
use tokio::time::Instant;

use super::fault::Fault;
use super::target::{Plan, Target};

/// When a request that failed on a connection that had been idle may go out again, over a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// No byte of a response came: for requests that bear an id by which a repeat is known.
    IfUnheard,
    /// No byte of the request left: for requests that must not arrive twice.
    IfUnsent,
}

/// What the caller looks at in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The status. It decides as soon as its line is there: a head that cannot be read and a body
    /// that does not end in time cost the connection and no more.
    Status,
    /// All of it.
    Whole,
}

/// One request.
#[derive(Clone)]
pub struct OutboundRequest {
    /// How.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// Path and query, where they are not those of the target's URL.
    pub uri: Option<Uri>,
    /// The headers, in order. Those that frame the message or belong to the connection (`host`,
    /// `content-length`, `accept-encoding`, …) are egress's own and are left out here.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Names of headers that go out with capitals, as they are written then.
    pub spelled: Vec<Arc<str>>,
    /// The body, sent as it is.
    pub body: Bytes,
    /// How much of the response's body the caller wants to see: [`pregon_core::limits::RESPONSE_KEPT`] for a
    /// delivery, up to [`pregon_core::limits::RESPONSE_READ`] for a callback, whose answer is in the body.
    pub keep: usize,
    /// What the caller looks at.
    pub asks: Asks,
    /// When it may go out again behind the caller's back.
    pub resend: Resend,
}

impl OutboundRequest {
    /// The message as it goes out. Made anew for a re-send, which is rare, so that the usual case
    /// pays for one header map only.
    pub(super) fn message(&self, plan: &Plan) -> Request<Full<Bytes>> {
        let mut message = Request::new(Full::new(self.body.clone()));
        *message.method_mut() = self.method.clone();
        *message.uri_mut() = self.uri.as_ref().unwrap_or(&plan.uri).clone();
        *message.version_mut() = Version::HTTP_11;
        let headers = message.headers_mut();
        headers.reserve(self.headers.len() + 3);
        headers.append(header::HOST, plan.host_header.clone());
        for (name, value) in &self.headers {
            if !is_ours(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        message
    }
}

/// Headers that a caller cannot set: they frame the message or speak for the connection, so a
/// wrong one would break the next request on it.
fn is_ours(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::ACCEPT_ENCODING,
        header::UPGRADE,
        header::EXPECT,
        header::TE,
        header::TRAILER,
    ];
    OURS.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// What the receiver answered.
#[derive(Debug)]
pub struct Response {
    /// The status; also that of a response whose body could not be read to its end.
    pub status: StatusCode,
    /// All headers, within the head's limits. Hostile data, like the body.
    pub headers: HeaderMap,
    /// The first bytes of the body, as many as the request wanted kept.
    pub body: Bytes,
    /// There was more body than is kept, or it broke off.
    pub truncated: bool,
    /// Why reading ended before the answer did.
    pub cut: Option<Cut>,
}

/// Why reading ended before the answer did, although its status decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The head cannot be read.
    Head,
    /// The time was up.
    Time,
}

impl Response {
    /// An answer of which nothing but the status could be read.
    pub(super) fn bare(status: u16, cut: Cut) -> Option<Self> {
        let status = StatusCode::from_u16(status).ok()?;
        let (headers, body) = Default::default();
        Some(Self { status, headers, body, truncated: true, cut: Some(cut) })
    }

    /// `retry-after`, if there is one in visible ASCII; `pregon_core::retry_after` reads it.
    pub fn retry_after(&self) -> Option<&str> {
        self.headers.get(header::RETRY_AFTER)?.to_str().ok()
    }

    /// How long it says that its receiver has nothing left of a rate.
    pub fn pause(&self, now: Timestamp) -> Option<Duration> {
        rate_headers::pause(|name| self.headers.get(name)?.to_str().ok(), now)
    }

    /// Its headers as text: names in lower case, what is no UTF-8 in values as U+FFFD.
    pub fn header_lines(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let lines = self.headers.iter();
        lines.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
    }

    /// What is kept of it, with `most` bytes of the body: [`pregon_core::limits::RESPONSE_KEPT`] for the log.
    pub fn into_head(self, most: usize) -> ResponseHead {
        let kept = self.body.len().min(most);
        ResponseHead {
            headers: self.header_lines(),
            body: self.body[..kept].to_vec(),
            truncated: self.truncated || kept < self.body.len(),
        }
    }
}

/// One request and how it went.
#[derive(Debug)]
pub struct Exchange {
    /// The response, or why there is none.
    pub result: Result<Response, Fault>,
    /// How long each stage took.
    pub timing: Timing,
    /// The address that was connected to, or tried last.
    pub remote: Option<SocketAddr>,
    /// It went over a connection that had been used before.
    pub reused: bool,
    /// It went out twice: the connection that it took first was closed under it, or its token was
    /// refused.
    pub resent: bool,
    /// Tokens that went along and stand in no document: nothing that holds one is kept.
    pub lent: Vec<SecretBytes>,
}

impl Exchange {
    /// That of a request that was not sent for want of something, after that time.
    pub(crate) fn unsent(fault: Fault, took: Duration) -> Self {
        let mut exchange = Progress::start().finish(Err(fault));
        exchange.took(took);
        exchange
    }

    /// Says how long all of it took, what went before it included.
    pub(crate) fn took(&mut self, took: Duration) {
        self.timing.total = micros(took);
    }
}

/// What a request waits for; says in a timeout's detail how far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Resolve,
    Connect,
    /// As [`Stage::Connect`], by a proxy.
    Proxy,
    Handshake,
    Head,
    Body(StatusCode),
}

impl Stage {
    /// The fault of an attempt whose time ran out here.
    pub(super) fn timeout(self) -> Fault {
        let detail = match self {
            Stage::Resolve => Cow::Borrowed("time ran out while the name was resolved"),
            Stage::Connect => Cow::Borrowed("time ran out while connecting"),
            Stage::Proxy => Cow::Borrowed("time ran out while the proxy was connecting"),
            Stage::Handshake => Cow::Borrowed("time ran out in the TLS handshake"),
            Stage::Head => Cow::Borrowed("no response in time"),
            Stage::Body(status) => Cow::Owned(format!(
                "the response with status {} did not end in time",
                status.as_u16()
            )),
        };
        let class = match self {
            Stage::Proxy => ErrorClass::Egress,
            Stage::Resolve | Stage::Connect | Stage::Handshake | Stage::Head | Stage::Body(_) => {
                ErrorClass::Timeout
            }
        };
        Fault::new(class, detail)
    }
}

/// The notes of an exchange under way. They outlive the exchange's future, so that an attempt
/// whose time runs out can still tell where.
#[derive(Debug)]
pub(super) struct Progress {
    pub stage: Stage,
    pub timing: Timing,
    pub remote: Option<SocketAddr>,
    pub reused: bool,
    pub resent: bool,
    start: Instant,
}

impl Progress {
    pub fn start() -> Self {
        Self {
            stage: Stage::Resolve,
            timing: Timing::default(),
            remote: None,
            reused: false,
            resent: false,
            start: Instant::now(),
        }
    }

    pub fn finish(mut self, result: Result<Response, Fault>) -> Exchange {
        self.timing.total = micros(self.start.elapsed());
        let Self { timing, remote, reused, resent, .. } = self;
        Exchange { result, timing, remote, reused, resent, lent: Vec::new() }
    }
}

/// Whole microseconds, as [`Timing`] counts them.
pub(crate) fn micros(stretch: Duration) -> u32 {
    u32::try_from(stretch.as_micros()).unwrap_or(u32::MAX)
}
