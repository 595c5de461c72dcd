//! A certificate authority of the test's own.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A certificate authority that makes certificates for `localhost` and 127.0.0.1.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    /// A new one, whose certificate lies in a file.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }

    /// A certificate and its key, in DER.
    pub fn pair(&self) -> (Vec<u8>, Vec<u8>) {
        let (cert, key) = self.make();
        (cert.der().to_vec(), key.serialize_der())
    }

    /// Writes a certificate and its key in PEM; gives their paths.
    pub fn write_pair(&self, dir: &Path, name: &str) -> [String; 2] {
        let (cert, key) = self.make();
        let files = [dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))];
        std::fs::write(&files[0], cert.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files.map(|file| file.display().to_string())
    }

    /// What a client that believes only this authority speaks HTTP/2 with.
    pub fn client(&self) -> ClientConfig {
        let pem = std::fs::read(self.file()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn make(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".into(), "127.0.0.1".into()];
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}
