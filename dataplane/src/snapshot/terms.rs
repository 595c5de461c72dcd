//! What a receiver's TLS has of its own, and where its tokens come from, made ready once. The keys of
//! certificates and the secrets of clients are opened here and nowhere else, and only into what signs
//! handshakes and what asks for tokens.

use std::fmt;
use std::sync::Arc;

use pregon_core::id::TenantId;
use pregon_core::model::{Auth, Trust};
use pregon_core::seal::KeyRing;
use pregon_core::tls::Chain;
use pregon_core::url::EndpointUrl;

use super::headers::open;
use crate::egress::{PoolChoice, Target, Terms};
use crate::oauth::{Client, Grant};

/// The terms of a subscription or callback of that name; none: it has none of its own. The reason
/// where they cannot be made ready.
pub(super) fn read(
    auth: &Auth,
    trust: &Trust,
    resource: &impl fmt::Display,
    ring: &KeyRing,
) -> Result<Option<Terms>, String> {
    let identity = match auth {
        Auth::None
        | Auth::Bearer { .. }
        | Auth::Basic { .. }
        | Auth::ApiKey { .. }
        | Auth::Oauth2 { .. } => None,
        Auth::Mtls { certificate, key, .. } => {
            let key = open(key, &Auth::binding(resource), ring)
                .map_err(|why| format!("auth: mtls.key_pem: {why}"))?;
            let made = Chain::parse(certificate).and_then(|chain| chain.with_key(key.expose()));
            Some(Arc::new(made.map_err(|wrong| format!("auth: mtls: {wrong}"))?))
        }
    };
    Terms::read(trust, identity).map_err(|why| format!("auth: {why}"))
}

/// Where the tokens of a subscription or callback of that name come from; none: it has no such. The
/// reason where that cannot be made ready.
pub(super) fn client(
    auth: &Auth,
    trust: &Trust,
    (resource, tenant): (&impl fmt::Display, &TenantId),
    choice: &PoolChoice,
    ring: &KeyRing,
) -> Result<Option<Client>, String> {
    let Auth::Oauth2 { token_url, client_id, client_secret, scopes, audience, style } = auth else {
        return Ok(None);
    };
    let made = || {
        let client_secret = &open(client_secret, &Auth::binding(resource), ring)?;
        let url = EndpointUrl::parse_stored(token_url).map_err(|wrong| wrong.to_string())?;
        let target = Target::by(tenant.clone(), &url, choice.clone(), Terms::beside(trust)?);
        let (of, audience, style) = (&resource.to_string(), audience.as_str(), *style);
        Client::new(url, target, &Grant { of, client_id, client_secret, scopes, audience, style })
    };
    made().map(Some).map_err(|why: String| format!("auth: oauth2: {why}"))
}
