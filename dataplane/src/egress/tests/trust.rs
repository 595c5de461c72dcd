//! TLS: who is believed, and that nothing is sent to who is not.

use pregon_core::clock::{ManualClock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// 2026-06-01T00:00:00Z, within the validity of what is made here unless it says otherwise.
const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(name: &str, last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

/// A receiver over TLS; counts the requests that reach it.
struct Secure {
    receiver: Receiver,
    requests: Arc<AtomicUsize>,
}

impl Secure {
    async fn start(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
    ) -> Self {
        Self::with_tickets(params, issuer, 2).await
    }

    /// Offers so many sessions to be resumed, right behind the handshake.
    async fn with_tickets(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
        tickets: usize,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let signed = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        let chain = vec![signed.unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.send_tls13_tickets = tickets;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let receiver = Receiver::start(move |stream, _| {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            async move {
                let mut stream = match acceptor.accept(stream).await {
                    Ok(s) => s,
                    Err(e) => {
                        eprintln!("ACCEPT {e}");
                        return;
                    }
                };
                while read_request(&mut stream).await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(OK).await.unwrap();
                }
            }
        })
        .await;
        Self { receiver, requests }
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
        allow_http: false,
        resolver: Arc::new(Scripted::answering(&["127.0.0.1"])),
        extra_roots: extra_roots.as_bytes().to_vec(),
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
        (certificate("receiver.test", 2026), Some(&issuer), "the certificate has expired"),
        (certificate("elsewhere.test", 2030), Some(&issuer), "the certificate is for another name"),
        (certificate("receiver.test", 2030), None, "the certificate's issuer is unknown"),
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
    let detail = "the certificate's issuer is unknown";
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
    let detail = "the receiver does not speak TLS on this port";
    assert_eq!(fault(&exchange), (ErrorClass::Tls, detail));

    let closes = Receiver::start(|stream, _| async move { drop(stream) }).await;
    let exchange = egress(AMPLE).send(&secure(&closes), AMPLE).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Tls);

    let stalls = Receiver::start(|stream, _| hold(stream)).await;
    let exchange = egress(Duration::from_millis(200)).send(&secure(&stalls), AMPLE).await;
    assert_eq!(fault(&exchange), (ErrorClass::Tls, "the handshake took too long"));
}

#[test]
fn extra_root_that_is_no_certificate_is_refused() {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let refused = Egress::new(EgressOptions { extra_roots: pem.into(), ..options() });
    let Err(EgressError::ExtraRoot { index: 0, .. }) = refused else { panic!("not refused") };
}

#[tokio::test]
async fn session_tickets_without_end_are_read_up_to_a_bound() {
    let issuer = issuer();
    let roots = issuer.pem();
    let few = Secure::with_tickets(certificate("receiver.test", 2030), Some(&issuer), 8).await;
    let exchanges = few.ask(&trusting(&roots)).await;
    assert!(exchanges.iter().all(|exchange| exchange.result.is_ok()));
    let many =
        Secure::with_tickets(certificate("receiver.test", 2030), Some(&issuer), 20_000).await;
    let begin = Instant::now();
    for exchange in many.ask(&trusting(&roots)).await {
        let detail = "the receiver sends without end ahead of its answer";
        assert_eq!(fault(&exchange), (ErrorClass::Protocol, detail));
    }
    assert!(begin.elapsed() < AMPLE, "read until the time-out");
}
