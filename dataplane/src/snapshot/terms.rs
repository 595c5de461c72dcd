//! What a receiver's TLS has of its own, made ready once. The keys of certificates are opened here and
//! nowhere else, and only into what signs handshakes.

use std::fmt;
use std::sync::Arc;

use pregon_core::model::{Auth, Trust};
use pregon_core::seal::KeyRing;
use pregon_core::tls::Chain;

use super::headers::open;
use crate::egress::Terms;

/// The terms of a subscription or callback of that name; none: it has none of its own. The reason
/// where they cannot be made ready.
pub(super) fn read(
    auth: &Auth,
    trust: &Trust,
    resource: &impl fmt::Display,
    ring: &KeyRing,
) -> Result<Option<Terms>, String> {
    let identity = match auth {
        Auth::None | Auth::Bearer { .. } | Auth::Basic { .. } | Auth::ApiKey { .. } => None,
        Auth::Mtls { certificate, key, .. } => {
            let key = open(key, &Auth::binding(resource), ring)
                .map_err(|why| format!("auth: mtls.key_pem: {why}"))?;
            let made = Chain::parse(certificate).and_then(|chain| chain.with_key(key.expose()));
            Some(Arc::new(made.map_err(|wrong| format!("auth: mtls: {wrong}"))?))
        }
    };
    Terms::read(trust, identity).map_err(|why| format!("auth: {why}"))
}
