use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::super::testing::{Server, engine, error};
use super::*;

fn key() -> SecretBytes {
    SecretBytes::new(vec![7; 32])
}

fn wrapped() -> WrappedKey {
    WrappedKey::parse("vault:v1:AAAA").unwrap()
}

/// What is wrong when a server answers so.
async fn trouble(status: u16, body: &str) -> Trouble {
    let body = body.to_owned();
    let server = Server::start(move |_| (status, body.clone())).await;
    trouble_at(server.options()).await
}

async fn trouble_at(options: TransitOptions) -> Trouble {
    let address = options.address.to_string();
    match Transit::new(options).unwrap().open(&wrapped()).await.unwrap_err() {
        KmsFault::At { address: told, trouble } => {
            assert_eq!(*told, *address);
            trouble
        }
        KmsFault::Unnamed => panic!("one is named"),
    }
}

#[tokio::test]
async fn a_key_is_wrapped_opened_and_wrapped_anew() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "first\n").unwrap();
    let server = Server::start(|asked| engine(3, asked)).await;
    let namespace = Some(HeaderValue::from_static("eu/shop"));
    let options =
        TransitOptions { token_file: Some(token_file.clone()), namespace, ..server.options() };
    let transit = Transit::new(options).unwrap();
    let wrapped = transit.wrap(&key()).await.unwrap();
    assert_eq!(wrapped.version(), 3);
    // The token is another from one call to the next.
    std::fs::write(&token_file, "second").unwrap();
    assert_eq!(transit.open(&wrapped).await.unwrap(), key());
    let anew = transit.rewrap(&wrapped).await.unwrap();
    assert_eq!(transit.open(&anew).await.unwrap(), key());
    let asked = server.asked();
    let tokens: Vec<_> = asked.iter().map(|it| it.headers["x-vault-token"].clone()).collect();
    assert_eq!(tokens, ["first", "second", "second", "second"]);
    for it in &asked {
        assert_eq!(it.headers["x-vault-namespace"], "eu/shop");
        assert_eq!(it.headers["x-vault-request"], "true");
    }
    assert_eq!(asked[1].body, json!({"ciphertext": wrapped.as_str()}));
}

#[tokio::test]
async fn each_refusal_says_what_to_do() {
    let key = || "pregon".to_owned();
    for (status, body, expected) in [
        (503, error("Vault is sealed"), Trouble::Sealed),
        (400, error("missing client token"), Trouble::NoToken),
        (403, error("permission denied"), Trouble::NoToken),
        (400, error("encryption key not found"), Trouble::UnknownKey { key: key() }),
        (
            400,
            error("ciphertext or signature version is disallowed by policy (too old)"),
            Trouble::TooOld,
        ),
        (400, error("cipher: message authentication failed"), Trouble::Changed { key: key() }),
        (400, error("invalid ciphertext: no prefix"), Trouble::Changed { key: key() }),
        (
            404,
            error("no handler for route \"transit/decrypt/pregon\". route entry not found."),
            Trouble::NoEngine { mount: "transit".into() },
        ),
        (429, error("request path: rate limit quota exceeded"), Trouble::Busy),
        (307, String::new(), Trouble::Elsewhere),
        (
            500,
            error("internal \u{1b}[2Jerror"),
            Trouble::Failed { status: 500, said: "internal [2Jerror".into() },
        ),
        (502, "<html>".into(), Trouble::Strange { why: "its error is not JSON" }),
        (503, "<html>".into(), Trouble::Strange { why: "its error is not JSON" }),
        (200, "{}".into(), Trouble::Strange { why: "its answer has no plaintext" }),
        (
            200,
            json!({"data": {"plaintext": "!"}}).to_string(),
            Trouble::Strange { why: "its answer has no plaintext" },
        ),
        (200, "x".repeat(65_537), Trouble::Strange { why: "its answer is longer than 64 KiB" }),
    ] {
        assert_eq!(trouble(status, &body).await, expected, "{status} {body:.60}");
    }
}

#[tokio::test]
async fn a_token_that_is_unknown_is_told_from_one_that_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "canary").unwrap();
    for (status, expected) in [
        (403, Trouble::BadToken),
        (200, Trouble::Denied { path: "transit/decrypt/pregon".into() }),
        (503, Trouble::Sealed),
    ] {
        let answer = move |status: u16| match status {
            200 => (200, "{}".to_owned()),
            403 => (403, error("permission denied")),
            status => (status, error("Vault is sealed")),
        };
        let server = Server::start(move |asked| match asked.line.as_str() {
            "GET /v1/auth/token/lookup-self" => answer(status),
            _ => answer(403),
        })
        .await;
        let options = TransitOptions { token_file: Some(file.clone()), ..server.options() };
        let found = trouble_at(options.clone()).await;
        assert_eq!(found, expected, "{status}");
        assert!(!format!("{found} {found:?} {options:?}").contains("canary"));
    }
    // Where its file is not one, nobody is asked.
    let server = Server::start(|asked| engine(1, asked)).await;
    for bad in ["", "a\nb", "a b"] {
        std::fs::write(&file, bad).unwrap();
        let options = TransitOptions { token_file: Some(file.clone()), ..server.options() };
        assert!(matches!(trouble_at(options).await, Trouble::TokenFile { .. }), "{bad:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let options = TransitOptions { token_file: Some(file), ..server.options() };
    let why = trouble_at(options).await.to_string();
    assert!(why.contains("--kms-token-file") && why.contains("No such file"), "{why}");
    assert!(server.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_not_waited_for_without_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let server = Server::start(|asked| engine(1, asked)).await;
    let at = |text: &str| TransitOptions { address: text.parse().unwrap(), ..server.options() };
    let slow = Trouble::Slow { time: Duration::from_secs(5) };
    assert_eq!(trouble_at(at(&address(&silent))).await, slow);
    let gone = address(&silent);
    drop(silent);
    assert_eq!(trouble_at(at(&gone)).await, Trouble::Refused);
}

/// A server's certificate under an authority, and the authority in PEM.
fn certified(name: &str, year: i32) -> (TlsAcceptor, Vec<u8>) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(params, authority_key);
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.into_bytes())
}

#[tokio::test]
async fn its_certificate_is_verified() {
    let (acceptor, ca) = certified("127.0.0.1", 2999);
    let server = Server::over(Some(acceptor), |asked| engine(1, asked)).await;
    let options = TransitOptions { ca_pem: Some(ca), ..server.options() };
    let transit = Transit::new(options).unwrap();
    let wrapped = transit.wrap(&key()).await.unwrap();
    assert_eq!(transit.open(&wrapped).await.unwrap(), key());
    // By the web's authorities it is not known, and another of its name has not signed it.
    assert_eq!(trouble_at(server.options()).await, Trouble::TlsIssuer);
    let (_, other) = certified("127.0.0.1", 2999);
    let options = TransitOptions { ca_pem: Some(other), ..server.options() };
    assert_eq!(trouble_at(options).await, Trouble::TlsSignature);

    for (name, year, expected) in
        [("vault.test", 2999, Trouble::TlsName), ("127.0.0.1", 2001, Trouble::TlsTime)]
    {
        let (acceptor, ca) = certified(name, year);
        let server = Server::over(Some(acceptor), |asked| engine(1, asked)).await;
        let options = TransitOptions { ca_pem: Some(ca), ..server.options() };
        assert_eq!(trouble_at(options).await, expected, "{name} {year}");
    }
    let clear = Server::start(|asked| engine(1, asked)).await;
    let address = clear.address.replace("http:", "https:").parse().unwrap();
    let found = trouble_at(TransitOptions { address, ..clear.options() }).await;
    assert!(matches!(found, Trouble::Tls { .. }), "{found}");
}
