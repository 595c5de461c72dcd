//! OAuth 2.0 client credentials, as a request gives them.

use pregon_core::error::{Rule, Violations, Wrong};
use pregon_core::limits;
use pregon_core::model::{Auth, Oauth2Style};
use pregon_core::secret::SecretBytes;
use pregon_core::url::EndpointUrl;
use pregon_proto::v1;

use super::{credential, password};
use crate::{map, parse};

/// What a token is fetched with; the secret may be left out.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    token_url: String,
    client_id: String,
    secret: Option<SecretBytes>,
    scopes: Vec<String>,
    audience: String,
    style: Oauth2Style,
}

impl Grant {
    /// Parses `oauth2`. Whether its URL is allowed is asked with the receiver's.
    pub(super) fn parse(
        given: &v1::Oauth2Auth,
        field: &impl Fn(&str) -> String,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let field = |path: &str| field(&format!("oauth2.{path}"));
        let url = match given.token_url.as_str() {
            "" => Err(Wrong::new(Rule::Required, "must be set")),
            url => EndpointUrl::parse_stored(url).map(|url| url.as_str().to_owned()),
        };
        let url = wrong.check(field("token_url"), url);
        let client_id = match given.client_id.as_str() {
            "" => Err(Wrong::new(Rule::Required, "must be set")),
            id => line(id, limits::USERNAME_LEN),
        };
        let client_id = wrong.check(field("client_id"), client_id);
        let secret = credential(&given.client_secret, password);
        let secret = wrong.check(field("client_secret"), secret);
        let scopes = scopes(&given.scopes, &field, wrong);
        let audience = line(&given.audience, limits::OAUTH2_TEXT_LEN);
        let audience = wrong.check(field("audience"), audience);
        let style = parse::known(&field("style"), given.style, wrong);
        let style = style.map(|style| map::from_oauth2_style(style).unwrap_or(Oauth2Style::Basic));
        Some(Self {
            token_url: url?,
            client_id: client_id?,
            secret: secret?,
            scopes: scopes?,
            audience: audience?,
            style: style?,
        })
    }

    /// Where the token is fetched.
    pub(super) fn token_url(&self) -> &str {
        &self.token_url
    }

    /// The client's secret, if it is given.
    pub(super) fn secret(&self) -> Option<&SecretBytes> {
        self.secret.as_ref()
    }

    /// The stored secret, where it goes to the same place for the same client.
    pub(super) fn kept<'a>(&self, stored: &'a Auth) -> Option<&'a String> {
        match stored {
            Auth::Oauth2 { token_url, client_id, client_secret, .. } => {
                let same = *token_url == self.token_url && *client_id == self.client_id;
                same.then_some(client_secret)
            }
            Auth::None
            | Auth::Bearer { .. }
            | Auth::Basic { .. }
            | Auth::ApiKey { .. }
            | Auth::Mtls { .. } => None,
        }
    }

    /// What is stored, with the sealed secret.
    pub(super) fn with_secret(&self, client_secret: String) -> Auth {
        Auth::Oauth2 {
            token_url: self.token_url.clone(),
            client_id: self.client_id.clone(),
            client_secret,
            scopes: self.scopes.clone(),
            audience: self.audience.clone(),
            style: self.style,
        }
    }
}

/// Text of one line.
fn line(given: &str, most: usize) -> Result<String, Wrong> {
    if given.chars().any(char::is_control) {
        return Err(Wrong::new(Rule::Malformed, "must hold no control characters"));
    }
    parse::text(given, most)
}

/// Scopes of the form that RFC 6749 gives them in section 3.3.
fn scopes(
    given: &[String],
    field: &impl Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Vec<String>> {
    if given.len() > limits::OAUTH2_SCOPES {
        let text = format!("must be {} at most, are {}", limits::OAUTH2_SCOPES, given.len());
        wrong.add(field("scopes"), Rule::TooMany, text);
        return None;
    }
    let scope =
        |text: &String| match text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b)) {
            true if !text.is_empty() => parse::text(text, limits::OAUTH2_TEXT_LEN),
            true | false => {
                let rule = "must be visible ASCII without spaces, quotation marks and backslashes";
                Err(Wrong::new(Rule::Malformed, rule))
            }
        };
    let read = |(index, text): (usize, &String)| {
        wrong.check(field(&format!("scopes[{index}]")), scope(text))
    };
    let read: Vec<_> = given.iter().enumerate().map(read).collect();
    read.into_iter().collect()
}
