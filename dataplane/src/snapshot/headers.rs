//! Headers that are the same for every request to a receiver, made ready once: what Pregón
//! identifies itself with, then the receiver's own.
//!
//! Credentials are opened here and nowhere else, and only into a header's value, which is marked
//! sensitive: it is in no `Debug`, no log and no answer.

use std::fmt;

use data_encoding::BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pregon_core::attempt::{MASKED, ShownHeaders};
use pregon_core::header::is_credential;
use pregon_core::model::Auth;
use pregon_core::seal::KeyRing;
use pregon_core::secret::SecretBytes;

/// What stands in a credential's place where a request is shown.
const MASK: &str = "***";
/// Shortest value of an ordinary header that is looked for in answers.
const PLAIN_LEAST: usize = 8;
/// Headers of a receiver's own that hold credentials whatever they are for.
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// Headers of a receiver, in the order in which they go out; values are marked sensitive.
#[derive(Clone, Debug, Default)]
pub struct FixedHeaders {
    lines: Box<[(HeaderName, HeaderValue)]>,
    /// The first line is what Pregón identifies itself with.
    identified: bool,
    /// The same as attempts keep them.
    kept: ShownHeaders,
}

impl FixedHeaders {
    /// Makes them ready; the reason where that cannot be done. `resource` is the name of the
    /// subscription or callback that they belong to.
    pub(super) fn compile(
        auth: &Auth,
        own: &[(String, String)],
        resource: &impl fmt::Display,
        ring: &KeyRing,
    ) -> Result<Self, String> {
        let identity = identity(auth, resource, ring).map_err(|why| format!("auth: {why}"))?;
        let identified = identity.is_some();
        let parse = |(index, (name, value)): (usize, &(String, String))| {
            let parsed = HeaderName::try_from(name.as_str()).ok().zip(value.parse().ok());
            let (name, mut value): (_, HeaderValue) =
                parsed.ok_or_else(|| format!("headers[{index}]: not a header"))?;
            value.set_sensitive(true); // often a credential
            Ok((name, value))
        };
        let own = own.iter().enumerate().map(parse);
        let lines = identity.into_iter().map(Ok).chain(own).collect::<Result<_, String>>()?;
        let lines: Box<[(HeaderName, HeaderValue)]> = lines;
        let kept = lines.iter().enumerate().map(|(index, (name, value))| {
            let hidden = index == 0 && identified || is_credential(name.as_str());
            let text = match hidden {
                true => MASKED.into(),
                false => String::from_utf8_lossy(value.as_bytes()).into(),
            };
            (name.as_str().into(), text)
        });
        Ok(Self { kept: kept.collect(), lines, identified })
    }

    /// The headers.
    pub fn lines(&self) -> &[(HeaderName, HeaderValue)] {
        &self.lines
    }

    /// Credentials that go out with the headers: values as they are, and what is told by a scheme
    /// such as `Bearer`. Of `Basic` the pair, and the password by itself. Short values of headers
    /// that are not for credentials say too little to be told from other text.
    pub fn secrets(&self) -> Vec<SecretBytes> {
        let mut secrets = Vec::new();
        for (index, (name, value)) in self.lines.iter().enumerate() {
            let value = value.as_bytes();
            let credential = index == 0 && self.identified || is_credential(name.as_str());
            if !credential && value.len() < PLAIN_LEAST {
                continue;
            }
            secrets.push(SecretBytes::new(value.to_vec()));
            let Some(space) = value.iter().position(|byte| *byte == b' ').filter(|_| credential)
            else {
                continue;
            };
            let told = value[space + 1..].to_vec();
            if value[..space].eq_ignore_ascii_case(b"basic")
                && let Ok(pair) = BASE64.decode(&told)
            {
                let colon = pair.iter().position(|byte| *byte == b':');
                secrets.extend(colon.map(|at| SecretBytes::new(pair[at + 1..].to_vec())));
                secrets.push(SecretBytes::new(pair));
            }
            secrets.push(SecretBytes::new(told));
        }
        secrets
    }

    /// The headers as attempts keep them: names as they go out, what may be a credential masked.
    pub fn kept(&self) -> &ShownHeaders {
        &self.kept
    }

    /// The headers as they may be shown: names in lower case, credentials as `***`.
    pub fn shown(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.lines.iter().enumerate().map(|(index, (name, value))| {
            let hidden = index == 0 && self.identified || CREDENTIALS.contains(&name.as_str());
            let text = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), if hidden { MASK.to_owned() } else { text.into_owned() })
        })
    }
}

/// The header that Pregón identifies itself with.
fn identity(
    auth: &Auth,
    resource: &impl fmt::Display,
    ring: &KeyRing,
) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let open = |sealed: &str| -> Result<SecretBytes, String> {
        let sealed = BASE64.decode(sealed.as_bytes()).map_err(|_| "sealed text is not base64")?;
        ring.open(&sealed, &Auth::binding(resource)).map_err(|error| error.to_string())
    };
    let (name, text) = match auth {
        Auth::None => return Ok(None),
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
