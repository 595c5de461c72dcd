//! TLS of the listener: its certificate, and which clients it believes.
//!
//! rustls with ring, as on the way out; TLS 1.2 and later, HTTP/2 only. Where a client CA is given,
//! a client without a certificate of that CA does not get past the handshake; it needs a token all
//! the same, for a certificate says nothing of roles.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};

use crate::files::{BadFile, Contents, Source};

/// The files of a listener's TLS, all in PEM. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and what stands between it and its authority, the certificate first.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; with them, clients must have one.
    pub client_ca: Option<PathBuf>,
}

/// What a listener's TLS is made of.
pub(crate) struct Tls {
    pub(crate) files: TlsFiles,
    pub(crate) clock: SharedClock,
}

/// Certificates are judged by the same clock as everything else.
struct Time(SharedClock);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

impl Source for Tls {
    type Made = ServerConfig;
    const WHAT: &'static str = "TLS certificates";
    /// A chain is some kilobytes; a bundle of all public authorities is 200 KiB.
    const LEN: u64 = 1024 * 1024;

    fn files(&self) -> Vec<&Path> {
        let TlsFiles { cert, key, client_ca } = &self.files;
        [Some(cert), Some(key), client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }

    fn make(&self, contents: &Contents) -> Result<ServerConfig, BadFile> {
        let TlsFiles { cert, key, client_ca } = &self.files;
        let [chain, secret, rest @ ..] = contents.as_slice() else {
            return Err(BadFile::new(cert, "was not read"));
        };
        let chain = certificates(cert, chain)?;
        let secret = PrivateKeyDer::from_pem_slice(secret)
            .map_err(|_| BadFile::new(key, "must hold a private key in PEM"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(Time(Arc::clone(&self.clock)));
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time)
            .with_safe_default_protocol_versions()
            .map_err(|error| BadFile::new(cert, error))?;
        let builder = match client_ca.as_ref().zip(rest.first()) {
            None => builder.with_no_client_auth(),
            Some((file, pem)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(file, pem)? {
                    roots.add(root).map_err(|error| BadFile::new(file, error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| BadFile::new(file, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(chain, secret).map_err(|error| unfit(cert, key, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Every certificate of a file, which must have one.
fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(BadFile::new(file, "must hold certificates in PEM, one at least")),
    }
}

/// Which of the two files a certificate and a key that cannot be used are blamed on.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign vocabulary, open at its end
fn unfit(cert: &Path, key: &Path, error: &rustls::Error) -> BadFile {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let text = format!("is not the key of the certificate in {}", cert.display());
            BadFile::new(key, text)
        }
        rustls::Error::InvalidCertificate(_) => BadFile::new(cert, error),
        _ => BadFile::new(key, error),
    }
}

#[cfg(test)]
mod tests {
    use pregon_core::clock::SystemClock;
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;
    use crate::files::Followed;

    struct Pems {
        dir: TempDir,
        cert: String,
        key: String,
    }

    impl Pems {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
            let cert = params.self_signed(&key).unwrap().pem();
            Self { dir: tempfile::tempdir().unwrap(), cert, key: key.serialize_pem() }
        }

        async fn load(&self, cert: &str, key: &str, ca: Option<&str>) -> Result<(), BadFile> {
            let write = |name: &str, pem: &str| {
                let file = self.dir.path().join(name);
                std::fs::write(&file, pem).unwrap();
                file
            };
            let files = TlsFiles {
                cert: write("cert.pem", cert),
                key: write("key.pem", key),
                client_ca: ca.map(|pem| write("ca.pem", pem)),
            };
            Followed::load(Tls { files, clock: Arc::new(SystemClock) }).await.map(drop)
        }
    }

    #[tokio::test]
    async fn bad_files_are_refused_by_their_name_and_never_shown() {
        let pems = Pems::new();
        let other = Pems::new();
        let (cert, key) = (pems.cert.as_str(), pems.key.as_str());
        pems.load(cert, key, None).await.unwrap();
        pems.load(cert, key, Some(&other.cert)).await.unwrap();
        let broken = cert.replacen("MII", "MIA", 1);
        for (cert, key, ca, file) in [
            ("", key, None, "cert.pem"),
            (key, key, None, "cert.pem"),
            (broken.as_str(), key, None, "cert.pem"),
            (cert, "", None, "key.pem"),
            (cert, cert, None, "key.pem"),
            (cert, other.key.as_str(), None, "key.pem"),
            (cert, key, Some(""), "ca.pem"),
            (cert, key, Some(broken.as_str()), "ca.pem"),
        ] {
            let refused = pems.load(cert, key, ca).await.unwrap_err();
            assert!(refused.file.ends_with(file), "{refused}");
            assert!(!refused.to_string().contains("PRIVATE"), "{refused}");
        }
    }
}
