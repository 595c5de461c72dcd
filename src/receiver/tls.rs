//! https with a certificate of the receiver's own: some contracts allow nothing else.
//!
//! Authority, certificate and keys are made anew at each start and never leave memory, but for the
//! authority's certificate, which a sender has to trust.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// A certificate to serve with, and the authority that vouches for it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    authority: Arc<str>,
}

impl Tls {
    /// A new authority and a certificate of it, for `localhost`, the loopback addresses and `addr`.
    ///
    /// # Errors
    ///
    /// When the machine has no random bytes.
    pub fn generate(addr: IpAddr) -> anyhow::Result<Self> {
        let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(params, authority_key);
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !names.contains(&addr.to_string()) {
            names.push(addr.to_string());
        }
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("no version of TLS to speak")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("the certificate and its key do not fit")?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authority: authority.into() })
    }

    /// The authority's certificate, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) async fn accept(&self, conn: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(conn).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::super::*;

    #[tokio::test]
    async fn who_trusts_the_authority_is_served() {
        let tls = Tls::generate(IpAddr::from([127, 0, 0, 1])).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(tls.authority().as_bytes()).unwrap()).unwrap();
        let client =
            ClientConfig::builder_with_provider(Arc::new(super::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let options = ReceiverOptions { tls: Some(tls), ..ReceiverOptions::default() };
        let clock = Arc::new(pregon_core::clock::SystemClock);
        let receiver = Receiver::start(options, clock).await.unwrap();
        let tcp = tokio::net::TcpStream::connect(receiver.addr()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut conn = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap();
        conn.write_all(b"GET /status/204 HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        conn.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.0 204");
    }
}
