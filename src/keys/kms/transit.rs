//! The transit engine of a Vault, or of an OpenBao: the key that wraps ours never leaves it.
//!
//! Asked for are `decrypt` by processes, and `encrypt` and `rewrap` by `pregon keys`. The token is read
//! from its file at every call, so that an agent may renew it. A 403 does not say whether the token is
//! unknown or may not do this: the token is asked for itself then, which every policy but the barest
//! allows.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pregon_core::seal::WrappedKey;
use pregon_core::secret::SecretBytes;
use pregon_core::tls::certificates;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Kms;
use super::exchange::{Address, Answer, Ask, Exchanger};
use super::trouble::{KmsFault, Trouble};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// An agent in between may let through what has it alone.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// Where a token is asked for itself.
const LOOKUP: &str = "auth/token/lookup-self";
/// A token is a short line.
const TOKEN_LEN: u64 = 4096;
/// Characters of what the server says that are passed on.
const SAID: usize = 160;

/// How a transit engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitOptions {
    /// Where the server is.
    pub address: Address,
    /// Name of the key in the engine.
    pub key: String,
    /// Path of the engine.
    pub mount: String,
    /// File with the token; none: none is sent, as where an agent adds it.
    pub token_file: Option<PathBuf>,
    /// Namespace of the server; none: its root.
    pub namespace: Option<HeaderValue>,
    /// Certificates that it is believed by, in PEM; none: the web's authorities.
    pub ca_pem: Option<Vec<u8>>,
}

/// A transit engine.
pub struct Transit {
    exchanger: Exchanger,
    key: String,
    mount: String,
    token_file: Option<PathBuf>,
    namespace: Option<HeaderValue>,
}

/// An answer of the engine: of the data, one field.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    /// Base64, which has no escapes in JSON: it is not copied.
    #[serde(borrow, default)]
    plaintext: Option<&'a str>,
    #[serde(borrow, default)]
    ciphertext: Option<&'a str>,
}

#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Transit {
    /// A way to it; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// The certificates cannot be roots.
    pub fn new(options: TransitOptions) -> anyhow::Result<Self> {
        let TransitOptions { address, key, mount, token_file, namespace, ca_pem } = options;
        let roots = ca_pem.as_deref().map(certificates).transpose()?;
        let exchanger = Exchanger::new(address, roots.as_deref())?;
        Ok(Self { exchanger, key, mount, token_file, namespace })
    }

    /// Wraps a key.
    ///
    /// # Errors
    ///
    /// Why it cannot be wrapped now.
    pub async fn wrap(&self, key: &SecretBytes) -> Result<WrappedKey, KmsFault> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        self.to_wrapped("encrypt", "plaintext", &plaintext).await
    }

    /// Wraps what is wrapped under the newest version of the engine's key; nobody sees the key.
    ///
    /// # Errors
    ///
    /// Why it cannot be wrapped now.
    pub async fn rewrap(&self, wrapped: &WrappedKey) -> Result<WrappedKey, KmsFault> {
        self.to_wrapped("rewrap", "ciphertext", wrapped.as_str()).await
    }

    async fn to_wrapped(
        &self,
        what: &str,
        field: &str,
        value: &str,
    ) -> Result<WrappedKey, KmsFault> {
        let answer = self.ask(what, field, value).await?;
        let made = fields(&answer).and_then(|it| WrappedKey::parse(it.ciphertext?));
        made.ok_or_else(|| self.fault(Trouble::Strange { why: "its answer has no ciphertext" }))
    }

    /// Calls the engine with one field of base64 or a ciphertext, which need no escapes in JSON.
    async fn ask(&self, what: &str, field: &str, value: &str) -> Result<Answer, KmsFault> {
        let path = format!("{}/{what}/{}", self.mount, self.key);
        let asked = async {
            let token = self.token()?;
            let mut body = Zeroizing::new(Vec::with_capacity(value.len() + field.len() + 8));
            for part in ["{\"", field, "\":\"", value, "\"}"] {
                body.extend_from_slice(part.as_bytes());
            }
            let ask = self.request(Method::POST, path.clone(), token.clone(), body);
            let answer = self.exchanger.ask(ask).await?;
            match answer.status {
                StatusCode::OK => Ok(answer),
                StatusCode::FORBIDDEN => Err(self.forbidden(path, token).await),
                _ => Err(self.refused(&answer)),
            }
        };
        asked.await.map_err(|trouble| self.fault(trouble))
    }

    fn request(
        &self,
        method: Method,
        path: String,
        token: Option<HeaderValue>,
        body: Zeroizing<Vec<u8>>,
    ) -> Ask {
        let mut headers = vec![(REQUEST, HeaderValue::from_static("true"))];
        headers.extend(token.map(|token| (TOKEN, token)));
        headers.extend(self.namespace.clone().map(|namespace| (NAMESPACE, namespace)));
        Ask { method, path, headers, body }
    }

    /// What a 403 is about.
    async fn forbidden(&self, path: String, token: Option<HeaderValue>) -> Trouble {
        // Where none is named, an agent may add one.
        let named = token.is_some();
        let ask = self.request(Method::GET, LOOKUP.to_owned(), token, Zeroizing::default());
        match self.exchanger.ask(ask).await {
            Ok(answer) if answer.status == StatusCode::FORBIDDEN => match named {
                true => Trouble::BadToken,
                false => Trouble::NoToken,
            },
            Ok(answer) if answer.status == StatusCode::OK => Trouble::Denied { path },
            Ok(answer) => self.refused(&answer),
            Err(trouble) => trouble,
        }
    }

    /// What another status is about. The engine tells 400s apart by their texts alone.
    fn refused(&self, answer: &Answer) -> Trouble {
        let errors = serde_json::from_slice::<Errors>(&answer.body).ok();
        let vault = errors.is_some();
        let said = errors.unwrap_or_default().errors.join("; ");
        let has = |text: &str| said.contains(text);
        let key = || self.key.clone();
        match answer.status.as_u16() {
            300..400 => Trouble::Elsewhere,
            // Proxies in front of it answer so, too.
            503 if vault && has("sealed") => Trouble::Sealed,
            429 => Trouble::Busy,
            400 if has("missing client token") => Trouble::NoToken,
            400 if has("encryption key not found") => Trouble::UnknownKey { key: key() },
            400 if has("disallowed by policy (too old)") => Trouble::TooOld,
            400 if has("message authentication failed")
                || has("invalid ciphertext")
                || has("could not decode")
                || has("version is too new")
                || has("decryption error") =>
            {
                Trouble::Changed { key: key() }
            }
            404 if vault => Trouble::NoEngine { mount: self.mount.clone() },
            status if vault => Trouble::Failed { status, said: shown(&said) },
            _ => Trouble::Strange { why: "its error is not JSON" },
        }
    }

    /// The token, as it is in its file now.
    fn token(&self) -> Result<Option<HeaderValue>, Trouble> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let wrong = |why: String| Trouble::TokenFile { file: file.display().to_string(), why };
        let text = read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let line = text.trim_ascii();
        let whole = !line.is_empty() && line.iter().all(u8::is_ascii_graphic);
        let value = whole.then(|| HeaderValue::from_bytes(line).ok()).flatten();
        let mut value = value.ok_or_else(|| wrong("must hold one token, alone".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn fault(&self, trouble: Trouble) -> KmsFault {
        KmsFault::At { address: self.exchanger.address().shared(), trouble }
    }
}

#[async_trait]
impl Kms for Transit {
    async fn open(&self, wrapped: &WrappedKey) -> Result<SecretBytes, KmsFault> {
        let answer = self.ask("decrypt", "ciphertext", wrapped.as_str()).await?;
        let key = fields(&answer).and_then(|it| STANDARD.decode(it.plaintext?).ok());
        let key = key.map(SecretBytes::new);
        key.ok_or_else(|| self.fault(Trouble::Strange { why: "its answer has no plaintext" }))
    }
}

fn fields(answer: &Answer) -> Option<Fields<'_>> {
    serde_json::from_slice::<Data<'_>>(&answer.body).ok().map(|answer| answer.data)
}

/// Reads a small file.
fn read(file: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let len = std::fs::metadata(file)?.len();
    if len > TOKEN_LEN {
        return Err(std::io::Error::other(format!("it has more than {TOKEN_LEN} bytes")));
    }
    std::fs::read(file).map(Zeroizing::new)
}

/// The server's own words, cut, without what could steer a terminal.
fn shown(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

#[cfg(test)]
mod tests;
