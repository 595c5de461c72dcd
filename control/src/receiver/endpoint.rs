//! What a contract has a say in: where requests go, which headers go along, and how Pregón
//! identifies itself.

use pregon_core::contract::{AuthKind, Contract};
use pregon_core::error::{Rule, Violations};
use pregon_core::model::{Auth, Trust};
use pregon_core::url::{EgressRules, EndpointUrl, Scheme, Unruled, UrlPolicy};
use pregon_proto::v1;

use crate::map;

/// The header of HTTP authentication.
pub(super) const AUTHORIZATION: &str = "authorization";

/// The field of a URL at which a token is fetched.
const TOKEN_URL: &str = "auth.oauth2.token_url";

/// How Pregón identifies itself, without the credential, and whether the receiver does in a way of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    /// In which way.
    pub kind: AuthKind,
    /// In which header, if in one.
    pub header: Option<&'a str>,
    /// The field below `auth` that has a meaning over TLS only; none: there is no such.
    pub tls: Option<&'static str>,
    /// Where its token is fetched, if it is one that is fetched.
    pub token_url: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// That of a stored resource.
    pub(crate) fn of(auth: &'a Auth, trust: &Trust) -> Self {
        let header = match auth {
            Auth::None | Auth::Mtls { .. } => None,
            Auth::Bearer { .. } | Auth::Basic { .. } | Auth::Oauth2 { .. } => Some(AUTHORIZATION),
            Auth::ApiKey { header, .. } => Some(header.as_str()),
        };
        let token_url =
            if let Auth::Oauth2 { token_url, .. } = auth { Some(token_url) } else { None };
        let tls = tls_field(auth.kind(), trust);
        Self { kind: auth.kind(), header, tls, token_url: token_url.map(String::as_str) }
    }
}

/// What of a receiver is to be checked; a part that is none is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint<'a> {
    /// Where requests go.
    pub url: Option<&'a str>,
    /// Names of the headers that go along.
    pub headers: Option<Vec<&'a str>>,
    /// How Pregón identifies itself.
    pub identity: Option<Identity<'a>>,
}

impl Endpoint<'_> {
    /// What of it is to be held against its contract after an edit: all of it under another
    /// contract; else what was chosen, headers and auth being one.
    pub(super) fn affected_by(self, edit: &Endpoint<'_>, moved: bool) -> Self {
        let sent = moved || edit.headers.is_some() || edit.identity.is_some();
        Self {
            url: self.url.filter(|_| moved || edit.url.is_some()),
            headers: self.headers.filter(|_| sent),
            identity: self.identity.filter(|_| sent),
        }
    }

    /// Holds the URL against its tenant's rules, as far as can be said before a name is looked up.
    /// One that is no URL is told by [`Endpoint::check`].
    pub(super) fn check_rules(
        &self,
        resource: &str,
        rules: &EgressRules,
        policy: &UrlPolicy,
        wrong: &mut Violations,
    ) {
        let token_url = self.identity.and_then(|identity| identity.token_url);
        for (url, field) in [(self.url, "url"), (token_url, TOKEN_URL)] {
            let Some(Ok(url)) = url.map(EndpointUrl::parse_stored) else { continue };
            let text = match url.host().judge(rules, &policy.addresses, url.port()) {
                Ok(()) => continue,
                Err(Unruled::Denied) => "the tenant's egress_rules deny it",
                Err(Unruled::Unlisted) => "the tenant's egress_rules allow other receivers only",
            };
            wrong.add(format!("{resource}.{field}"), Rule::UrlRefused, text);
        }
    }

    /// Notes that what is said of certificates has no meaning for a URL without TLS.
    pub(super) fn check_tls(&self, resource: &str, wrong: &mut Violations) {
        let field = self.identity.and_then(|identity| identity.tls);
        let url = self.url.map(EndpointUrl::parse_stored);
        if let (Some(field), Some(Ok(url))) = (field, url)
            && url.scheme() == Scheme::Http
        {
            let text = format!("has a meaning for https only, and {resource}.url is http");
            wrong.add(format!("{resource}.auth.{field}"), Rule::OutOfRange, text);
        }
    }

    /// Holds the parts against each other, the contract and its rules for URLs. `resource` is the
    /// field that they are fields of.
    pub(crate) fn check(
        &self,
        resource: &str,
        contract: &Contract,
        policy: &UrlPolicy,
        wrong: &mut Violations,
    ) {
        if let Some(url) = self.url {
            let field = format!("{resource}.url");
            let url = wrong.check(field.clone(), EndpointUrl::parse(url, policy));
            let has = |name: &&str| url.as_ref().is_some_and(|url| url.has_parameter(name));
            if let Some(name) = contract.query_names().find(has) {
                let text = format!("has parameter {name:?} already, which the contract adds");
                wrong.add(field, Rule::UrlRefused, text);
            }
        }
        let reserved = contract.header_names();
        let own = self.identity.and_then(|identity| identity.header);
        for (index, name) in self.headers.iter().flatten().enumerate() {
            let text = if holds(&reserved, name) {
                "is set by the contract"
            } else if own.is_some_and(|own| own.eq_ignore_ascii_case(name)) {
                "is set by auth"
            } else {
                continue;
            };
            wrong.add(format!("{resource}.headers[{index}]"), Rule::HeaderRefused, text);
        }
        let Some(identity) = self.identity else { return };
        if let Some(url) = identity.token_url {
            wrong.check(format!("{resource}.{TOKEN_URL}"), EndpointUrl::parse(url, policy));
        }
        let field = format!("{resource}.auth");
        if !contract.allows_auth(identity.kind) {
            let text = format!("{} is none of the kinds that the contract allows", identity.kind);
            wrong.add(&field, Rule::OutOfRange, text);
        }
        if let Some(header) = identity.header.filter(|header| holds(&reserved, header)) {
            let field = match identity.kind {
                AuthKind::ApiKey => format!("{field}.api_key.header"),
                AuthKind::None
                | AuthKind::Bearer
                | AuthKind::Basic
                | AuthKind::Oauth2
                | AuthKind::Mtls => field,
            };
            wrong.add(field, Rule::HeaderRefused, format!("{header} is set by the contract"));
        }
    }
}

/// The field below `auth` that has a meaning over TLS only; none: there is no such.
pub(super) fn tls_field(kind: AuthKind, trust: &Trust) -> Option<&'static str> {
    if kind == AuthKind::Mtls {
        return Some("mtls");
    }
    if !trust.ca_pem.is_empty() {
        return Some("ca_pem");
    }
    (!trust.pinned.is_empty()).then_some("pinned_sha256")
}

fn holds(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The URL of a receiver as text that is a URL; what the contract allows is asked later.
pub(super) fn url(resource: &str, given: &str, wrong: &mut Violations) -> Option<String> {
    let parsed = EndpointUrl::parse_stored(given);
    wrong.check(format!("{resource}.url"), parsed).map(|url| url.as_str().to_owned())
}

/// How Pregón and the receiver identify themselves, as the API shows it: without credentials.
pub(super) fn shown_auth(auth: &Auth, trust: &Trust) -> Option<v1::Auth> {
    use v1::auth::Kind;
    let kind = match auth {
        Auth::None if trust.is_public() => return None,
        Auth::None => Kind::None(v1::NoAuth {}),
        Auth::Bearer { .. } => {
            Kind::Bearer(v1::BearerAuth { configured: true, ..Default::default() })
        }
        Auth::Basic { username, .. } => Kind::Basic(v1::BasicAuth {
            username: username.clone(),
            configured: true,
            ..Default::default()
        }),
        Auth::ApiKey { header, .. } => Kind::ApiKey(v1::ApiKeyAuth {
            header: header.clone(),
            configured: true,
            ..Default::default()
        }),
        Auth::Oauth2 { token_url, client_id, scopes, audience, style, .. } => {
            Kind::Oauth2(v1::Oauth2Auth {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                configured: true,
                scopes: scopes.clone(),
                audience: audience.clone(),
                style: map::oauth2_style(*style).into(),
                ..Default::default()
            })
        }
        Auth::Mtls { certificate, not_after, .. } => Kind::Mtls(v1::MtlsAuth {
            certificate_pem: certificate.clone(),
            configured: true,
            expire_time: map::moment(*not_after),
            ..Default::default()
        }),
    };
    let (ca_pem, pinned_sha256) = (trust.ca_pem.clone(), trust.pinned.clone());
    Some(v1::Auth { kind: Some(kind), ca_pem, pinned_sha256 })
}
