//! What of a document is sealed under a master key, each with what it is bound to.
//!
//! Whoever looks for the keys that a store needs, or seals it anew, asks here, so that a field that
//! comes to be sealed cannot be forgotten by one of them.

use std::collections::BTreeSet;
use std::fmt;

use super::{Resource, ResourceName};
use crate::model::{Auth, HeaderText, OwnHeaders};
use crate::seal::{KeyId, SealError, key_of};

impl Resource {
    /// The master keys that something in it is sealed under. What has no envelope's shape is for
    /// whoever opens it to say.
    pub fn master_keys(&self) -> BTreeSet<KeyId> {
        let mut found = BTreeSet::new();
        // The texts stay as they are, so no copy is needed where nothing is sealed.
        if self.may_be_sealed() {
            let mut look = |text: &mut String, _: &str| {
                found.extend(key_of(text).ok());
                Ok(())
            };
            let _ = self.clone().each_sealed(&mut look); // `look` never fails
        }
        found
    }

    /// Shows `change` every sealed text, in base64, with what it is bound to.
    ///
    /// # Errors
    ///
    /// The first that `change` gives; texts before it are changed by then.
    pub fn each_sealed(
        &mut self,
        change: &mut dyn FnMut(&mut String, &str) -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        match self {
            Self::Secret(secret) => {
                let binding = secret.binding();
                change(&mut secret.sealed, &binding)
            }
            Self::Subscription(it) => {
                let name = it.name();
                of_auth(&mut it.auth, &name, change)?;
                of_headers(&mut it.headers, &name, change)
            }
            Self::Callback(it) => {
                let name = it.name();
                of_auth(&mut it.auth, &name, change)?;
                of_headers(&mut it.headers, &name, change)
            }
            Self::Tenant(_) | Self::EventType(_) | Self::Contract(_) | Self::ApiKey(_) => Ok(()),
        }
    }

    fn may_be_sealed(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::Subscription(it) => !it.auth.is_none() || !it.headers.is_empty(),
            Self::Callback(it) => !it.auth.is_none() || !it.headers.is_empty(),
            Self::Tenant(_) | Self::EventType(_) | Self::Contract(_) | Self::ApiKey(_) => false,
        }
    }
}

impl ResourceName {
    /// Whether documents of this kind may have something sealed.
    pub fn may_be_sealed(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Subscription(_) | Self::Callback(_) => true,
            Self::Tenant(_) | Self::EventType(_) | Self::Contract(_) | Self::ApiKey(_) => false,
        }
    }
}

fn of_auth(
    auth: &mut Auth,
    name: &impl fmt::Display,
    change: &mut dyn FnMut(&mut String, &str) -> Result<(), SealError>,
) -> Result<(), SealError> {
    let text = match auth {
        Auth::None => return Ok(()),
        Auth::Bearer { token } => token,
        Auth::Basic { password, .. } => password,
        Auth::ApiKey { value, .. } => value,
        Auth::Oauth2 { client_secret, .. } => client_secret,
        Auth::Mtls { key, .. } => key,
    };
    change(text, &Auth::binding(name))
}

fn of_headers(
    headers: &mut OwnHeaders,
    name: &impl fmt::Display,
    change: &mut dyn FnMut(&mut String, &str) -> Result<(), SealError>,
) -> Result<(), SealError> {
    for (header, value) in headers {
        if let HeaderText::Sealed { sealed } = value {
            change(sealed, &HeaderText::binding(name, header))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use serde_json::json;

    use super::*;
    use crate::model::ResourceName;
    use crate::seal::KeyRing;
    use crate::secret::SecretBytes;

    fn resource(name: &str, document: &serde_json::Value) -> Resource {
        let name = ResourceName::parse(name).unwrap();
        Resource::decode(&name, document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn everything_sealed_is_found_with_its_place() {
        let rings = ["11", "22", "33"].map(|key| KeyRing::parse(&key.repeat(32)).unwrap());
        let sealed = |at: usize, binding: &str| {
            let secret = SecretBytes::new(binding.as_bytes().to_vec());
            BASE64.encode(&rings[at].seal(&secret, binding, [7; 24]))
        };
        let name = "tenants/t/callbacks/c";
        let headers = json!([
            ["x-plain", "text"],
            ["X-One", {"sealed": sealed(1, &format!("{name}/headers/x-one"))}],
            ["x-two", {"sealed": sealed(2, &format!("{name}/headers/x-two"))}],
        ]);
        let auth = json!({"kind": "bearer", "token": sealed(0, &format!("{name}/auth"))});
        let mut callback = resource(
            name,
            &json!({
                "tenant": "t", "id": "c", "create_time": 1, "update_time": 1,
                "url": "https://example.com/", "environment": "LIVE",
                "contract": "standard-webhooks", "headers": headers, "auth": auth,
                "timeout_ms": 1000, "on_error": "ALLOW", "max_concurrency": 1, "state": "ACTIVE",
            }),
        );
        let ids = rings.each_ref().map(KeyRing::current);
        assert_eq!(callback.master_keys(), BTreeSet::from(ids));
        let mut seen = Vec::new();
        let mut look = |text: &mut String, binding: &str| {
            let opened = rings.iter().find_map(|ring| ring.open_text(text, binding).ok());
            seen.push((opened.is_some(), binding.to_owned()));
            *text = sealed(0, binding);
            Ok(())
        };
        callback.each_sealed(&mut look).unwrap();
        let places = ["auth", "headers/x-one", "headers/x-two"];
        let expected: Vec<_> = places.iter().map(|at| (true, format!("{name}/{at}"))).collect();
        assert_eq!(seen, expected);
        assert_eq!(callback.master_keys(), BTreeSet::from([ids[0]]));
    }
}
