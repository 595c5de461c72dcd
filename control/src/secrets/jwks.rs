//! GetJwks: public keys for receivers.

use pregon_core::jwk::jwks;
use pregon_core::secret::ed25519_public;

use super::{
    Control, Kind, Reason, Refusal, Secret, SecretAlgorithm, SignerName, Tenant, Violations, keys,
    parse, v1,
};
use crate::catalog::{CALLBACK_SECRETS, SUBSCRIPTION_SECRETS};

/// Keys of one set: half a MiB as text.
const KEYS: usize = 3000;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// Whose keys are asked for.
enum Owner {
    Tenant(pregon_core::id::TenantId),
    Signer(SignerName),
}

impl Control {
    pub(crate) async fn get_jwks(
        &self,
        request: v1::GetJwksRequest,
    ) -> Result<v1::GetJwksResponse, Refusal> {
        let mut wrong = Violations::new();
        let parent = match request.parent.split('/').count() {
            0..=2 => parse::tenant_name(&request.parent).map(Owner::Tenant),
            _ => SignerName::parse(&request.parent).map(Owner::Signer),
        };
        let parent = wrong.check("parent", parent);
        let below: Vec<(&'static str, String)> = match parse::done(wrong, parent)? {
            Owner::Tenant(tenant) => {
                let name = self.fetch::<Tenant>(&tenant.name()).await?.value.id.name();
                vec![
                    (CALLBACK_SECRETS, format!("{name}/callbacks/")),
                    (SUBSCRIPTION_SECRETS, format!("{name}/subscriptions/")),
                ]
            }
            Owner::Signer(signer) => {
                self.contract_of(&signer).await?;
                let prefix = format!("{signer}/secrets/");
                vec![(Secret::collections(&prefix), prefix)]
            }
        };
        let mut found = Vec::new();
        for (collections, prefix) in below {
            self.add_public_keys(collections, &prefix, &mut found).await?;
        }
        let found: Vec<_> = found.iter().map(|(id, public)| (id.as_str(), *public)).collect();
        Ok(v1::GetJwksResponse { jwks: jwks(&found) })
    }

    /// Adds the public halves of the live Ed25519 keys whose names begin so, by name.
    async fn add_public_keys(
        &self,
        collections: &'static str,
        prefix: &str,
        found: &mut Vec<(String, [u8; 32])>,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut after = String::new();
        loop {
            let page = self.list_in::<Secret>(collections, prefix, &after, CHUNK).await?;
            let wanted = page.iter().map(|it| &it.value).filter(|secret| {
                secret.algorithm == SecretAlgorithm::Ed25519 && keys::is_live(secret, now)
            });
            for secret in wanted {
                if found.len() == KEYS {
                    let text =
                        format!("more than {KEYS} keys: ask for one subscription or callback");
                    return Err(Refusal::new(Reason::QuotaExceeded, text));
                }
                let public = ed25519_public(&self.open(secret)?)
                    .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
                found.push((secret.id.to_string(), public));
            }
            match page.last() {
                Some(last) if page.len() == CHUNK => after = last.value.name().to_string(),
                Some(_) | None => return Ok(()),
            }
        }
    }
}
