//! The keys of a subscription or a callback: made, sealed, counted, shown without their material.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::clock::Timestamp;
use pregon_core::limits;
use pregon_core::model::Common;
use pregon_core::secret::{
    SecretBytes, SecretForm, ed25519_generate, ed25519_parse, ed25519_public, ed25519_public_text,
};

use super::signer::word;
use super::{
    Contract, ContractId, Control, Kind, Plan, Reason, Refusal, Resource, Rule, Secret,
    SecretAlgorithm, SecretId, SecretName, SecretState, SignerName, Stored, Violations, etag,
    parse, v1,
};
use crate::family::Family;
use crate::map;

/// Secrets that a subscription or a callback keeps, those that ended included: the longest ended are dropped
/// when a new one comes, so that rotations for years leave no more than this.
const KEPT: usize = 100;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// A key that is to be stored.
#[derive(Debug)]
pub(super) struct Draft {
    /// What it signs with.
    pub algorithm: SecretAlgorithm,
    /// The key; none: to be generated.
    pub key: Option<SecretBytes>,
    /// From when it signs.
    pub activate: Timestamp,
    /// From when it signs no more.
    pub expire: Option<Timestamp>,
}

impl Draft {
    pub(super) fn parse(
        given: &v1::Secret,
        contract: &Contract,
        now: Timestamp,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let algorithm = parse::known("secret.algorithm", given.algorithm, wrong)
            .and_then(map::from_secret_algorithm)
            .unwrap_or_else(|| own_algorithm(contract));
        if !signs_with(contract, algorithm) {
            let text = format!("{} has no signature of this kind", contract.id().name());
            wrong.add("secret.algorithm", Rule::OutOfRange, text);
        }
        let form = &contract.secret().form;
        let key = material("secret.material", &given.material, algorithm, form, wrong);
        let activate = parse::moment("secret.activate_time", given.activate_time.as_ref(), wrong);
        let expire = parse::moment("secret.expire_time", given.expire_time.as_ref(), wrong);
        let activate = activate.unwrap_or(now);
        if expire.is_some_and(|expire| expire <= activate.max(now)) {
            let text = "must be later than activate_time, and not past";
            wrong.add("secret.expire_time", Rule::OutOfRange, text);
        }
        key.map(|key| Self { algorithm, key, activate, expire })
    }
}

/// Material that may be left out: `Some(None)` then, and `None` where it is wrong.
#[allow(clippy::option_option)] // the outer one is the parse, the inner one the field
pub(super) fn material(
    field: &str,
    given: &str,
    algorithm: SecretAlgorithm,
    form: &SecretForm,
    wrong: &mut Violations,
) -> Option<Option<SecretBytes>> {
    if given.is_empty() {
        return Some(None);
    }
    let parsed = match algorithm {
        SecretAlgorithm::Hmac => form.parse(given),
        SecretAlgorithm::Ed25519 => ed25519_parse(given),
    };
    wrong.check(field, parsed).map(Some)
}

/// What a contract's secrets sign with where nobody says.
pub(super) fn own_algorithm(contract: &Contract) -> SecretAlgorithm {
    match contract.uses_ed25519() && !contract.uses_hmac() {
        true => SecretAlgorithm::Ed25519,
        false => SecretAlgorithm::Hmac,
    }
}

/// Whether a contract may have secrets of a kind. One that signs nothing has them of the form it
/// states, for the day it does.
pub(super) fn signs_with(contract: &Contract, algorithm: SecretAlgorithm) -> bool {
    match algorithm {
        SecretAlgorithm::Hmac => contract.uses_hmac() || !contract.uses_ed25519(),
        SecretAlgorithm::Ed25519 => contract.uses_ed25519(),
    }
}

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

    /// A secret under this name, its key generated if there is none, sealed.
    pub(super) fn new_secret(
        &self,
        name: &SecretName,
        draft: &Draft,
        contract: &Contract,
    ) -> Result<Secret, Refusal> {
        let generated;
        let key = match &draft.key {
            Some(key) => key,
            None => {
                let mut random = self.random;
                generated = match draft.algorithm {
                    SecretAlgorithm::Hmac => contract.secret().form.generate(&mut random),
                    SecretAlgorithm::Ed25519 => ed25519_generate(&mut random),
                };
                &generated
            }
        };
        let now = self.clock.now();
        let mut secret = Secret {
            signer: name.signer.clone(),
            id: name.secret.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            algorithm: draft.algorithm,
            sealed: String::new(),
            fingerprint: key.fingerprint(),
            activate_time: draft.activate,
            expire_time: draft.expire,
            revoke_time: None,
        };
        secret.sealed = self.seal(key, &secret.binding());
        Ok(secret)
    }

    /// The first key of a subscription or a callback under a contract.
    pub(crate) fn first_secret(
        &self,
        of: &SignerName,
        contract: &Contract,
    ) -> Result<Secret, Refusal> {
        let id = SecretId::parse(&self.assign("key_"))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let (algorithm, activate) = (own_algorithm(contract), self.clock.now());
        let draft = Draft { algorithm, key: None, activate, expire: None };
        self.new_secret(&SecretName { signer: of.clone(), secret: id }, &draft, contract)
    }

    /// Refuses a new key that a contract has no place for: it may have changed since the key was
    /// parsed.
    pub(super) fn check_key(
        &self,
        field: &str,
        contract: &Contract,
        secret: &Secret,
    ) -> Result<(), Refusal> {
        let (of, form) = (secret.algorithm, &contract.secret().form);
        let fits = signs_with(contract, of)
            && (of != SecretAlgorithm::Hmac || has_form(form, &self.open(secret)?));
        match fits {
            true => Ok(()),
            false => Err(Refusal::field(field, Rule::OutOfRange, format!("must be {form}"))),
        }
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
            plan = plan.put(&Resource::Secret(self.first_secret(signer, contract)?), 0);
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
        let sealed = STANDARD.decode(&secret.sealed).map_err(|error| refused(&error))?;
        self.keys.open(&sealed, &secret.binding()).map_err(|error| refused(&error))
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

impl Control {
    /// A secret as the API shows it: without its material, with its public key if it has one.
    pub(crate) fn shown_secret(&self, stored: &Stored<Secret>, now: Timestamp) -> v1::Secret {
        let public = match stored.value.algorithm {
            SecretAlgorithm::Hmac => None,
            // One that does not open is logged as such, and shown without.
            SecretAlgorithm::Ed25519 => self.open(&stored.value).ok(),
        };
        let public = public.and_then(|seed| ed25519_public(&seed).ok());
        let public_key = public.map(|key| ed25519_public_text(&key)).unwrap_or_default();
        v1::Secret { public_key, ..to_wire(stored, now) }
    }
}

fn to_wire(stored: &Stored<Secret>, now: Timestamp) -> v1::Secret {
    let it = &stored.value;
    v1::Secret {
        name: it.name().to_string(),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        algorithm: map::secret_algorithm(it.algorithm).into(),
        material: String::new(),
        activate_time: map::moment(it.activate_time),
        expire_time: it.expire_time.and_then(map::moment),
        state: map::secret_state(it.state(now)).into(),
        public_key: String::new(),
        fingerprint: it.fingerprint.clone(),
    }
}
