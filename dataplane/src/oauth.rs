//! OAuth 2.0 client credentials (RFC 6749, section 4.4): the token that goes along with a receiver's
//! requests.
//!
//! A receiver with `oauth2` has a [`Client`]. Its token is kept in the node's memory and nowhere else.
//! [`send`] is the one way in which requests to receivers leave, with a token or without:
//!
//! - A token is used until it is refused or has run out. A tenth of its life before the end, a minute
//!   at most, a new one is fetched beside the requests, which go on with the old one.
//! - Requests that find none wait for one fetch, each for three quarters of its time at most: the rest
//!   is the receiver's. The fetch has a time of its own and goes on where all of them leave.
//! - A 401 of the receiver has a new token fetched, and the request goes out once more within the same
//!   attempt if there is as much time left as it took; one that must not arrive twice does not. Where
//!   fresh tokens are refused too, that is done after 1 s, 2 s, 4 s and so on, a minute at most; in
//!   between the 401 is the answer.
//! - The token endpoint is asked once a second at most; after a failure again after 1 s, 2 s, 4 s and
//!   so on, a minute at most. Until then requests fail as that one did, without a word to anybody.
//! - What goes wrong there is of class TOKEN and no answer of the receiver's, an address that may not
//!   be sent to included. A fault of the node's or its egress pool's stays LOCAL or EGRESS.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pregon_core::form;
use pregon_core::limits;
use pregon_core::model::Oauth2Style;
use pregon_core::outcome::ErrorClass;
use pregon_core::secret::SecretBytes;
use pregon_core::url::EndpointUrl;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::egress::{
    Asks, Egress, Exchange, Fault, OutboundRequest, PoolChoice, Resend, Response, Target,
};
use answer::Granted;

mod answer;
#[cfg(test)]
mod tests;

/// Between two fetches for one receiver at least.
const APART: Duration = Duration::from_secs(1);
/// The longest wait after failures, and after tokens that were refused.
const APART_MOST: Duration = Duration::from_secs(60);
/// How long before its end a token is renewed, at most.
const AHEAD_MOST: Duration = Duration::from_secs(60);
/// How long a fetch may take, whoever waits for it and however long.
const FETCH_WITHIN: Duration = Duration::from_secs(10);

/// What a token is asked for with.
pub(crate) struct Grant<'a> {
    /// The name of the subscription or callback, for the log.
    pub(crate) of: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a SecretBytes,
    pub(crate) scopes: &'a [String],
    pub(crate) audience: &'a str,
    pub(crate) style: Oauth2Style,
}

/// A receiver's way to its tokens; clones share them.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    /// Whose it is.
    of: Box<str>,
    /// Of the grant and where it is asked for.
    digest: [u8; 32],
    url: EndpointUrl,
    target: Target,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// What must not be kept of what somebody answers.
    secrets: Vec<SecretBytes>,
    /// Held by whoever fetches.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// When the last fetch began.
    asked: Option<Instant>,
    /// The last fetch failed so.
    failed: Option<Failed>,
    /// Tokens in a row that the receiver refused, and until when the next refusal stands.
    refused: (u32, Option<Instant>),
}

struct Failed {
    fault: Fault,
    /// How many did, in a row.
    times: u32,
    /// When the token endpoint may be asked again.
    until: Instant,
}

struct Token {
    header: HeaderValue,
    text: SecretBytes,
    /// When a new one is to be fetched.
    renew: Instant,
    ends: Instant,
}

impl Client {
    /// A client of the token endpoint of that URL, which `target` leads to.
    ///
    /// # Errors
    ///
    /// What cannot be sent, in words.
    pub(crate) fn new(url: EndpointUrl, target: Target, grant: &Grant<'_>) -> Result<Self, String> {
        let Grant { of, client_id, client_secret, scopes, audience, style } = grant;
        let mut body = Vec::new();
        form::append(&mut body, b"grant_type", b"client_credentials");
        if !scopes.is_empty() {
            form::append(&mut body, b"scope", scopes.join(" ").as_bytes());
        }
        if !audience.is_empty() {
            form::append(&mut body, b"audience", audience.as_bytes());
        }
        let mut secrets = vec![(*client_secret).clone()];
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
            (ACCEPT, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("Pregon/", env!("CARGO_PKG_VERSION")))),
        ];
        match style {
            Oauth2Style::Post => {
                form::append(&mut body, b"client_id", client_id.as_bytes());
                form::append(&mut body, b"client_secret", client_secret.expose());
            }
            // Both are values of a form first (RFC 6749, section 2.3.1).
            Oauth2Style::Basic => {
                let mut pair = Vec::new();
                form::encode(&mut pair, client_id.as_bytes());
                pair.push(b':');
                form::encode(&mut pair, client_secret.expose());
                let encoded = SecretBytes::new(BASE64.encode(&pair).into_bytes());
                let value = [b"Basic ", encoded.expose()].concat();
                secrets.push(encoded);
                headers.push((AUTHORIZATION, sensitive(&value)?));
            }
        }
        let mut digest = Sha256::new();
        let (to, style) = (url.as_str().as_bytes(), style.word().as_bytes());
        for part in [to, body.as_slice(), style, client_id.as_bytes()] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        digest.update(client_secret.expose());
        Ok(Self(Arc::new(Shared {
            of: (*of).into(),
            digest: digest.finalize().into(),
            url,
            target,
            headers,
            body: body.into(),
            secrets,
            turn: Arc::default(),
            state: Mutex::default(),
        })))
    }

    /// Fetches tokens by this choice of egress pools from now on.
    pub(crate) fn put_by(&mut self, choice: &PoolChoice) {
        let now = &self.0;
        let target = now.target.by_another(&now.url, choice);
        if now.target.is_as(&target) {
            return;
        }
        self.0 = Arc::new(Shared {
            of: now.of.clone(),
            digest: now.digest,
            url: now.url.clone(),
            target,
            headers: now.headers.clone(),
            body: now.body.clone(),
            secrets: now.secrets.clone(),
            turn: Arc::default(),
            state: Mutex::default(),
        });
    }

    /// Goes on with the tokens of an older version of it, where nothing has changed that they hang on.
    pub(crate) fn go_on_from(&mut self, older: &Client) {
        if self.0.digest == older.0.digest && self.0.target.is_as(&older.0.target) {
            *self = older.clone();
        }
    }

    /// What must not be kept of what somebody answers, beside tokens.
    pub(crate) fn secrets(&self) -> &[SecretBytes] {
        &self.0.secrets
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for a request that can wait for it until then.
    async fn token(&self, egress: &Egress, until: Instant) -> Result<Arc<Token>, Fault> {
        if let Some(token) = self.usable() {
            if token.renew <= Instant::now() {
                self.renew(egress);
            }
            return Ok(token);
        }
        let turn = timeout_at(until, Arc::clone(&self.0.turn).lock_owned()).await;
        let turn = turn.map_err(|_| late())?;
        // Whoever had the turn before may have left one.
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        self.state().may_ask()?;
        self.fetched(turn, egress, until).await
    }

    /// The token that is there, if it has not run out.
    fn usable(&self) -> Option<Arc<Token>> {
        self.state().token.clone().filter(|token| Instant::now() < token.ends)
    }

    /// Fetches the next token beside the requests, unless somebody does.
    fn renew(&self, egress: &Egress) {
        let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned() else { return };
        if self.state().may_ask().is_ok() {
            self.fetch(turn, egress);
        }
    }

    /// Another token than the one that the receiver refused; none where that is not to be had until
    /// then. The one refused stays until there is another.
    async fn instead_of(
        &self,
        refused: &Arc<Token>,
        egress: &Egress,
        until: Instant,
    ) -> Option<Arc<Token>> {
        let turn = timeout_at(until, Arc::clone(&self.0.turn).lock_owned()).await.ok()?;
        if let Some(token) = self.usable().filter(|token| !Arc::ptr_eq(token, refused)) {
            return Some(token);
        }
        {
            let (mut state, now) = (self.state(), Instant::now());
            state.may_ask().ok()?;
            let (times, stands) = state.refused;
            if stands.is_some_and(|stands| now < stands) {
                return None;
            }
            state.refused = (times.saturating_add(1), Some(now + doubled(times)));
        }
        self.fetched(turn, egress, until).await.ok()
    }

    /// Whether the receiver refused the token; where it answered otherwise it took it.
    fn is_refused(&self, exchange: &Exchange) -> bool {
        let Ok(response) = &exchange.result else { return false };
        let refused = response.status == StatusCode::UNAUTHORIZED;
        if !refused {
            self.state().refused = (0, None);
        }
        refused
    }

    /// Fetches a token and waits for it until then; it goes on for others where that is too short.
    async fn fetched(
        &self,
        turn: OwnedMutexGuard<()>,
        egress: &Egress,
        until: Instant,
    ) -> Result<Arc<Token>, Fault> {
        match timeout_at(until, self.fetch(turn, egress)).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err(fault(ErrorClass::Local, "the fetch broke off")),
            Err(_) => Err(late()),
        }
    }

    /// Fetches a token beside the requests: it hangs on none of them and on the time of none.
    fn fetch(
        &self,
        turn: OwnedMutexGuard<()>,
        egress: &Egress,
    ) -> JoinHandle<Result<Arc<Token>, Fault>> {
        let begun = Instant::now();
        self.state().asked = Some(begun);
        let (client, egress) = (self.clone(), egress.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let fetched = client.ask(&egress, begun).await;
            if let Err(why) = &fetched {
                let (of, class) = (client.0.of.as_ref(), why.class.word());
                tracing::warn!(of, class, why = %why.detail, "no token could be fetched");
            }
            fetched
        })
    }

    /// Asks the token endpoint, and leaves to all what comes of it.
    async fn ask(&self, egress: &Egress, begun: Instant) -> Result<Arc<Token>, Fault> {
        let request = OutboundRequest {
            method: Method::POST,
            target: self.0.target.clone(),
            uri: None,
            headers: self.0.headers.clone(),
            spelled: Vec::new(),
            body: self.0.body.clone(),
            keep: limits::RESPONSE_READ,
            asks: Asks::Whole,
            resend: Resend::IfUnheard,
        };
        let exchange = egress.send(&request, FETCH_WITHIN).await;
        let (answered, later) = match exchange.result {
            Ok(response) => {
                let later = retry_after(&response);
                let read = answer::read(response.status, &response.body, response.truncated);
                let token = read.and_then(|granted| Token::new(&granted, begun));
                (token.map_err(|why| fault(ErrorClass::Token, &why)), later)
            }
            Err(why) => (Err(fault(class(why.class), &why.detail)), Duration::ZERO),
        };
        let mut state = self.state();
        match answered {
            Ok(token) => {
                let token = Arc::new(token);
                state.token = Some(Arc::clone(&token));
                state.failed = None;
                Ok(token)
            }
            Err(fault) => {
                let times = state.failed.as_ref().map_or(0, |failed| failed.times);
                // What is amiss on this side says nothing of the token endpoint.
                let (wait, times) = if fault.class == ErrorClass::Local {
                    (APART, times)
                } else {
                    (doubled(times).max(later), times.saturating_add(1))
                };
                let until = Instant::now() + wait;
                let failed = state.failed.insert(Failed { fault, times, until });
                Err(failed.fault())
            }
        }
    }
}

impl State {
    /// Whether the token endpoint may be asked; else what came of the last time.
    fn may_ask(&self) -> Result<(), Fault> {
        let now = Instant::now();
        if let Some(failed) = self.failed.as_ref().filter(|failed| now < failed.until) {
            return Err(failed.fault());
        }
        match self.asked {
            Some(asked) if now < asked + APART => {
                let again = Some(asked + APART - now);
                Err(Fault { again, ..fault(ErrorClass::Token, "was asked within the second") })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Failed {
    /// The fault of requests until the token endpoint may be asked again.
    fn fault(&self) -> Fault {
        let left = self.until.saturating_duration_since(Instant::now());
        let again = (self.fault.class == ErrorClass::Token).then_some(left);
        Fault { again, ..self.fault.clone() }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Token {
    fn new(granted: &Granted, begun: Instant) -> Result<Self, String> {
        let Granted { token, life } = granted;
        let header = sensitive(&[b"Bearer ", token.expose()].concat())?;
        // However slow the answer was, it is good for the requests that wait for it.
        let ends = (begun + *life).max(Instant::now() + APART);
        let ahead = (*life / 10).min(AHEAD_MOST);
        Ok(Self { header, text: token.clone(), renew: ends - ahead, ends })
    }
}

/// One part in so many of an attempt's time is the receiver's, however long a token takes.
const RECEIVERS_SHARE: u32 = 4;

/// Sends a request to a receiver, with a token where it wants one; `within` covers all of it.
pub(crate) async fn send(
    egress: &Egress,
    client: Option<&Client>,
    request: &OutboundRequest,
    within: Duration,
) -> Exchange {
    let Some(client) = client else { return egress.send(request, within).await };
    let begun = Instant::now();
    let until = begun + within;
    let token = match client.token(egress, until - within / RECEIVERS_SHARE).await {
        Ok(token) => token,
        Err(fault) => return Exchange::unsent(fault, begun.elapsed()),
    };
    let sent = Instant::now();
    let mut exchange = with(egress, &token, request, until).await;
    let mut lent = vec![token.text.clone()];
    if client.is_refused(&exchange) {
        // What must not arrive twice waits for nothing: the new token is for those that follow.
        let twice = request.resend == Resend::IfUnheard;
        let now = Instant::now();
        let latest = if twice { until.checked_sub(now - sent).unwrap_or(now) } else { now };
        let next = client.instead_of(&token, egress, latest).await;
        if let Some(next) = next.filter(|_| twice && Instant::now() <= latest) {
            exchange = with(egress, &next, request, until).await;
            exchange.resent = true;
            lent.push(next.text.clone());
            client.is_refused(&exchange);
        }
    }
    exchange.lent = lent;
    exchange.took(begun.elapsed());
    exchange
}

async fn with(
    egress: &Egress,
    token: &Token,
    request: &OutboundRequest,
    until: Instant,
) -> Exchange {
    let mut request = request.clone();
    request.headers.push((AUTHORIZATION, token.header.clone()));
    egress.send(&request, until.saturating_duration_since(Instant::now())).await
}

/// What a fault on the way to the token endpoint counts as.
fn class(of: ErrorClass) -> ErrorClass {
    match of {
        ErrorClass::Local | ErrorClass::Egress => of,
        ErrorClass::Dns
        | ErrorClass::Connect
        | ErrorClass::Tls
        | ErrorClass::Timeout
        | ErrorClass::Protocol
        | ErrorClass::Status
        | ErrorClass::Denied
        | ErrorClass::Token => ErrorClass::Token,
    }
}

fn fault(class: ErrorClass, why: &str) -> Fault {
    Fault::new(class, format!("token endpoint: {why}"))
}

/// The fault of a request whose own time for it is up.
fn late() -> Fault {
    fault(ErrorClass::Token, "no token in time")
}

/// How long the token endpoint asks to be left alone, in seconds; a minute at most.
fn retry_after(response: &Response) -> Duration {
    let text = response.retry_after().map(str::trim).unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that are no u64 ask for more than any wait.
    let seconds = if digits { text.parse().unwrap_or(u64::MAX) } else { 0 };
    Duration::from_secs(seconds).min(APART_MOST)
}

/// The wait after so many failures before this one.
fn doubled(times: u32) -> Duration {
    APART.saturating_mul(2u32.saturating_pow(times)).min(APART_MOST)
}

fn sensitive(value: &[u8]) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(value).map_err(|_| "is no header's value")?;
    value.set_sensitive(true);
    Ok(value)
}
