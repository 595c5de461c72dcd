//! The keys of a subscription or a callback: counted, held against contracts, opened.

use std::collections::HashMap;

use pregon_core::clock::Timestamp;
use pregon_core::limits;
use pregon_core::secret::{SecretBytes, SecretForm};

use super::draft::signs_with;
use super::signer::word;
use super::{
    Contract, ContractId, Control, Kind, Plan, Reason, Refusal, Resource, Rule, Secret,
    SecretAlgorithm, SecretId, SecretName, SecretState, SignerName, Stored,
};
use crate::family::Family;

/// Secrets that a subscription or a callback keeps, those that ended included: the longest ended are dropped
/// when a new one comes, so that rotations for years leave no more than this.
const KEPT: usize = 100;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// Whether a key has the form that a contract wants of its secrets.
fn has_form(form: &SecretForm, key: &SecretBytes) -> bool {
    form.format(key).is_some_and(|text| form.parse(&text).is_ok())
}

/// Whether a contract requires a key and none of these live ones can be it.
pub(crate) fn lacks_one<'a>(
    contract: &Contract,
    live: impl IntoIterator<Item = &'a Stored<Secret>>,
) -> bool {
    contract.secret().required
        && !live.into_iter().any(|it| signs_with(contract, it.value.algorithm))
}

/// Whether a secret signs or is going to.
pub(crate) fn is_live(secret: &Secret, now: Timestamp) -> bool {
    match secret.state(now) {
        SecretState::Scheduled | SecretState::Active => true,
        SecretState::Expired | SecretState::Revoked => false,
    }
}

/// All keys of a subscription or a callback at one moment.
#[derive(Debug)]
pub(crate) struct Keys {
    family: Family,
    contract: ContractId,
    secrets: Vec<Stored<Secret>>,
}

impl Keys {
    pub(super) fn find(&self, id: &SecretId) -> Option<&Stored<Secret>> {
        self.secrets.iter().find(|secret| secret.value.id == *id)
    }

    /// The contract of whoever signs with them.
    pub(crate) fn contract(&self) -> &ContractId {
        &self.contract
    }

    /// Those that sign or are going to.
    pub(crate) fn live(&self, now: Timestamp) -> impl Iterator<Item = &Stored<Secret>> {
        self.secrets.iter().filter(move |secret| is_live(&secret.value, now))
    }

    /// Refuses one more secret beside so many live ones, if they are enough.
    pub(crate) fn room_for_one(&self, live: usize, of: &SignerName) -> Result<(), Refusal> {
        if live < limits::LIVE_SECRETS {
            return Ok(());
        }
        let text = format!("{of} may have {} live secrets", limits::LIVE_SECRETS);
        Err(Refusal::new(Reason::QuotaExceeded, text).about(word(of), of))
    }

    /// Whether a contract requires a key and none of these can be it.
    pub(super) fn lacks_one(&self, contract: &Contract, now: Timestamp) -> bool {
        lacks_one(contract, self.live(now))
    }

    /// Adds to a plan with a new secret that the longest ended ones go, where there are too many.
    pub(super) fn trim(&self, plan: Plan, now: Timestamp) -> Plan {
        let surplus = (self.secrets.len() + 1).saturating_sub(KEPT);
        let mut ended: Vec<_> =
            self.secrets.iter().filter(|secret| !is_live(&secret.value, now)).collect();
        ended.sort_by_key(|it| it.value.revoke_time.or(it.value.expire_time));
        let gone = ended.into_iter().take(surplus).map(|it| it.value.name().to_string());
        gone.fold(plan, Plan::delete)
    }

    /// Adds to a plan that the keys as a set change.
    pub(crate) fn change(&self, plan: Plan) -> Plan {
        self.family.change(plan, self.family.children)
    }
}

impl Control {
    /// Refuses to end the last live secret that can sign where the contract requires one.
    pub(super) async fn not_the_last(&self, keys: &Keys, name: &SecretName) -> Result<(), Refusal> {
        let now = self.clock.now();
        let contract = self.contract(&keys.contract).await?;
        let others = keys.live(now).filter(|secret| secret.value.id != name.secret);
        if keys.lacks_one(&contract, now) || !lacks_one(&contract, others) {
            return Ok(());
        }
        let text = format!(
            "{name} is the last live secret and the contract requires one; add another first, \
             rotate, or set force"
        );
        Err(Refusal::new(Reason::LastSecret, text).about(Secret::WORD, name))
    }

    /// The keys of a subscription or a callback, or the refusal that says it does not exist.
    pub(crate) async fn keys_of(&self, of: &SignerName) -> Result<Keys, Refusal> {
        let keys = self.find_keys_of(of).await?;
        keys.ok_or_else(|| Refusal::not_found(word(of), of.to_string()))
    }

    /// The keys of a subscription or a callback, if it exists.
    pub(super) async fn find_keys_of(&self, of: &SignerName) -> Result<Option<Keys>, Refusal> {
        // The family first: what is read after it is as it was, if the family still is.
        let Some(family) = self.find_family(of.tenant()).await? else { return Ok(None) };
        let Some(contract) = self.find_signer(of).await? else { return Ok(None) };
        let secrets = self.list::<Secret>(&format!("{of}/secrets/"), "", CHUNK).await?;
        Ok(Some(Keys { family, contract, secrets }))
    }

    /// Refuses a new key that a contract has no place for: it may have changed since the key was
    /// parsed.
    pub(crate) fn check_key(
        &self,
        field: &str,
        contract: &Contract,
        secret: &Secret,
    ) -> Result<(), Refusal> {
        let (of, form) = (secret.algorithm, &contract.secret().form);
        let fits = signs_with(contract, of)
            && (of != SecretAlgorithm::Hmac || has_form(form, &self.open(secret)?));
        if fits {
            return Ok(());
        }
        let text = match of {
            SecretAlgorithm::Hmac => format!("must be {form}"),
            SecretAlgorithm::Ed25519
            | SecretAlgorithm::Rsa
            | SecretAlgorithm::EcdsaP256
            | SecretAlgorithm::EcdsaP521
            | SecretAlgorithm::EcdsaSecp256k1 => {
                format!("is {of}, and {} has no signature of this kind", contract.id().name())
            }
        };
        Err(Refusal::field(field, Rule::OutOfRange, text))
    }

    /// Why the first of these keys cannot be used under a contract; none: all of them can. One that
    /// signs nothing asks nothing of them.
    pub(crate) fn unfit_key<'a>(
        &self,
        contract: &Contract,
        keys: impl IntoIterator<Item = &'a Stored<Secret>>,
    ) -> Result<Option<String>, Refusal> {
        if !contract.uses_hmac() {
            return Ok(None);
        }
        let form = &contract.secret().form;
        for secret in keys {
            let secret = &secret.value;
            if secret.algorithm == SecretAlgorithm::Hmac && !has_form(form, &self.open(secret)?) {
                let text = format!("{} is live and is not {form}", secret.name());
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Adds to a plan what becomes of the keys when whoever signs moves to another contract; with how
    /// many then live. Keys that do not fit it are reported at `field`.
    pub(crate) async fn move_keys(
        &self,
        field: &str,
        signer: &SignerName,
        contract: &Contract,
        plan: Plan,
    ) -> Result<(Plan, u32), Refusal> {
        let keys = self.keys_of(signer).await?;
        let now = self.clock.now();
        if let Some(text) = self.unfit_key(contract, keys.live(now))? {
            return Err(Refusal::field(field, Rule::OutOfRange, text));
        }
        let mut live = keys.live(now).count();
        let mut plan = keys.change(plan);
        if keys.lacks_one(contract, now) {
            keys.room_for_one(live, signer)?;
            plan = plan.put(&Resource::Secret(self.first_secret(signer, contract).await?), 0);
            live += 1;
        }
        Ok((plan, u32::try_from(live).unwrap_or(u32::MAX)))
    }

    /// The key itself.
    pub(crate) fn open(&self, secret: &Secret) -> Result<SecretBytes, Refusal> {
        let refused = |why: &dyn std::fmt::Display| {
            tracing::error!(secret = %secret.name(), %why, "a secret does not open");
            let text = format!("{} does not open under the master keys given", secret.name());
            Refusal::new(Reason::Internal, text)
        };
        let opened = self.ring().open_text(&secret.sealed, &secret.binding());
        opened.map_err(|error| refused(&error))
    }

    /// How many secrets of a subscription or a callback are scheduled or active.
    pub(crate) async fn live_secrets(&self, of: &SignerName) -> Result<u32, Refusal> {
        let now = self.clock.now();
        let secrets = self.list::<Secret>(&format!("{of}/secrets/"), "", CHUNK).await?;
        let live = secrets.iter().filter(|secret| is_live(&secret.value, now)).count();
        Ok(u32::try_from(live).unwrap_or(u32::MAX))
    }

    /// The same for many of one kind, whose names begin with `prefix`.
    pub(crate) async fn live_secrets_of(
        &self,
        collections: &'static str,
        prefix: &str,
        of: impl IntoIterator<Item = SignerName>,
    ) -> Result<HashMap<SignerName, u32>, Refusal> {
        let mut counts: HashMap<_, u32> = of.into_iter().map(|signer| (signer, 0)).collect();
        let places: Vec<_> = counts.keys().map(|signer| format!("{signer}/secrets/")).collect();
        let places = || places.iter().cloned();
        let (Some(mut after), Some(last)) = (places().min(), places().max()) else {
            return Ok(counts);
        };
        let now = self.clock.now();
        loop {
            let page = self.list_in::<Secret>(collections, prefix, &after, CHUNK).await?;
            for secret in &page {
                if let Some(count) = counts.get_mut(&secret.value.signer)
                    && is_live(&secret.value, now)
                {
                    *count += 1;
                }
            }
            match page.last().map(|secret| secret.value.name().to_string()) {
                Some(name) if page.len() == CHUNK && (name.starts_with(&last) || name < last) => {
                    after = name;
                }
                Some(_) | None => return Ok(counts),
            }
        }
    }
}
