//! A transit engine that a test writes the answers of.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::TransitOptions;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A server on a port of loopback, which ends with the test.
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers with status and body.
    pub async fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::over(None, answer).await
    }

    /// The same over TLS.
    pub async fn over(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                    async move {
                        let asked = read(request).await;
                        let (status, body) = answer(&asked);
                        kept.lock().unwrap().push(asked);
                        let mut response = Response::new(Full::new(Bytes::from(body)));
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        Ok::<_, hyper::Error>(response)
                    }
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let serve = http1::Builder::new();
                    match tls {
                        None => drop(serve.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(serve.serve_connection(TokioIo::new(stream), service).await);
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// How it is reached.
    pub fn options(&self) -> TransitOptions {
        TransitOptions {
            address: self.address.parse().unwrap(),
            key: "pregon".into(),
            mount: "transit".into(),
            token_file: None,
            namespace: None,
            ca_pem: None,
        }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let line = format!("{} {}", request.method(), request.uri());
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Asked { line, headers: head.headers, body }
}

/// An error as Vault gives it.
pub fn error(text: &str) -> String {
    json!({"errors": [text]}).to_string()
}

/// What a transit engine answers whose key has this version: what it wraps is base64 of base64, and
/// opens to what was wrapped.
pub fn engine(version: u32, asked: &Asked) -> (u16, String) {
    let field = |name: &str| asked.body[name].as_str().unwrap_or_default();
    let wrap = |text: &str| {
        let wrapped = format!("vault:v{version}:{}", STANDARD.encode(text));
        (200, json!({"data": {"ciphertext": wrapped, "key_version": version}}).to_string())
    };
    let open = || {
        let (_, base64) = field("ciphertext").rsplit_once(':').unwrap();
        String::from_utf8(STANDARD.decode(base64).unwrap()).unwrap()
    };
    match asked.line.as_str() {
        "POST /v1/transit/encrypt/pregon" => wrap(field("plaintext")),
        "POST /v1/transit/rewrap/pregon" => wrap(&open()),
        "POST /v1/transit/decrypt/pregon" => {
            (200, json!({"data": {"plaintext": open()}}).to_string())
        }
        other => (404, error(&format!("no handler for route {other}"))),
    }
}
