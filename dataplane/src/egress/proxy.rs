//! Proxies: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! A proxy is told the address that was judged, never a name, so that it looks nothing up. What it
//! answers is read within bounds. Which of its refusals are the receiver's: with SOCKS5 the two
//! replies that speak of the host, "host unreachable" and "connection refused". Every other one,
//! and whatever an HTTP proxy answers but 2xx, is the proxy's: a 502 does not tell whether the
//! receiver is down or the proxy is. So it is with time: a SOCKS5 proxy that has let us in and been
//! asked, and then is silent, waits for the receiver, whom that is charged to. An HTTP proxy that is
//! silent does not tell what it waits for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pregon_core::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

/// A proxy, as it is set up.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who asks; none: nobody in particular.
    pub login: Option<Login>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP/1.1, method CONNECT.
    Connect,
    /// SOCKS5.
    Socks5,
}

/// Who asks a proxy.
#[derive(Clone)]
pub struct Login {
    /// User name, without a colon, 1 to 255 bytes.
    pub user: String,
    /// Password, 1 to 255 bytes.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no way through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The proxy says that the receiver cannot be reached.
    Receiver(&'static str),
    /// The proxy does not, or cannot, do its part.
    Proxy(String),
}

impl Refused {
    fn proxy(why: &str) -> Self {
        Refused::Proxy(why.to_owned())
    }
}

/// Asks a proxy for a way to an address.
pub(super) async fn through(
    options: &ProxyOptions,
    tcp: TcpStream,
    remote: SocketAddr,
    asked: &Asked,
) -> Result<TcpStream, Refused> {
    match options.kind {
        ProxyKind::Connect => connect(tcp, remote, options.login.as_ref()).await,
        ProxyKind::Socks5 => socks5(tcp, remote, options.login.as_ref(), asked).await,
    }
}

async fn connect(
    tcp: TcpStream,
    remote: SocketAddr,
    login: Option<&Login>,
) -> Result<TcpStream, Refused> {
    let broken = |_: hyper::Error| Refused::proxy("its proxy gave no answer that is HTTP");
    let (mut sender, driver) = http1::Builder::new()
        .max_buf_size(limits::RESPONSE_HEADERS_LEN)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(tcp))
        .await
        .map_err(broken)?;
    let mut driver = std::pin::pin!(driver.with_upgrades());
    let request =
        request(remote, login).map_err(|_| Refused::proxy("no request fits its proxy"))?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut driven = None;
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // With the answer's last byte, or without one.
        ended = &mut driver => {
            driven = Some(ended);
            answer.await
        }
    };
    let answer = answer.map_err(broken)?;
    let status = answer.status().as_u16();
    match status {
        200..300 => {}
        401 | 407 => {
            let why = format!("its proxy does not accept the user or the password ({status})");
            return Err(Refused::Proxy(why));
        }
        _ => return Err(Refused::Proxy(format!("its proxy answered CONNECT with {status}"))),
    }
    let upgrade = hyper::upgrade::on(answer);
    let (handed, upgraded) = match driven {
        Some(handed) => (handed, upgrade.await),
        None => tokio::join!(driver, upgrade),
    };
    handed.map_err(broken)?;
    let parts = upgraded.map_err(broken)?.downcast::<TokioIo<TcpStream>>();
    let parts = parts.map_err(|_| Refused::proxy("the connection was lost"))?;
    match parts.read_buf.is_empty() {
        true => Ok(parts.io.into_inner()),
        // Nobody was asked anything yet.
        false => Err(Refused::proxy("its proxy says more than its answer")),
    }
}

fn request(remote: SocketAddr, login: Option<&Login>) -> http::Result<Request<Empty<Bytes>>> {
    let authority = remote.to_string();
    let mut request = Request::connect(&authority).header(HOST, &authority);
    if let Some(Login { user, password }) = login {
        let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
        let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let mut value = HeaderValue::try_from(text.as_str())?;
        value.set_sensitive(true);
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(Empty::new())
}

async fn socks5(
    tcp: TcpStream,
    remote: SocketAddr,
    login: Option<&Login>,
    asked: &Asked,
) -> Result<TcpStream, Refused> {
    let tcp = LetIn { tcp, asked, heard: Vec::with_capacity(LetIn::LONGEST) };
    let made = match login {
        None => Socks5Stream::connect_with_socket(tcp, remote).await,
        Some(Login { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(tcp, remote, user, password).await
        }
    };
    made.map(|made| made.into_inner().tcp).map_err(|error| refused(&error))
}

/// Whether a proxy was asked for a way to the receiver, and now waits for it.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicBool);

impl Asked {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection to a SOCKS5 proxy that notes when the proxy has let us in: what is written after
/// that is the request.
struct LetIn<'a> {
    tcp: TcpStream,
    asked: &'a Asked,
    /// What it has said, up to that.
    heard: Vec<u8>,
}

impl LetIn<'_> {
    /// Bytes that it says at most before the request: the method (RFC 1928 section 3), and whether
    /// the password is right (RFC 1929 section 2).
    const LONGEST: usize = 4;

    fn is_in(&self) -> bool {
        matches!(self.heard[..], [_, 0, ..] | [_, 2, _, 0])
    }
}

impl AsyncRead for LetIn<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut it.tcp).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let room = Self::LONGEST.saturating_sub(it.heard.len());
        it.heard.extend(fresh.iter().take(room));
        read
    }
}

impl AsyncWrite for LetIn<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let it = self.get_mut();
        let written = Pin::new(&mut it.tcp).poll_write(cx, bytes);
        if it.is_in() && matches!(written, Poll::Ready(Ok(_))) {
            it.asked.0.store(true, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary
fn refused(error: &tokio_socks::Error) -> Refused {
    use tokio_socks::Error;
    let proxy = match error {
        Error::HostUnreachable => return Refused::Receiver("host unreachable, says the proxy"),
        Error::ConnectionRefused => {
            return Refused::Receiver("connection refused, says the proxy");
        }
        Error::NoAcceptableAuthMethods
        | Error::UnknownAuthMethod
        | Error::AuthorizationRequired
        | Error::InvalidAuthValues(_)
        | Error::PasswordAuthFailure(_) => "its proxy does not accept the user or the password",
        Error::ConnectionNotAllowedByRuleset => "its proxy's rules forbid the receiver",
        Error::NetworkUnreachable => "its proxy does not reach the receiver's network",
        Error::GeneralSocksServerFailure => "its proxy failed",
        Error::TtlExpired => "its proxy's request took too many hops",
        Error::CommandNotSupported | Error::AddressTypeNotSupported => {
            "its proxy does not know the request"
        }
        Error::Io(_) => "its proxy closed the connection",
        _ => "its proxy gave no answer that is SOCKS5",
    };
    Refused::proxy(proxy)
}
