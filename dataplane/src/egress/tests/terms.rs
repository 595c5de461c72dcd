//! Receivers with terms of their own: who is believed, on both versions of TLS.

use std::sync::Mutex;

use pregon_core::clock::ManualClock;
use pregon_core::model::Trust;
use pregon_core::tls::Pin;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::trust::{NOW, certificate, issuer, issuer_of, self_signed};
use super::*;
use crate::egress::tls::TlsFailure;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A receiver over one version of TLS.
struct Secure {
    receiver: Receiver,
    /// One for each request that reached it: the leaf certificate that the caller showed.
    requests: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
    /// Its own certificate.
    certificate: CertificateDer<'static>,
    /// The same as PEM.
    pem: String,
}

impl Secure {
    async fn start(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        Self::asking(params, issuer, version, None).await
    }

    /// The same, which asks for a certificate of this authority's, if there is one.
    async fn asking(
        params: CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
        version: &'static SupportedProtocolVersion,
        clients: Option<CertificateDer<'static>>,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let signed = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        let signed = signed.unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let verifier = match clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root).unwrap();
                let (roots, provider) = (Arc::new(roots), Arc::clone(&provider));
                let made = WebPkiClientVerifier::builder_with_provider(roots, provider);
                made.build().unwrap()
            }
        };
        let config = ServerConfig::builder_with_details(provider, Arc::new(At))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![signed.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let receiver = Receiver::start(move |stream, _| {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while read_request(&mut stream).await.is_some() {
                    let shown = stream.get_ref().1.peer_certificates();
                    let shown = shown.and_then(|chain| chain.first()).cloned();
                    seen.lock().unwrap().push(shown.map(CertificateDer::into_owned));
                    stream.write_all(OK).await.unwrap();
                }
            }
        })
        .await;
        Self { receiver, requests, certificate: signed.der().clone(), pem: signed.pem() }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// What the last caller showed.
    fn last(&self) -> Option<CertificateDer<'static>> {
        self.requests.lock().unwrap().last().cloned().flatten()
    }

    /// A request to it by a name that resolves to it, under these terms.
    async fn ask(&self, egress: &Egress, terms: Option<Terms>) -> Exchange {
        self.ask_of(egress, "acme", terms).await
    }

    async fn ask_of(&self, egress: &Egress, tenant: &str, terms: Option<Terms>) -> Exchange {
        let url = format!("https://receiver.test:{}/", self.receiver.address.port());
        let url = EndpointUrl::parse_stored(&url).unwrap();
        let tenant = TenantId::parse(tenant).unwrap();
        let target = Target::by(tenant, &url, PoolChoice::default(), terms);
        egress.send(&post(target), AMPLE).await
    }
}

/// The receivers' clock stands where egress's does.
#[derive(Debug)]
struct At;

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(NOW.seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn trusting(extra_roots: &str) -> Egress {
    Egress::new(EgressOptions {
        resolver: Arc::new(Scripted::answering(&["127.0.0.1"])),
        extra_roots: Some(extra_roots.as_bytes().to_vec()).filter(|it| !it.is_empty()),
        clock: ManualClock::at(NOW),
        ..options()
    })
    .unwrap()
}

fn rooted(pem: &str) -> Option<Terms> {
    Terms::read(&Trust { ca_pem: pem.to_owned(), pinned: Vec::new() }, None).unwrap()
}

fn pinned(certificates: &[&CertificateDer<'_>]) -> Option<Terms> {
    let pins = certificates.iter().map(|it| Pin::of(it).to_string()).collect();
    Terms::read(&Trust { ca_pem: String::new(), pinned: pins }, None).unwrap()
}

#[tokio::test]
async fn roots_of_the_receivers_own_stand_in_place_of_all_others() {
    let (theirs, other) = (issuer(), issuer_of("Another authority"));
    for version in VERSIONS {
        let under =
            |issuer| Secure::start(certificate("receiver.test", 2030), Some(issuer), version);
        let (secure, stranger) = (under(&theirs).await, under(&other).await);
        let egress = trusting(&other.pem());
        let unknown = TlsFailure::UnknownIssuer.word();
        assert_eq!(fault(&secure.ask(&egress, None).await), (ErrorClass::Tls, unknown));
        let terms = rooted(&theirs.pem());
        assert_eq!(response(&secure.ask(&egress, terms.clone()).await).status, 200);
        // The deployment's root does not count beside them.
        assert_eq!(response(&stranger.ask(&egress, None).await).status, 200);
        assert_eq!(fault(&stranger.ask(&egress, terms).await), (ErrorClass::Tls, unknown));
        let both = rooted(&format!("{}{}", theirs.pem(), other.pem()));
        assert_eq!(response(&stranger.ask(&egress, both).await).status, 200);
        // A root of the same name with another key, as an authority's older one.
        let exchange = secure.ask(&egress, rooted(&issuer().pem())).await;
        assert_eq!(fault(&exchange), (ErrorClass::Tls, TlsFailure::Signature.word()));
        assert_eq!((secure.count(), stranger.count()), (1, 2));
    }
}

#[tokio::test]
async fn name_and_time_are_verified_under_roots_of_the_receivers_own() {
    let theirs = issuer();
    let expired = TlsFailure::Expired.word();
    let elsewhere = TlsFailure::Name.word();
    for version in VERSIONS {
        for (params, why) in [
            (certificate("receiver.test", 2026), expired),
            (certificate("elsewhere.test", 2030), elsewhere),
        ] {
            let secure = Secure::start(params, Some(&theirs), version).await;
            let exchange = secure.ask(&trusting(""), rooted(&theirs.pem())).await;
            assert_eq!((fault(&exchange), secure.count()), ((ErrorClass::Tls, why), 0));
        }
        // One that the receiver has signed itself may be the root.
        let secure = Secure::start(self_signed("receiver.test", 2030), None, version).await;
        let exchange = secure.ask(&trusting(""), rooted(&secure.pem)).await;
        assert_eq!(response(&exchange).status, 200);
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_believed_whatever_it_says() {
    for version in VERSIONS {
        let other = Secure::start(self_signed("receiver.test", 2030), None, version).await;
        for params in [
            self_signed("receiver.test", 2030),
            certificate("receiver.test", 2030),
            self_signed("elsewhere.test", 2030),
            self_signed("receiver.test", 2026), // expired
        ] {
            let secure = Secure::start(params, None, version).await;
            let egress = trusting("");
            let terms = pinned(&[&other.certificate, &secure.certificate]);
            assert_eq!(response(&secure.ask(&egress, terms).await).status, 200);
            // Another one is not believed, be it under a root that is.
            let terms = pinned(&[&other.certificate]);
            let exchange = secure.ask(&trusting(&secure.pem), terms).await;
            let (class, why) = fault(&exchange);
            assert_eq!(class, ErrorClass::Tls);
            assert!(why.contains(&Pin::of(&secure.certificate).to_string()), "{why}");
            assert_eq!(secure.count(), 1);
        }
    }
}

#[tokio::test]
async fn whoever_has_the_pinned_certificate_without_its_key_is_not_believed() {
    for version in VERSIONS {
        let params = self_signed("receiver.test", 2030);
        let theirs = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let thief = CertifiedKey::new(vec![theirs.der().clone()], key);
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(thief)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let receiver = Receiver::start(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                assert!(acceptor.accept(stream).await.is_err(), "it is believed");
            }
        })
        .await;
        let url = format!("https://receiver.test:{}/", receiver.address.port());
        let url = EndpointUrl::parse_stored(&url).unwrap();
        let tenant = TenantId::parse("acme").unwrap();
        let terms = pinned(&[theirs.der()]);
        let target = Target::by(tenant, &url, PoolChoice::default(), terms);
        let exchange = trusting("").send(&post(target), AMPLE).await;
        assert_eq!(fault(&exchange).0, ErrorClass::Tls);
    }
}

#[tokio::test]
async fn a_connection_is_used_under_the_terms_that_it_was_opened_under() {
    let theirs = issuer();
    let params = certificate("receiver.test", 2030);
    let secure = Secure::start(params, Some(&theirs), &TLS13).await;
    let egress = trusting(&theirs.pem());
    let roots = rooted(&theirs.pem());
    let pins = pinned(&[&secure.certificate]);
    for (terms, reused) in [
        (None, false),
        (roots, false),
        (pins.clone(), false),
        (None, true),
        (rooted(&theirs.pem()), true), // made anew of the same
        (pins, true),
    ] {
        let exchange = secure.ask(&egress, terms).await;
        assert_eq!((response(&exchange).status.as_u16(), exchange.reused), (200, reused));
    }
    assert_eq!(secure.receiver.accepted(), 3);
    // What was believed before is not believed under terms that do not say so.
    let exchange = secure.ask(&egress, rooted(&issuer().pem())).await;
    assert_eq!(fault(&exchange).0, ErrorClass::Tls);
}

/// A certificate of ours, by the authority `clients`.
fn client(clients: &CertifiedIssuer<'_, KeyPair>) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let signed = certificate("pregon.test", 2030).signed_by(&key, clients).unwrap();
    let chain = pregon_core::tls::Chain::parse(&signed.pem()).unwrap();
    Arc::new(chain.with_key(key.serialize_pem().as_bytes()).unwrap())
}

fn shown(own: &Arc<CertifiedKey>) -> Option<Terms> {
    Terms::read(&Trust::default(), Some(Arc::clone(own))).unwrap()
}

#[tokio::test]
async fn a_receiver_that_asks_is_shown_the_certificate_and_connections_are_kept_apart_by_it() {
    let (authority, clients) = (issuer(), issuer());
    let (ours, other) = (client(&clients), client(&clients));
    for version in VERSIONS {
        let params = certificate("receiver.test", 2030);
        let secure =
            Secure::asking(params, Some(&authority), version, Some(clients.der().clone())).await;
        let egress = trusting(&authority.pem());
        for (tenant, own, reused) in [
            ("acme", &ours, false),
            ("acme", &ours, true),
            ("acme", &other, false),
            ("beta", &ours, false),
            ("acme", &other, true),
            ("acme", &ours, true),
        ] {
            let exchange = secure.ask_of(&egress, tenant, shown(own)).await;
            assert_eq!((response(&exchange).status.as_u16(), exchange.reused), (200, reused));
            assert_eq!(secure.last(), Some(own.cert[0].clone()));
        }
        assert_eq!(secure.receiver.accepted(), 3);
        // Who shows none is not let in, and takes no connection of who does.
        let exchange = secure.ask(&egress, None).await;
        assert_eq!((fault(&exchange).0, secure.count()), (ErrorClass::Tls, 6));
        // Neither is one of another authority's.
        let exchange = secure.ask(&egress, shown(&client(&authority))).await;
        assert_eq!((fault(&exchange).0, secure.count()), (ErrorClass::Tls, 6));
    }
}

#[tokio::test]
async fn a_certificate_of_the_receivers_own_goes_before_that_of_the_egress_pool() {
    let (authority, clients) = (issuer(), issuer());
    let key = KeyPair::generate().unwrap();
    let pools = certificate("pool.test", 2030).signed_by(&key, &clients).unwrap();
    let identity = Identity {
        certificate: pools.pem().into_bytes(),
        key: key.serialize_pem().into_bytes().into(),
    };
    let name = pregon_core::id::PoolName::default_pool();
    let pool = PoolOptions { name, via: Via::Direct, identity: Some(identity) };
    let egress = Egress::new(EgressOptions {
        resolver: Arc::new(Scripted::answering(&["127.0.0.1"])),
        extra_roots: Some(authority.pem().into_bytes()),
        clock: ManualClock::at(NOW),
        pools: vec![pool],
        ..options()
    })
    .unwrap();
    let params = certificate("receiver.test", 2030);
    let clients_root = Some(clients.der().clone());
    let secure = Secure::asking(params, Some(&authority), &TLS13, clients_root).await;
    let ours = client(&clients);
    for (terms, seen) in [
        (None, pools.der()),
        (shown(&ours), &ours.cert[0]),
        (rooted(&authority.pem()), pools.der()),
    ] {
        assert_eq!(response(&secure.ask(&egress, terms).await).status, 200);
        assert_eq!(secure.last().as_ref(), Some(seen));
    }
}
