//! Headers that are the same for every request to a receiver, made ready once: what Pregón
//! identifies itself with, then the receiver's own.
//!
//! Credentials are opened here, and only into a header's value, which is marked sensitive: it is in
//! no `Debug`, no log and no answer. The keys of certificates are opened in `terms`.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pregon_core::attempt::{MASKED, ShownHeaders};
use pregon_core::header::is_credential;
use pregon_core::model::{Auth, HeaderText};
use pregon_core::seal::KeyRing;
use pregon_core::secret::SecretBytes;

/// Shortest value of an ordinary header that is looked for in answers.
const PLAIN_LEAST: usize = 8;

/// Headers of a receiver, in the order in which they go out; values are marked sensitive.
#[derive(Clone, Debug, Default)]
pub struct FixedHeaders {
    lines: Box<[Line]>,
    /// The same as attempts keep them.
    kept: ShownHeaders,
    /// Names that are not in lower case, as they are written.
    spelled: Box<[Arc<str>]>,
}

#[derive(Clone, Debug)]
struct Line {
    header: (HeaderName, HeaderValue),
    /// What Pregón identifies itself with, a sealed value, or one whose name tells.
    credential: bool,
}

impl FixedHeaders {
    /// Makes them ready; the reason where that cannot be done. `resource` is the name of the
    /// subscription or callback that they belong to.
    pub(super) fn compile(
        auth: &Auth,
        own: &[(String, HeaderText)],
        resource: &impl fmt::Display,
        ring: &KeyRing,
    ) -> Result<Self, String> {
        let identity = identity(auth, resource, ring).map_err(|why| format!("auth: {why}"))?;
        let identity = identity.map(|header| Line { header, credential: true });
        let parse = |(index, (name, value)): (usize, &(String, HeaderText))| {
            let (text, sealed) = match value {
                HeaderText::Plain(text) => (SecretBytes::new(text.clone().into_bytes()), false),
                HeaderText::Sealed { sealed } => {
                    let binding = HeaderText::binding(resource, name);
                    let opened = open(sealed, &binding, ring);
                    (opened.map_err(|why| format!("headers[{index}]: {why}"))?, true)
                }
            };
            let name = HeaderName::try_from(name.as_str()).ok();
            let value = HeaderValue::from_bytes(text.expose()).ok();
            let (name, mut value) =
                name.zip(value).ok_or_else(|| format!("headers[{index}]: not a header"))?;
            value.set_sensitive(true); // often a credential
            let credential = sealed || is_credential(name.as_str());
            Ok(Line { header: (name, value), credential })
        };
        let capital = |name: &&str| name.bytes().any(|byte| byte.is_ascii_uppercase());
        let api_key = match auth {
            Auth::ApiKey { header, .. } => Some(header.as_str()),
            Auth::None
            | Auth::Bearer { .. }
            | Auth::Basic { .. }
            | Auth::Oauth2 { .. }
            | Auth::Mtls { .. } => None,
        };
        let names = api_key.into_iter().chain(own.iter().map(|(name, _)| name.as_str()));
        let spelled: Box<[Arc<str>]> = names.filter(capital).map(Arc::from).collect();
        let own = own.iter().enumerate().map(parse);
        let lines: Box<[Line]> =
            identity.into_iter().map(Ok).chain(own).collect::<Result<_, String>>()?;
        let kept = lines.iter().map(|Line { header: (name, value), credential }| {
            let text = match credential {
                true => MASKED.into(),
                false => String::from_utf8_lossy(value.as_bytes()).into(),
            };
            let written = spelled.iter().find(|other| other.eq_ignore_ascii_case(name.as_str()));
            (written.map_or(name.as_str(), |written| written).into(), text)
        });
        let fetched = matches!(auth, Auth::Oauth2 { .. });
        let fetched = fetched.then(|| (AUTHORIZATION.as_str().into(), MASKED.into()));
        Ok(Self { kept: fetched.into_iter().chain(kept).collect(), lines, spelled })
    }

    /// The headers.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &(HeaderName, HeaderValue)> {
        self.lines.iter().map(|line| &line.header)
    }

    /// Names of headers that are not in lower case, as they are written.
    pub fn spelled(&self) -> &[Arc<str>] {
        &self.spelled
    }

    /// Credentials that go out with the headers: values as they are, and what is told by a scheme
    /// such as `Bearer`. Of `Basic` the pair, and the password by itself. Short values of headers
    /// that are not for credentials say too little to be told from other text.
    pub fn secrets(&self) -> Vec<SecretBytes> {
        let mut secrets = Vec::new();
        for Line { header: (_, value), credential } in &self.lines {
            let value = value.as_bytes();
            if !credential && value.len() < PLAIN_LEAST {
                continue;
            }
            secrets.push(SecretBytes::new(value.to_vec()));
            let Some(space) = value.iter().position(|byte| *byte == b' ').filter(|_| *credential)
            else {
                continue;
            };
            let credential_text = value[space + 1..].to_vec();
            if value[..space].eq_ignore_ascii_case(b"basic")
                && let Ok(pair) = BASE64.decode(&credential_text)
            {
                let colon = pair.iter().position(|byte| *byte == b':');
                secrets.extend(colon.map(|at| SecretBytes::new(pair[at + 1..].to_vec())));
                secrets.push(SecretBytes::new(pair));
            }
            secrets.push(SecretBytes::new(credential_text));
        }
        secrets
    }

    /// The headers as attempts keep them: names as they are written, what may be a credential masked.
    pub fn kept(&self) -> &ShownHeaders {
        &self.kept
    }
}

/// The header that Pregón identifies itself with.
fn identity(
    auth: &Auth,
    resource: &impl fmt::Display,
    ring: &KeyRing,
) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let open = |sealed: &str| open(sealed, &Auth::binding(resource), ring);
    let (name, text) = match auth {
        // A token is fetched when a request goes out.
        Auth::None | Auth::Oauth2 { .. } | Auth::Mtls { .. } => return Ok(None),
        Auth::Bearer { token } => {
            (AUTHORIZATION, SecretBytes::new([b"Bearer ", open(token)?.expose()].concat()))
        }
        Auth::Basic { username, password } => {
            let pair = [username.as_bytes(), b":", open(password)?.expose()].concat();
            let encoded = BASE64.encode(SecretBytes::new(pair).expose());
            let encoded = SecretBytes::new(encoded.into_bytes());
            (AUTHORIZATION, SecretBytes::new([b"Basic ", encoded.expose()].concat()))
        }
        Auth::ApiKey { header, value } => {
            let name = HeaderName::try_from(header.as_str()).map_err(|_| "header: not a name")?;
            (name, open(value)?)
        }
    };
    let mut value = HeaderValue::from_bytes(text.expose()).map_err(|_| "not a header's value")?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

/// A sealed credential, opened.
pub(super) fn open(sealed: &str, binding: &str, ring: &KeyRing) -> Result<SecretBytes, String> {
    let sealed = BASE64.decode(sealed.as_bytes()).map_err(|_| "sealed text is not base64")?;
    ring.open(&sealed, binding).map_err(|error| error.to_string())
}
