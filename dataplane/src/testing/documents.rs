//! Documents about contracts, callbacks and credentials.

use data_encoding::BASE64;
use pregon_core::event::Environment;
use pregon_core::id::{CallbackName, ContractId};
use pregon_core::model::{
    Auth, Callback, CallbackState, Common, ContractDocument, FailurePolicy, Resource, Secret, Trust,
};
use pregon_core::secret::SecretBytes;

use super::{ring, secret};

/// A contract whose document is `keys` behind its name, with an example that renders it.
pub(crate) fn contract(id: &str, keys: &str) -> Resource {
    let example = r#"examples: [{event: {type: a.b, data: '{"a":1}'}}]"#;
    contract_document(id, &format!("contract: {id}\n{keys}\n{example}\n"))
}

/// A contract of exactly this document.
pub(crate) fn contract_document(id: &str, document: &str) -> Resource {
    Resource::Contract(ContractDocument {
        id: ContractId::parse(id).unwrap(),
        common: Common::default(),
        document: document.to_owned(),
        source: String::new(),
        document_revision: 0,
    })
}

/// The callback `tenants/{tenant}/callbacks/{id}`: denies on errors, remembers nothing.
pub(crate) fn callback(tenant: &str, id: &str, url: &str) -> Callback {
    let name = CallbackName::parse(&format!("tenants/{tenant}/callbacks/{id}")).unwrap();
    Callback {
        tenant: name.tenant,
        id: name.callback,
        common: Common::default(),
        url: url.to_owned(),
        environment: Environment::Live,
        contract: ContractId::parse("preauth").unwrap(),
        headers: Vec::new(),
        auth: Auth::None,
        trust: Trust::default(),
        verdict: String::new(),
        timeout_ms: 5000,
        on_error: FailurePolicy::Deny,
        cache_ttl_ms: 0,
        max_concurrency: 64,
        state: CallbackState::Active,
        state_change: None,
    }
}

/// A secret of the callback, active for ever.
pub(crate) fn callback_secret(callback: &Callback, id: &str) -> Secret {
    let mut secret = Secret { signer: callback.name().into(), ..secret("any", 1, id, 0) };
    let key = SecretBytes::new(vec![7; 32]);
    secret.sealed = BASE64.encode(&ring().seal(&key, &secret.binding(), [9; 24]));
    secret
}

/// A credential sealed for a subscription or callback of this name.
pub(crate) fn sealed(resource: &impl std::fmt::Display, text: &str) -> String {
    sealed_as(text, &Auth::binding(resource))
}

/// A credential sealed for this place.
pub(crate) fn sealed_as(text: &str, binding: &str) -> String {
    let credential = SecretBytes::new(text.as_bytes().to_vec());
    BASE64.encode(&ring().seal(&credential, binding, [3; 24]))
}
