//! GetJwks: public keys for receivers.

use std::collections::HashMap;

use pregon_core::jwk::{PublishedKey, RsaUse, jwks};
use pregon_core::secret::key_public;

use super::{
    Control, Kind, Reason, Refusal, Secret, SecretAlgorithm, SignerName, Tenant, Violations, keys,
    parse, v1,
};
use crate::catalog::{CALLBACK_SECRETS, SUBSCRIPTION_SECRETS};

/// Keys of one set: half a MiB as text, 2.4 MiB of RSA keys with 4096 bits.
const KEYS: usize = 3000;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// Whose keys are asked for.
enum Owner {
    Tenant(pregon_core::id::TenantId),
    Signer(SignerName),
}

/// Keys on their way into a set.
#[derive(Default)]
struct Found {
    keys: Vec<PublishedKey>,
    /// How those sign whose contracts were looked up.
    uses: HashMap<SignerName, Option<RsaUse>>,
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
        let mut found = Found::default();
        for (collections, prefix) in below {
            self.add_public_keys(collections, &prefix, &mut found).await?;
        }
        Ok(v1::GetJwksResponse { jwks: jwks(&found.keys) })
    }

    /// Adds the public halves of the live key pairs whose names begin so, by name.
    async fn add_public_keys(
        &self,
        collections: &'static str,
        prefix: &str,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut after = String::new();
        loop {
            let page = self.list_in::<Secret>(collections, prefix, &after, CHUNK).await?;
            let wanted = page
                .iter()
                .map(|it| &it.value)
                .filter(|secret| secret.algorithm.has_public_key() && keys::is_live(secret, now));
            for secret in wanted {
                if found.keys.len() == KEYS {
                    let text =
                        format!("more than {KEYS} keys: ask for one subscription or callback");
                    return Err(Refusal::new(Reason::QuotaExceeded, text));
                }
                let public = key_public(secret.algorithm, &self.open(secret)?)
                    .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
                let Some(key) = public else { continue };
                let rsa = match secret.algorithm {
                    SecretAlgorithm::Rsa => self.rsa_use(&secret.signer, &mut found.uses).await?,
                    SecretAlgorithm::Hmac
                    | SecretAlgorithm::Ed25519
                    | SecretAlgorithm::EcdsaP256
                    | SecretAlgorithm::EcdsaP521
                    | SecretAlgorithm::EcdsaSecp256k1 => None,
                };
                found.keys.push(PublishedKey { id: secret.id.to_string(), key, rsa });
            }
            match page.last() {
                Some(last) if page.len() == CHUNK => after = last.value.name().to_string(),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// How somebody's RSA keys sign; none where in both ways, or nobody signs any more.
    async fn rsa_use(
        &self,
        signer: &SignerName,
        known: &mut HashMap<SignerName, Option<RsaUse>>,
    ) -> Result<Option<RsaUse>, Refusal> {
        if let Some(known) = known.get(signer) {
            return Ok(*known);
        }
        let contract = match self.find_signer(signer).await? {
            Some(id) => self.find_contract(&id).await?,
            None => None,
        };
        let found = contract.and_then(|contract| contract.rsa_use());
        known.insert(signer.clone(), found);
        Ok(found)
    }
}
