//! A connection to a Pregón, for the commands that ask one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// A token is a short line.
const TOKEN_LEN: u64 = 4096;

/// How a Pregón is reached.
#[derive(Clone, Debug)]
pub struct Way {
    /// HOST:PORT, which is plain text, or a URL.
    pub address: String,
    /// File with the token that is shown.
    pub token_file: Option<PathBuf>,
    /// File with the certificate authorities of an https:// address; the web's if not given.
    pub ca_file: Option<PathBuf>,
    /// Name in the certificate, where it is not the address's own.
    pub server_name: Option<String>,
    /// File with the certificate that is shown.
    pub cert_file: Option<PathBuf>,
    /// File with its key.
    pub key_file: Option<PathBuf>,
}

impl Way {
    /// A connection, made with the first call; a call may take so long.
    ///
    /// # Errors
    ///
    /// The address or a file cannot be used.
    pub fn channel(&self, time: Duration) -> anyhow::Result<Channel> {
        let url = match self.address.contains("://") {
            true => self.address.clone(),
            false => format!("http://{}", self.address),
        };
        let endpoint = Endpoint::from_shared(url.clone()).context("ADDRESS")?;
        let mut endpoint = endpoint.connect_timeout(time).timeout(time);
        if url.starts_with("https:") {
            endpoint = endpoint.tls_config(self.tls()?).context("TLS")?;
        }
        Ok(endpoint.connect_lazy())
    }

    /// A request with the token, if there is one.
    ///
    /// # Errors
    ///
    /// The token's file cannot be used.
    pub fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(path) = &self.token_file {
            request.metadata_mut().insert("authorization", bearer(path)?);
        }
        Ok(request)
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut tls = match &self.ca_file {
            None => ClientTlsConfig::new().with_webpki_roots(),
            Some(path) => {
                let authority = Certificate::from_pem(file("--ca-file", path)?.as_slice());
                ClientTlsConfig::new().ca_certificate(authority)
            }
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            let (cert, key) = (file("--cert-file", cert)?, file("--key-file", key)?);
            tls = tls.identity(Identity::from_pem(cert.as_slice(), key.as_slice()));
        }
        Ok(tls)
    }
}

/// A status and what lies under it: the cause of a refused connection stands there.
pub fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn bearer(path: &Path) -> anyhow::Result<AsciiMetadataValue> {
    let flag = || format!("--token-file {}", path.display());
    let size = std::fs::metadata(path).with_context(flag)?.len();
    let text = match size {
        0..=TOKEN_LEN => Zeroizing::new(std::fs::read_to_string(path).with_context(flag)?),
        _ => bail!("{}: must have {TOKEN_LEN} bytes at most", flag()),
    };
    let value = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value: AsciiMetadataValue =
        value.parse().map_err(|_| anyhow::anyhow!("{}: must hold one line of text", flag()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn file(flag: &str, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let read = std::fs::read(path).map(Zeroizing::new);
    read.with_context(|| format!("{flag} {}", path.display()))
}
