//! `Debug` of the messages that carry keys or passwords: it shows what tells them apart, and never
//! the keys. Which they are stands in `build.rs`, where their generated `Debug` is turned off.

use std::fmt;

use crate::v1::{
    ApiKeyAuth, BasicAuth, BearerAuth, CreateApiKeyResponse, CreatePortalTokenResponse, MtlsAuth,
    NewSecret, Oauth2Auth, RevealSecretResponse, RotateApiKeyResponse, RotateSecretRequest, Secret,
};

/// `hide!(Type: shown, fields)` implements `Debug` with these fields and no others.
macro_rules! hide {
    ($($message:ident: $($field:ident),*;)*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

hide! {
    ApiKeyAuth: header, configured;
    BasicAuth: username, configured;
    BearerAuth: configured;
    CreateApiKeyResponse: api_key, revision;
    CreatePortalTokenResponse: expire_time;
    MtlsAuth: configured, expire_time;
    NewSecret: secret_id, algorithm, activate_time, expire_time;
    Oauth2Auth: token_url, client_id, configured;
    RevealSecretResponse: ;
    RotateApiKeyResponse: api_key, revision;
    RotateSecretRequest: parent, algorithm, overlap, activate_time, validate_only, request_id;
    Secret: name, algorithm, activate_time, expire_time, state, fingerprint;
}
