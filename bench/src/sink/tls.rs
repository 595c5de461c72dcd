//! https with a certificate that is made at the start and lives as long as the process.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// A certificate to serve with.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Makes an authority and a certificate of it for these addresses, and writes the authority's to
    /// a file. The keys never leave memory.
    ///
    /// # Errors
    /// When the machine has no random bytes, or the file cannot be written.
    pub fn make(file: &Path, addresses: &[IpAddr]) -> anyhow::Result<Self> {
        let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(params, authority_key);
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        std::fs::write(file, authority)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Does the handshake of a connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}
