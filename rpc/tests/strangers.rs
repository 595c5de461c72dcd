//! A guarded listener on port 0, as strangers and friends see it: real TLS, files that change.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pregon_core::clock::SystemClock;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listen, Listener, Server, TlsFiles};
use pregon_rpc::tokens::{Grant, NewToken};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use tower::service_fn;

/// Every wait of a test that should not take long; a reload takes some two seconds of it.
const SOON: Duration = Duration::from_secs(20);

/// A certificate authority that makes certificates for `localhost`.
struct Authority {
    cert: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
struct Pair {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        Self { cert, issuer: Issuer::new(params, key) }
    }

    fn pair(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn token(role: &str, seed: u8) -> NewToken {
    let grant = Grant { name: role.into(), role: role.into(), ..Grant::default() };
    grant.issue(|bytes| bytes.fill(seed)).unwrap()
}

/// A server whose files lie in a directory of the test.
struct Guarded {
    dir: TempDir,
    addr: SocketAddr,
    _end: DropGuard,
}

impl Guarded {
    async fn start(pair: &Pair, client_ca: Option<&Authority>, tokens: &[&NewToken]) -> Self {
        Self::within(Limits { connections: 64, ..Limits::default() }, pair, client_ca, tokens).await
    }

    async fn within(
        limits: Limits,
        pair: &Pair,
        client_ca: Option<&Authority>,
        tokens: &[&NewToken],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            cert: at("cert.pem"),
            key: at("key.pem"),
            client_ca: client_ca.map(|_| at("ca.pem")),
        };
        if let Some(ca) = client_ca {
            std::fs::write(at("ca.pem"), ca.cert.pem()).unwrap();
        }
        write_pair(&dir, pair);
        write_tokens(&dir, tokens);
        let addr = "127.0.0.1:0".parse().unwrap();
        let tokens = Some(at("tokens"));
        let listen = Listen { addr, tls: Some(files), tokens, keys: false, allow_plaintext: false };
        let listener = Listener::bind(listen, Arc::new(SystemClock)).await.unwrap();
        let server = Server::new(&[], &[], Revision::none(), limits).unwrap();
        let ready = server.on(listener).await.unwrap();
        let (addr, shutdown) = (ready.local_addr(), CancellationToken::new());
        ready.health().set_all(true).await;
        tokio::spawn(ready.serve(shutdown.clone()));
        Self { dir, addr, _end: shutdown.drop_guard() }
    }

    /// A connection of a client that trusts `authority` and shows `own`.
    async fn connect(
        &self,
        authority: &Authority,
        own: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let connector = connector(authority, own);
        let addr = self.addr;
        let connect = service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(addr).await?;
                let name = ServerName::try_from("localhost").unwrap();
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await
    }
}

fn write_pair(dir: &TempDir, pair: &Pair) {
    std::fs::write(dir.path().join("cert.pem"), &pair.cert).unwrap();
    std::fs::write(dir.path().join("key.pem"), &pair.key).unwrap();
}

fn write_tokens(dir: &TempDir, tokens: &[&NewToken]) {
    let lines: Vec<_> = tokens.iter().map(|token| token.line.as_str()).collect();
    let new: PathBuf = dir.path().join("tokens.new");
    std::fs::write(&new, lines.join("\n")).unwrap();
    std::fs::rename(new, dir.path().join("tokens")).unwrap();
}

fn connector(authority: &Authority, own: Option<&Pair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(Pair { cert, key }) => builder
            .with_client_auth_cert(
                CertificateDer::pem_slice_iter(cert.as_bytes()).map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn with_token<T>(message: T, token: &NewToken) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {}", token.token.as_str()).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

async fn check(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(drop)
}

/// A call that wants a valid token.
async fn watch(
    channel: &Channel,
    token: Option<&NewToken>,
) -> Result<tonic::Streaming<tonic_health::pb::HealthCheckResponse>, Status> {
    let ask = HealthCheckRequest::default();
    let ask = match token {
        None => Request::new(ask),
        Some(token) => with_token(ask, token),
    };
    HealthClient::new(channel.clone()).watch(ask).await.map(tonic::Response::into_inner)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// Tries again until something is so.
async fn becomes(what: &str, is: impl AsyncFn() -> bool) {
    let until = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, until).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

#[tokio::test]
async fn probes_are_answered_and_strangers_are_not() {
    let (authority, known) = (Authority::new(), token("viewer", 1));
    let server = Guarded::start(&authority.pair(), None, &[&known]).await;
    let channel = server.connect(&authority, None).await.unwrap();
    check(&channel).await.unwrap();
    let refused = watch(&channel, None).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unauthenticated, "CREDENTIAL_MISSING".into())
    );
    let refused = watch(&channel, Some(&token("viewer", 2))).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unauthenticated, "CREDENTIAL_INVALID".into())
    );
    watch(&channel, Some(&known)).await.unwrap().message().await.unwrap().unwrap();

    // Who does not know the authority is not spoken to, and plain text is not understood.
    assert!(server.connect(&Authority::new(), None).await.is_err());
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut said)).await.expect("is closed");
    // An alert at most (RFC 8446 section 5.1: record type 21), and nothing of HTTP/2.
    assert!(said.is_empty() || said[0] == 21, "{said:?}");
    check(&channel).await.unwrap();
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_get_through() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let known = token("viewer", 1);
    let server = Guarded::start(&authority.pair(), Some(&clients), &[&known]).await;
    let allowed = server.connect(&authority, Some(&clients.pair())).await.unwrap();
    check(&allowed).await.unwrap();
    assert!(watch(&allowed, None).await.is_err(), "a certificate is no token");
    watch(&allowed, Some(&known)).await.unwrap();
    // A handshake of TLS 1.3 ends for the client before the server has seen its certificate, so the
    // refusal may come with the first call.
    for own in [None, Some(&Authority::new().pair())] {
        if let Ok(channel) = server.connect(&authority, own).await {
            assert!(check(&channel).await.is_err());
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_to_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let known = token("viewer", 1);
    let server = Guarded::start(&old.pair(), None, &[&known]).await;
    let before = server.connect(&old, None).await.unwrap();
    check(&before).await.unwrap();
    // The key of another certificate: the last good pair stays.
    std::fs::write(server.dir.path().join("key.pem"), new.pair().key).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await; // as long as a reload could take, twice
    check(&server.connect(&old, None).await.unwrap()).await.unwrap();

    write_pair(&server.dir, &new.pair());
    becomes("the new certificate", async || server.connect(&new, None).await.is_ok()).await;
    assert!(server.connect(&old, None).await.is_err());
    check(&before).await.unwrap(); // what was open stays open
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_its_streams_too() {
    let authority = Authority::new();
    let (goes, stays, comes) = (token("viewer", 1), token("admin", 2), token("operator", 3));
    let server = Guarded::start(&authority.pair(), None, &[&goes, &stays]).await;
    let channel = server.connect(&authority, None).await.unwrap();
    let mut going = watch(&channel, Some(&goes)).await.unwrap();
    let mut staying = watch(&channel, Some(&stays)).await.unwrap();
    going.next().await.unwrap().unwrap();
    staying.next().await.unwrap().unwrap();
    assert!(watch(&channel, Some(&comes)).await.is_err());

    write_tokens(&server.dir, &[&stays, &comes]);
    let ended = timeout(SOON, going.next()).await.expect("ends").unwrap().unwrap_err();
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::Unauthenticated, "CREDENTIAL_INVALID".into())
    );
    assert!(watch(&channel, Some(&goes)).await.is_err());
    watch(&channel, Some(&comes)).await.unwrap();
    // A file that cannot be used changes nothing.
    std::fs::write(server.dir.path().join("tokens"), "nobody").unwrap();
    assert!(timeout(Duration::from_secs(4), staying.next()).await.is_err());
    watch(&channel, Some(&comes)).await.unwrap();
}

/// Peers that open connections and say nothing take a part of the places, and make room for others.
#[tokio::test]
async fn silence_keeps_out_neither_those_who_are_in_nor_those_who_come() {
    let (authority, known) = (Authority::new(), token("viewer", 1));
    let limits = Limits { connections: 8, ..Limits::default() };
    let server = Guarded::within(limits, &authority.pair(), None, &[&known]).await;
    let channel = server.connect(&authority, None).await.unwrap();
    watch(&channel, Some(&known)).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    // Of eight places two are for silent ones: four of the six are closed.
    let mut open = 0;
    for tcp in &mut silent {
        let closed = timeout(Duration::from_millis(500), tcp.read(&mut [0])).await;
        open += usize::from(closed.is_err());
    }
    assert_eq!(open, 2);
    check(&channel).await.unwrap();
    let newcomer = server.connect(&authority, None).await.unwrap();
    watch(&newcomer, Some(&known)).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn one_credential_does_not_use_up_what_all_have() {
    let (authority, viewer, publisher) =
        (Authority::new(), token("viewer", 1), token("publisher", 2));
    let limits = Limits { calls: 8, ..Limits::default() };
    let server = Guarded::within(limits, &authority.pair(), None, &[&viewer, &publisher]).await;
    let channel = server.connect(&authority, None).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(watch(&channel, Some(&viewer)).await.unwrap());
    }
    let refused = watch(&channel, Some(&viewer)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, "LOAD_SHED".into()));
    assert!(refused.message().contains("viewer has 2 calls"), "{refused}");
    watch(&channel, Some(&publisher)).await.unwrap();
    held.pop();
    becomes("room", async || watch(&channel, Some(&viewer)).await.is_ok()).await;
}

#[tokio::test]
async fn strangers_have_a_few_probes_at_once_and_others_are_answered() {
    let (authority, known) = (Authority::new(), token("viewer", 1));
    let server = Guarded::start(&authority.pair(), None, &[&known]).await;
    let hanging = server.connect(&authority, None).await.unwrap();
    // Probes whose message never comes.
    let probe = || {
        let mut grpc = tonic::client::Grpc::new(hanging.clone());
        async move {
            grpc.ready().await.unwrap();
            let path = "/grpc.health.v1.Health/Check".parse().unwrap();
            let codec: tonic_prost::ProstCodec<
                HealthCheckRequest,
                tonic_health::pb::HealthCheckResponse,
            > = tonic_prost::ProstCodec::default();
            let asks = Request::new(tokio_stream::pending());
            grpc.streaming(asks, path, codec).await.map(drop)
        }
    };
    let mut probes = tokio::task::JoinSet::new();
    for _ in 0..9 {
        probes.spawn(probe());
    }
    let refused = timeout(SOON, probes.join_next()).await.expect("answers").unwrap();
    assert_eq!(reason(&refused.unwrap().unwrap_err()), "LOAD_SHED");
    check(&server.connect(&authority, None).await.unwrap()).await.unwrap();
}
