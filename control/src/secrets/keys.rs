//! The keys of a subscription: made, sealed, counted, shown without their material.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::model::Common;
use pregon_core::seal::NONCE_LEN;
use pregon_core::secret::SecretForm;

use super::{
    Control, Kind, Plan, Reason, Refusal, Rule, Secret, SecretAlgorithm, SecretBytes, SecretId,
    SecretName, SecretState, Stored, Subscription, SubscriptionName, Timestamp, Violations, etag,
    limits, parse, v1,
};
use crate::family::Family;
use crate::map;

/// Secrets that a subscription keeps, those that ended included: the longest ended are dropped
/// when a new one comes, so that rotations for years leave no more than this.
const KEPT: usize = 100;
/// Secrets that one call to the store lists.
const CHUNK: usize = 1000;

/// A key that is to be stored.
#[derive(Debug)]
pub(super) struct Draft {
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
        form: &SecretForm,
        now: Timestamp,
        wrong: &mut Violations,
    ) -> Option<Self> {
        match parse::known("secret.algorithm", given.algorithm, wrong) {
            None | Some(v1::SecretAlgorithm::Unspecified | v1::SecretAlgorithm::Hmac) => {}
            Some(v1::SecretAlgorithm::Ed25519) => {
                parse::unsupported("secret.algorithm", true, wrong);
            }
        }
        let key = material("secret.material", &given.material, form, wrong);
        let activate = parse::moment("secret.activate_time", given.activate_time.as_ref(), wrong);
        let expire = parse::moment("secret.expire_time", given.expire_time.as_ref(), wrong);
        let activate = activate.unwrap_or(now);
        if expire.is_some_and(|expire| expire <= activate.max(now)) {
            let text = "must be later than activate_time, and not past";
            wrong.add("secret.expire_time", Rule::OutOfRange, text);
        }
        key.map(|key| Self { key, activate, expire })
    }
}

/// Material that may be left out: `Some(None)` then, and `None` where it is wrong.
#[allow(clippy::option_option)] // the outer one is the parse, the inner one the field
pub(super) fn material(
    field: &str,
    given: &str,
    form: &SecretForm,
    wrong: &mut Violations,
) -> Option<Option<SecretBytes>> {
    if given.is_empty() {
        return Some(None);
    }
    wrong.check(field, form.parse(given)).map(Some)
}

/// Whether a secret signs or is going to.
pub(super) fn is_live(secret: &Secret, now: Timestamp) -> bool {
    match secret.state(now) {
        SecretState::Scheduled | SecretState::Active => true,
        SecretState::Expired | SecretState::Revoked => false,
    }
}

/// All keys of a subscription at one moment.
#[derive(Debug)]
pub(super) struct Keys {
    family: Family,
    secrets: Vec<Stored<Secret>>,
}

impl Keys {
    pub(super) fn find(&self, id: &SecretId) -> Option<&Stored<Secret>> {
        self.secrets.iter().find(|secret| secret.value.id == *id)
    }

    pub(super) fn live(&self, now: Timestamp) -> impl Iterator<Item = &Stored<Secret>> {
        self.secrets.iter().filter(move |secret| is_live(&secret.value, now))
    }

    /// Refuses one more secret beside so many live ones, if they are enough.
    pub(super) fn room_for_one(&self, live: usize, of: &SubscriptionName) -> Result<(), Refusal> {
        if live < limits::LIVE_SECRETS {
            return Ok(());
        }
        let text = format!("{of} may have {} live secrets", limits::LIVE_SECRETS);
        let resource = Some((Subscription::WORD, of.to_string()));
        Err(Refusal { resource, ..Refusal::new(Reason::QuotaExceeded, text) })
    }

    /// Whether a secret is live and no other one stands beside it.
    fn is_the_last(&self, id: &SecretId, now: Timestamp) -> bool {
        self.live(now).map(|secret| &secret.value.id).eq([id])
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
    pub(super) fn change(&self, plan: Plan) -> Plan {
        self.family.change(plan, self.family.subscriptions)
    }
}

impl Control {
    /// Refuses to end the last live secret where the contract requires one.
    pub(super) fn not_the_last(&self, keys: &Keys, name: &SecretName) -> Result<(), Refusal> {
        let now = self.clock.now();
        if !self.contracts.requires_secret() || !keys.is_the_last(&name.secret, now) {
            return Ok(());
        }
        let text = format!(
            "{name} is the last live secret and the contract requires one; add another first, \
             rotate, or set force"
        );
        let resource = Some((Secret::WORD, name.to_string()));
        Err(Refusal { resource, ..Refusal::new(Reason::LastSecret, text) })
    }

    /// The keys of a subscription, or the refusal that says it does not exist.
    pub(super) async fn keys_of(&self, of: &SubscriptionName) -> Result<Keys, Refusal> {
        let keys = self.find_keys_of(of).await?;
        keys.ok_or_else(|| Refusal::not_found(Subscription::WORD, of.to_string()))
    }

    /// The keys of a subscription, if it exists.
    pub(super) async fn find_keys_of(
        &self,
        of: &SubscriptionName,
    ) -> Result<Option<Keys>, Refusal> {
        // The family first: what is read after it is as it was, if the family still is.
        let Some(family) = self.find_family(&of.tenant).await? else { return Ok(None) };
        if self.find::<Subscription>(&of.to_string()).await?.is_none() {
            return Ok(None);
        }
        let secrets = self.list::<Secret>(&format!("{of}/secrets/"), "", CHUNK).await?;
        Ok(Some(Keys { family, secrets }))
    }

    /// A secret under this name, its key generated if there is none, sealed.
    pub(super) fn new_secret(&self, name: &SecretName, draft: &Draft) -> Result<Secret, Refusal> {
        let generated;
        let key = match &draft.key {
            Some(key) => key,
            None => {
                let mut random = self.random;
                generated = self.contracts.secret_form().generate(&mut random);
                &generated
            }
        };
        let now = self.clock.now();
        let mut secret = Secret {
            subscription: name.subscription.clone(),
            id: name.secret.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            algorithm: SecretAlgorithm::Hmac,
            sealed: String::new(),
            fingerprint: key.fingerprint(),
            activate_time: draft.activate,
            expire_time: draft.expire,
            revoke_time: None,
        };
        let mut nonce = [0u8; NONCE_LEN];
        (self.random)(&mut nonce);
        secret.sealed = STANDARD.encode(self.keys.seal(key, &secret.binding(), nonce));
        Ok(secret)
    }

    /// The first key of a new subscription.
    pub(crate) fn first_secret(&self, of: &SubscriptionName) -> Result<Secret, Refusal> {
        let id = SecretId::parse(&self.assign("key_"))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let draft = Draft { key: None, activate: self.clock.now(), expire: None };
        self.new_secret(&SecretName { subscription: of.clone(), secret: id }, &draft)
    }

    /// The key itself.
    pub(super) fn open(&self, secret: &Secret) -> Result<SecretBytes, Refusal> {
        let refused = |why: &dyn std::fmt::Display| {
            tracing::error!(secret = %secret.name(), %why, "a secret does not open");
            let text = format!("{} does not open under the master keys given", secret.name());
            Refusal::new(Reason::Internal, text)
        };
        let sealed = STANDARD.decode(&secret.sealed).map_err(|error| refused(&error))?;
        self.keys.open(&sealed, &secret.binding()).map_err(|error| refused(&error))
    }

    /// How many secrets of a subscription are scheduled or active.
    pub(crate) async fn live_secrets(&self, of: &SubscriptionName) -> Result<u32, Refusal> {
        let now = self.clock.now();
        let secrets = self.list::<Secret>(&format!("{of}/secrets/"), "", CHUNK).await?;
        let live = secrets.iter().filter(|secret| is_live(&secret.value, now)).count();
        Ok(u32::try_from(live).unwrap_or(u32::MAX))
    }

    /// The same for many subscriptions, whose names begin with `prefix`.
    pub(crate) async fn live_secrets_of(
        &self,
        prefix: &str,
        of: &[Stored<Subscription>],
    ) -> Result<HashMap<SubscriptionName, u32>, Refusal> {
        let mut counts: HashMap<_, u32> = of.iter().map(|it| (it.value.name(), 0)).collect();
        let places = || of.iter().map(|it| format!("{}/secrets/", it.value.name()));
        let (Some(mut after), Some(last)) = (places().min(), places().max()) else {
            return Ok(counts);
        };
        let now = self.clock.now();
        loop {
            let page = self.list::<Secret>(prefix, &after, CHUNK).await?;
            for secret in &page {
                if let Some(count) = counts.get_mut(&secret.value.subscription)
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

/// A secret as the API shows it: without its material.
pub(super) fn to_wire(stored: &Stored<Secret>, now: Timestamp) -> v1::Secret {
    let it = &stored.value;
    let state = match it.state(now) {
        SecretState::Scheduled => v1::SecretState::Scheduled,
        SecretState::Active => v1::SecretState::Active,
        SecretState::Expired => v1::SecretState::Expired,
        SecretState::Revoked => v1::SecretState::Revoked,
    };
    let algorithm = match it.algorithm {
        SecretAlgorithm::Hmac => v1::SecretAlgorithm::Hmac,
        SecretAlgorithm::Ed25519 => v1::SecretAlgorithm::Ed25519,
    };
    v1::Secret {
        name: it.name().to_string(),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        algorithm: algorithm.into(),
        material: String::new(),
        activate_time: map::moment(it.activate_time),
        expire_time: it.expire_time.and_then(map::moment),
        state: state.into(),
        public_key: String::new(),
        fingerprint: it.fingerprint.clone(),
    }
}
