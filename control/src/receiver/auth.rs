//! How Pregón identifies itself to a receiver: parsed, sealed, kept.
//!
//! A credential is sealed like a signing key, bound to the resource that has it. In an update one
//! may be left out; the stored one then stays, as long as it goes to the receiver in the same way:
//! the same kind, and for a key in a header the same header.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::contract::AuthKind;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::header::{is_name, is_reserved, is_value};
use pregon_core::limits;
use pregon_core::model::{Auth, Trust};
use pregon_core::seal::{KeyRing, NONCE_LEN};
use pregon_core::secret::SecretBytes;
use pregon_core::tls::{self, Pin};
use pregon_proto::v1;

use super::endpoint::{AUTHORIZATION, Identity, tls_field};
use crate::{Control, parse};

mod certificate;
mod grant;
#[cfg(test)]
mod tests;

use certificate::Certificate;
use grant::Grant;

/// What a request says of `auth`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthEdit {
    way: Way,
    trust: Trust,
}

/// How Pregón is to identify itself: each credential may be left out.
#[derive(Clone, Debug, Default)]
enum Way {
    /// There is none.
    #[default]
    None,
    /// A token.
    Bearer(Option<SecretBytes>),
    /// User name and password.
    Basic(String, Option<SecretBytes>),
    /// A header, in lower case, and its value.
    ApiKey(String, Option<SecretBytes>),
    /// A token that is fetched.
    Oauth2(Grant),
    /// A certificate and its key.
    Mtls(Certificate),
}

impl AuthEdit {
    /// Parses `{resource}.auth`.
    pub(crate) fn parse(
        resource: &str,
        given: Option<&v1::Auth>,
        wrong: &mut Violations,
    ) -> Option<Self> {
        use v1::auth::Kind;
        let field = |path: &str| format!("{resource}.auth.{path}");
        let Some(given) = given else { return Some(Self::default()) };
        let trust = trust(given, &field, wrong);
        let way = match given.kind.as_ref() {
            None | Some(Kind::None(_)) => Some(Way::None),
            Some(Kind::Bearer(it)) => {
                wrong.check(field("bearer.token"), credential(&it.token, token)).map(Way::Bearer)
            }
            Some(Kind::Basic(it)) => {
                let name = wrong.check(field("basic.username"), username(&it.username));
                let password =
                    wrong.check(field("basic.password"), credential(&it.password, password));
                name.zip(password).map(|(name, password)| Way::Basic(name, password))
            }
            Some(Kind::ApiKey(it)) => {
                let name = wrong.check(field("api_key.header"), header(&it.header));
                let value = wrong.check(field("api_key.value"), credential(&it.value, value));
                name.zip(value).map(|(name, value)| Way::ApiKey(name, value))
            }
            Some(Kind::Oauth2(it)) => Grant::parse(it, &field, wrong).map(Way::Oauth2),
            Some(Kind::Mtls(it)) => Certificate::parse(it, &field, wrong).map(Way::Mtls),
        };
        way.zip(trust).map(|(way, trust)| Self { way, trust })
    }

    /// By which certificates the receiver is to be believed.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The way, without the credential.
    pub(crate) fn identity(&self) -> Identity<'_> {
        let (kind, header) = match &self.way {
            Way::None => (AuthKind::None, None),
            Way::Bearer(_) => (AuthKind::Bearer, Some(AUTHORIZATION)),
            Way::Basic(..) => (AuthKind::Basic, Some(AUTHORIZATION)),
            Way::ApiKey(header, _) => (AuthKind::ApiKey, Some(header.as_str())),
            Way::Oauth2(_) => (AuthKind::Oauth2, Some(AUTHORIZATION)),
            Way::Mtls(_) => (AuthKind::Mtls, None),
        };
        let token_url =
            if let Way::Oauth2(grant) = &self.way { Some(grant.token_url()) } else { None };
        Identity { kind, header, tls: tls_field(kind, &self.trust), token_url }
    }
}

/// By which certificates the receiver is to be believed.
fn trust(
    given: &v1::Auth,
    field: &impl Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Trust> {
    let ca_pem = match given.ca_pem.as_str() {
        "" => Ok(String::new()),
        pem => tls::roots(pem).map(|_| pem.to_owned()),
    };
    let ca_pem = wrong.check(field("ca_pem"), ca_pem);
    let pinned = &given.pinned_sha256;
    if pinned.len() > tls::PINS {
        let text = format!("must be {} at most, are {}", tls::PINS, pinned.len());
        wrong.add(field("pinned_sha256"), Rule::TooMany, text);
        return None;
    }
    if !pinned.is_empty() && !given.ca_pem.is_empty() {
        let text = "must be empty where ca_pem is set: only a certificate that is one of these \
                    would be believed, whatever root it chains to";
        wrong.add(field("pinned_sha256"), Rule::OutOfRange, text);
        return None;
    }
    let read = |(index, text): (usize, &String)| {
        wrong.check(field(&format!("pinned_sha256[{index}]")), Pin::parse(text))
    };
    let read: Vec<_> = pinned.iter().enumerate().map(read).collect();
    let pinned = read.into_iter().map(|pin| pin.map(|it| it.to_string())).collect::<Option<_>>();
    ca_pem.zip(pinned).map(|(ca_pem, pinned)| Trust { ca_pem, pinned })
}

fn credential(
    given: &str,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<Option<SecretBytes>, Wrong> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.len() > limits::CREDENTIAL_LEN {
        let text = format!("must be {} bytes at most", limits::CREDENTIAL_LEN);
        return Err(Wrong::new(Rule::TooLong, text));
    }
    check(given).map_err(|text| Wrong::new(Rule::Malformed, text))?;
    Ok(Some(SecretBytes::new(given.as_bytes().to_vec())))
}

fn token(given: &str) -> Result<(), &'static str> {
    match given.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("must be visible ASCII without spaces"),
    }
}

fn value(given: &str) -> Result<(), &'static str> {
    match is_value(given.as_bytes()) {
        true => Ok(()),
        false => Err("must be visible ASCII, with spaces and tabs only inside"),
    }
}

fn password(given: &str) -> Result<(), &'static str> {
    match given.chars().any(char::is_control) {
        true => Err("must hold no control characters"),
        false => Ok(()),
    }
}

fn username(given: &str) -> Result<String, Wrong> {
    if given.is_empty() {
        return Err(Wrong::new(Rule::Required, "must be set"));
    }
    if given.chars().any(|c| c.is_control() || c == ':') {
        return Err(Wrong::new(Rule::Malformed, "must hold no colon and no control characters"));
    }
    parse::text(given, limits::USERNAME_LEN)
}

/// A header that a receiver may want a key in.
fn header(given: &str) -> Result<String, Wrong> {
    if given.is_empty() {
        return Err(Wrong::new(Rule::Required, "must be the name of a header"));
    }
    if given.len() > limits::USERNAME_LEN {
        let text = format!("must be {} bytes at most", limits::USERNAME_LEN);
        return Err(Wrong::new(Rule::TooLong, text));
    }
    if !is_name(given) || is_reserved(given) {
        let text = "must be a header's name, and none that the sender or the connection sets";
        return Err(Wrong::new(Rule::HeaderRefused, text));
    }
    Ok(given.to_owned())
}

impl Control {
    /// What is stored for an edit of a resource, in the place of what was there.
    ///
    /// # Errors
    ///
    /// REQUIRED for a credential that is neither given nor kept.
    pub(crate) fn sealed_auth(
        &self,
        resource: &str,
        edit: &AuthEdit,
        stored: &Auth,
        name: &impl fmt::Display,
    ) -> Result<Auth, Refusal> {
        let missing = |path: &str| {
            let field = format!("{resource}.auth.{path}");
            Refusal::field(field, Rule::Required, "must be set: there is none to be kept")
        };
        let sealed = |given: Option<&SecretBytes>, kept: Option<&String>, path: &str| match given {
            Some(credential) => Ok(self.seal(credential, &Auth::binding(name))),
            None => kept.cloned().ok_or_else(|| missing(path)),
        };
        Ok(match &edit.way {
            Way::None => Auth::None,
            Way::Bearer(given) => {
                let kept = if let Auth::Bearer { token } = stored { Some(token) } else { None };
                Auth::Bearer { token: sealed(given.as_ref(), kept, "bearer.token")? }
            }
            Way::Basic(username, given) => {
                let kept =
                    if let Auth::Basic { password, .. } = stored { Some(password) } else { None };
                let password = sealed(given.as_ref(), kept, "basic.password")?;
                Auth::Basic { username: username.clone(), password }
            }
            Way::ApiKey(header, given) => {
                let kept = match stored {
                    Auth::ApiKey { header: old, value } if old.eq_ignore_ascii_case(header) => {
                        Some(value)
                    }
                    Auth::ApiKey { .. }
                    | Auth::None
                    | Auth::Bearer { .. }
                    | Auth::Basic { .. }
                    | Auth::Oauth2 { .. }
                    | Auth::Mtls { .. } => None,
                };
                let value = sealed(given.as_ref(), kept, "api_key.value")?;
                Auth::ApiKey { header: header.clone(), value }
            }
            Way::Oauth2(grant) => {
                let secret = sealed(grant.secret(), grant.kept(stored), "oauth2.client_secret")?;
                grant.with_secret(secret)
            }
            Way::Mtls(certificate) => {
                let kept = if let Auth::Mtls { key, .. } = stored { Some(key) } else { None };
                certificate.check_expiry(resource, self.clock.now())?;
                let key = sealed(certificate.key(), kept, "mtls.key_pem")?;
                if certificate.key().is_none() {
                    certificate.check_key(resource, &self.unseal(&key, &Auth::binding(name))?)?;
                }
                certificate.with_key(key)
            }
        })
    }

    /// What was sealed so.
    ///
    /// # Errors
    ///
    /// INTERNAL: the master key that it is sealed under is not here.
    fn unseal(&self, sealed: &str, binding: &str) -> Result<SecretBytes, Refusal> {
        self.ring().open_text(sealed, binding).map_err(|why| {
            tracing::error!(binding, %why, "a stored credential cannot be opened");
            Refusal::new(Reason::Internal, "a stored credential cannot be opened; the log says why")
        })
    }

    /// Something secret, sealed under the master key and bound to what it belongs to; base64.
    pub(crate) fn seal(&self, secret: &SecretBytes, binding: &str) -> String {
        self.seal_under(&self.ring(), secret, binding)
    }

    /// The same under the current key of this ring.
    pub(crate) fn seal_under(&self, ring: &KeyRing, secret: &SecretBytes, binding: &str) -> String {
        let mut nonce = [0u8; NONCE_LEN];
        (self.random)(&mut nonce);
        STANDARD.encode(ring.seal(secret, binding, nonce))
    }
}
