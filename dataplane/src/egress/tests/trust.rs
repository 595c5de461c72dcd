//! TLS: who is believed, and that nothing is sent to who is not.

use pregon_core::clock::{ManualClock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::egress::tls::TlsFailure;

/// 2026-06-01T00:00:00Z, within the validity of what is made here unless it says otherwise.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);

pub(super) fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    issuer_of("Authority of the tests")
}

pub(super) fn issuer_of(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(super) fn certificate(name: &str, last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

/// A receiver over TLS; counts the requests that reach it.
struct Secure {
    receiver: Receiver,
    requests: Arc<AtomicUsize>,
    /// Its certificate.
    pem: String,
}

impl Secure {
    async fn start(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
    ) -> Self {
        Self::answering(params, issuer, false).await
    }

    /// Answers at once, or with a body of which each byte is a record of its own.
    async fn answering(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
        bytewise: bool,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let signed = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        let signed = signed.unwrap();
        let (pem, chain) = (signed.pem(), vec![signed.der().clone()]);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let receiver = Receiver::start(move |stream, _| {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while read_request(&mut stream).await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                    if !bytewise {
                        stream.write_all(OK).await.unwrap();
                        continue;
                    }
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n";
                    stream.write_all(head).await.unwrap();
                    for _ in 0..60_000 {
                        if stream.write_all(b"x").await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        Self { receiver, requests, pem }
    }

    /// Two requests to it, by a name that resolves to it.
    async fn ask(&self, egress: &Egress) -> [Exchange; 2] {
        let port = self.receiver.address.port();
        let request = post(target(&format!("https://receiver.test:{port}/?key=s3cret")));
        [egress.send(&request, AMPLE).await, egress.send(&request, AMPLE).await]
    }
}

fn trusting(extra_roots: &str) -> Egress {
    Egress::new(EgressOptions {
        policy: EgressPolicy { allow_http: false, ..options().policy },
        resolver: Arc::new(Scripted::answering(&["127.0.0.1"])),
        extra_roots: Some(extra_roots.as_bytes().to_vec()).filter(|it| !it.is_empty()),
        clock: ManualClock::at(NOW),
        ..options()
    })
    .unwrap()
}

#[tokio::test]
async fn receiver_under_a_trusted_authority_is_believed() {
    let issuer = issuer();
    let secure = Secure::start(certificate("receiver.test", 2030), Some(&issuer)).await;
    let [first, second] = secure.ask(&trusting(&issuer.pem())).await;
    for exchange in [&first, &second] {
        assert_eq!(response(exchange).status, 200);
    }
    assert!(first.timing.tls > 0 && second.reused && second.timing.tls == 0);
    assert_eq!(secure.receiver.accepted(), 1);
}

#[tokio::test]
async fn who_cannot_be_believed_is_sent_nothing() {
    let issuer = issuer();
    let roots = issuer.pem();
    let cases = [
        (certificate("receiver.test", 2026), Some(&issuer), TlsFailure::Expired.word()),
        (certificate("elsewhere.test", 2030), Some(&issuer), TlsFailure::Name.word()),
        (certificate("receiver.test", 2030), None, TlsFailure::UnknownIssuer.word()),
    ];
    for (params, issuer, detail) in cases {
        let secure = Secure::start(params, issuer).await;
        for exchange in secure.ask(&trusting(&roots)).await {
            assert_eq!(fault(&exchange), (ErrorClass::Tls, detail));
            assert_eq!(exchange.remote, Some(secure.receiver.address));
        }
        assert_eq!(secure.requests.load(Ordering::SeqCst), 0);
    }
    let secure = Secure::start(certificate("receiver.test", 2030), Some(&issuer)).await;
    let detail = TlsFailure::UnknownIssuer.word();
    for exchange in secure.ask(&trusting("")).await {
        assert_eq!(fault(&exchange), (ErrorClass::Tls, detail));
    }
}

#[tokio::test]
async fn receiver_without_tls_and_one_that_stalls_are_tls_faults() {
    let egress = |tls| {
        let limits = EgressLimits { tls, ..EgressLimits::default() };
        Egress::new(EgressOptions { limits, ..options() }).unwrap()
    };
    let secure = |receiver: &Receiver| post(target(&format!("https://{}/", receiver.address)));
    let plain = Receiver::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        hold(stream).await;
    })
    .await;
    let exchange = egress(AMPLE).send(&secure(&plain), AMPLE).await;
    let detail = TlsFailure::NotTls.word();
    assert_eq!(fault(&exchange), (ErrorClass::Tls, detail));

    let closes = Receiver::start(|stream, _| async move { drop(stream) }).await;
    let exchange = egress(AMPLE).send(&secure(&closes), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Tls, TlsFailure::Closed.word()));

    let stalls = Receiver::start(|stream, _| hold(stream)).await;
    let exchange = egress(Duration::from_millis(200)).send(&secure(&stalls), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Tls, TlsFailure::Slow.word()));
}

#[test]
fn extra_root_that_is_no_certificate_is_refused() {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let refused = Egress::new(EgressOptions { extra_roots: Some(pem.into()), ..options() });
    let Err(EgressError::ExtraRoot { index: 0, .. }) = refused else { panic!("not refused") };
}

#[tokio::test]
async fn records_around_a_body_count_as_read() {
    let issuer = issuer();
    let params = certificate("receiver.test", 2030);
    let secure = Secure::answering(params, Some(&issuer), true).await;
    let egress = trusting(&issuer.pem());
    for exchange in secure.ask(&egress).await {
        let answer = response(&exchange);
        assert_eq!((answer.status.as_u16(), answer.truncated), (200, true));
        assert!(!exchange.reused);
    }
    // The body alone would have been read to its end.
    assert_eq!((secure.receiver.accepted(), egress.connections()), (2, (0, 0)));
}

/// The usual self-signed certificate: it says that it is an authority.
pub(super) fn self_signed(name: &str, last_year: i32) -> CertificateParams {
    let mut params = certificate(name, last_year);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

#[tokio::test]
async fn self_signed_certificate_that_is_listed_is_believed_for_its_name_and_time() {
    for (params, believed) in [
        (self_signed("receiver.test", 2030), Ok(())),
        (certificate("receiver.test", 2030), Ok(())),
        (self_signed("receiver.test", 2026), Err(TlsFailure::Expired.word())),
        (self_signed("other.test", 2030), Err(TlsFailure::Name.word())),
    ] {
        let secure = Secure::start(params, None).await;
        for exchange in secure.ask(&trusting(&secure.pem)).await {
            match believed {
                Ok(()) => assert_eq!(response(&exchange).status, 200),
                Err(why) => assert_eq!(fault(&exchange), (ErrorClass::Tls, why)),
            }
        }
        let reported = TlsFailure::Authority.word();
        let other = Secure::start(self_signed("receiver.test", 2030), None).await;
        for exchange in other.ask(&trusting(&secure.pem)).await {
            assert_eq!(fault(&exchange), (ErrorClass::Tls, reported));
        }
        assert_eq!(other.requests.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn file_without_a_certificate_is_refused_with_what_it_is() {
    let key = KeyPair::generate().unwrap();
    let der = issuer().der().to_vec();
    for (file, what) in [
        (Vec::new(), "it is empty"),
        (b" \n".to_vec(), "it is empty"),
        (der, "it is DER; `openssl x509 -inform der` makes PEM of it"),
        (
            key.serialize_pem().into_bytes(),
            "it holds a private key; give the certificate, and keep the key where it is",
        ),
        (b"hello".to_vec(), "`-----BEGIN CERTIFICATE-----` is not in it"),
    ] {
        let refused = Egress::new(EgressOptions { extra_roots: Some(file), ..options() });
        let text = refused.err().unwrap().to_string();
        assert_eq!(text, format!("holds no certificate in PEM: {what}"));
    }
}
