//! One exchange with a KMS: a connection of its own, a request, and the whole answer within bounds.
//!
//! The address is the operator's, as Redis's is: it is dialled as the system resolves it, and what guards
//! against the URLs of tenants, the egress policy, has no part in it. A KMS usually is where that policy
//! lets nobody go: on this machine or in the private network. Nothing else of it is lax: names and times
//! of certificates are verified, redirects are not followed, no proxy setting of the environment is read,
//! and clear text is for loopback only.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::trouble::Trouble;

/// How long an exchange may take, from the lookup to the last byte: a KMS answers in milliseconds, and
/// room is left for two lost packets.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: a key makes 200, an error some hundred.
const ANSWER_LEN: usize = 64 * 1024;

/// Where a KMS is: `https://HOST:PORT`, or `http://…` on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: Arc<str>,
    tls: bool,
    host: Box<str>,
    port: u16,
}

/// Why text is no address of a KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Its form.
    #[error("must be https://HOST:PORT, or http://… on loopback, with no path")]
    Form,
    /// Clear text on a network.
    #[error("must be https:// beyond loopback: the token and the keys would travel in clear")]
    Clear,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let uri: Uri = text.parse().map_err(|_| BadAddress::Form)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(BadAddress::Form),
        };
        let authority = uri.authority().ok_or(BadAddress::Form)?;
        let bare = uri.path_and_query().is_none_or(|path| path == "/");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if !bare || host.is_empty() || authority.as_str().contains('@') {
            return Err(BadAddress::Form);
        }
        // A port that is no number is none to `http`.
        let named = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err(BadAddress::Form),
            Some(port) => port,
            None if named => return Err(BadAddress::Form),
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
        };
        let loopback = host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback());
        if !tls && !loopback {
            return Err(BadAddress::Clear);
        }
        let text = text.trim_end_matches('/').into();
        Ok(Self { text, tls, host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Address {
    /// Host and port: what no receiver's URL may lead to.
    pub fn endpoint(&self) -> (String, u16) {
        (self.host.to_string(), self.port)
    }

    /// The same, shared.
    pub(super) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

/// What is asked.
pub(super) struct Ask {
    pub(super) method: Method,
    /// Behind `/v1/`.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON; it may hold a key.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// What came. It may hold a key: it is wiped where it was gathered. What the layers below had in their
/// buffers is not.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// The way to a KMS.
pub(super) struct Exchanger {
    address: Address,
    /// None: it speaks no TLS.
    tls: Option<TlsConnector>,
}

impl Exchanger {
    /// The way to this address, which is believed by these roots; none: by the web's.
    ///
    /// # Errors
    ///
    /// A root cannot be one.
    pub(super) fn new(
        address: Address,
        roots: Option<&[CertificateDer<'static>]>,
    ) -> Result<Self, rustls::Error> {
        let tls = match address.tls {
            true => Some(connector(roots)?),
            false => None,
        };
        Ok(Self { address, tls })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks, and reads the answer.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, Trouble> {
        timeout(TIME, self.dial(ask)).await.unwrap_or(Err(Trouble::Slow { time: TIME }))
    }

    async fn dial(&self, ask: Ask) -> Result<Answer, Trouble> {
        let Address { host, port, .. } = &self.address;
        let looked = lookup_host((&**host, *port)).await;
        let found: Vec<_> = looked.map_err(|_| Trouble::Unresolved)?.collect();
        let tcp = connect(&found).await?;
        let Some(tls) = &self.tls else { return self.speak(tcp, ask).await };
        let name = ServerName::try_from(host.to_string()).map_err(|_| Trouble::TlsName)?;
        let stream = tls.connect(name, tcp).await.map_err(|error| untrusted(&error))?;
        self.speak(stream, ask).await
    }

    async fn speak<S>(&self, stream: S, ask: Ask) -> Result<Answer, Trouble>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(ANSWER_LEN);
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|_| Trouble::Strange { why: "no HTTP" })?;
        let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
        let unfit = |_| Trouble::Strange { why: "what is set makes no request" };
        let request = self.request(ask).map_err(unfit)?;
        let answered = sender.send_request(request).await;
        let answered = answered.map_err(|_| Trouble::Strange { why: "no HTTP" })?;
        let (head, body) = answered.into_parts();
        Ok(Answer { status: head.status, body: read(body).await? })
    }

    fn request(&self, ask: Ask) -> http::Result<Request<Full<Bytes>>> {
        let Ask { method, path, headers, body } = ask;
        let Address { host, port, .. } = &self.address;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/{path}"))
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, concat!("Pregon/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // Wiped once the transport lets go of it.
        request.body(Full::new(Bytes::from_owner(body)))
    }
}

fn connector(roots: Option<&[CertificateDer<'static>]>) -> Result<TlsConnector, rustls::Error> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(roots) => {
            for root in roots {
                trusted.add(root.clone())?;
            }
        }
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Reads a body that has an end within the bound.
async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    // All of it from the start: a growing buffer would leave a key behind.
    let mut kept = Zeroizing::new(Vec::with_capacity(ANSWER_LEN));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Trouble::Strange { why: "its answer breaks off" })?;
        let Some(data) = frame.data_ref() else { continue };
        if kept.len() + data.len() > ANSWER_LEN {
            return Err(Trouble::Strange { why: "its answer is longer than 64 KiB" });
        }
        kept.extend_from_slice(data);
    }
    Ok(kept)
}

/// Connects to the first address that takes a connection. Each has its part of the time: one that drops
/// packets does not hide the others.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Trouble> {
    let part = TIME / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut last = Trouble::Unresolved;
    for address in addresses {
        last = match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => unreached(&error),
            Err(_) => Trouble::Slow { time: part },
        };
    }
    Err(last)
}

fn unreached(error: &io::Error) -> Trouble {
    match error.kind() == io::ErrorKind::ConnectionRefused {
        true => Trouble::Refused,
        false => Trouble::Unreachable { why: error.to_string() },
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn untrusted(error: &io::Error) -> Trouble {
    use CertificateError as C;
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            C::UnknownIssuer => Trouble::TlsIssuer,
            C::BadSignature => Trouble::TlsSignature,
            C::NotValidForName | C::NotValidForNameContext { .. } => Trouble::TlsName,
            C::Expired
            | C::ExpiredContext { .. }
            | C::NotValidYet
            | C::NotValidYetContext { .. } => Trouble::TlsTime,
            _ => Trouble::Tls { why: error.to_string() },
        },
        Some(_) | None => Trouble::Tls { why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_on_loopback() {
        for (good, host, port, tls) in [
            ("https://vault.internal:8200", "vault.internal", 8200, true),
            ("https://vault.internal/", "vault.internal", 443, true),
            ("https://[::1]:8200", "::1", 8200, true),
            ("http://127.0.0.1:8200", "127.0.0.1", 8200, false),
            ("http://[::1]:8100/", "::1", 8100, false),
            ("http://localhost", "localhost", 80, false),
        ] {
            let address: Address = good.parse().unwrap();
            assert_eq!((&*address.host, address.port, address.tls), (host, port, tls), "{good}");
            assert_eq!(address.to_string(), good.trim_end_matches('/'));
        }
        for (bad, why) in [
            ("vault.internal:8200", BadAddress::Form),
            ("ftp://vault.internal", BadAddress::Form),
            ("https://", BadAddress::Form),
            ("https://vault.internal/v1", BadAddress::Form),
            ("https://vault.internal?x", BadAddress::Form),
            ("https://user@vault.internal", BadAddress::Form),
            ("https://vault.internal:0", BadAddress::Form),
            ("https://vault.internal:99999", BadAddress::Form),
            ("http://vault.internal:8200", BadAddress::Clear),
            ("http://10.0.0.1", BadAddress::Clear),
            ("http://localhost.example", BadAddress::Clear),
        ] {
            assert_eq!(bad.parse::<Address>(), Err(why), "{bad}");
        }
    }
}
