//! SecretService.
//!
//! A key is a document of its own; what must hold of a subscription's keys together (no eleventh
//! live one, the last one stays) is decided on all of them at one moment and guarded by the
//! tenant's [`family`](crate::family). Material leaves by RevealSecret alone; everywhere else it
//! is sealed, bound to the secret's name.

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::id::{SecretId, SecretName, SubscriptionName};
use pregon_core::limits;
use pregon_core::model::{Resource, Secret, SecretAlgorithm, SecretState, Subscription};
use pregon_core::secret::SecretBytes;
use pregon_proto::v1;
use pregon_proto::v1::secret_service_server::SecretService;
use pregon_rpc::caller::Caller;
use pregon_rpc::time;
use std::time::Duration;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::service::service;
use crate::{etag, parse};
use keys::{Draft, to_wire};

mod keys;

service! {
    /// The service of signing keys.
    Secrets: SecretService {
        create_secret(CreateSecretRequest by caller) -> CreateSecretResponse;
        get_secret(GetSecretRequest) -> GetSecretResponse;
        list_secrets(ListSecretsRequest) -> ListSecretsResponse;
        delete_secret(DeleteSecretRequest) -> DeleteSecretResponse;
        rotate_secret(RotateSecretRequest by caller) -> RotateSecretResponse;
        revoke_secret(RevokeSecretRequest) -> RevokeSecretResponse;
        reveal_secret(RevealSecretRequest by caller) -> RevealSecretResponse;
    }
}

/// The subscription that a parent names. Callbacks will have secrets too.
fn parent(text: &str) -> Result<SubscriptionName, Wrong> {
    refuse_callbacks(text).and_then(|()| SubscriptionName::parse(text))
}

/// The secret that a name speaks of.
fn secret_name(text: &str) -> Result<SecretName, Wrong> {
    refuse_callbacks(text).and_then(|()| SecretName::parse(text))
}

fn refuse_callbacks(text: &str) -> Result<(), Wrong> {
    if text.starts_with("tenants/") && text.split('/').nth(2) == Some("callbacks") {
        return Err(Wrong::new(Rule::Unsupported, "callbacks are not supported yet"));
    }
    Ok(())
}

impl Control {
    pub(crate) async fn create_secret(
        &self,
        request: v1::CreateSecretRequest,
        caller: &Caller,
    ) -> Result<v1::CreateSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let parent = wrong.check("parent", parent(&request.parent));
        let assigned = request.secret_id.is_empty().then(|| self.assign("key_"));
        let id = assigned.as_ref().unwrap_or(&request.secret_id);
        let id = wrong.check("secret_id", SecretId::parse(id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateSecret", &request, options, &mut wrong);
        let (now, given) = (self.clock.now(), request.secret.unwrap_or_default());
        let draft = Draft::parse(&given, self.contracts.secret_form(), now, &mut wrong);
        let name = parent.zip(id);
        let name = name.map(|(subscription, secret)| SecretName { subscription, secret });
        let (name, draft) = parse::done(wrong, name.zip(draft))?;
        let secret = self.new_secret(&name, &draft)?;
        let _turn = self.turns.take(&name.subscription.tenant).await;
        let mut answer = until_settled(|| self.try_create_secret(&secret, &how)).await?;
        if let Some(shown) = &mut answer.secret
            && request.validate_only
            && assigned.is_some()
        {
            shown.name.clear(); // the real one will get another id
        }
        Ok(answer)
    }

    async fn try_create_secret(
        &self,
        secret: &Secret,
        how: &How,
    ) -> Result<Option<v1::CreateSecretResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let keys = self.keys_of(&secret.subscription).await?;
        if keys.find(&secret.id).is_some() {
            return Err(Refusal::exists(Secret::WORD, secret.name().to_string()));
        }
        let now = self.clock.now();
        keys.room_for_one(keys.live(now).count(), &secret.subscription)?;
        let plan = keys.trim(Plan::new().put(&Resource::Secret(secret.clone()), 0), now);
        let answer = v1::CreateSecretResponse {
            secret: Some(to_wire(&Stored::new(secret.clone()), now)),
            ..Default::default()
        };
        self.commit(keys.change(plan), answer, how).await
    }

    pub(crate) async fn get_secret(
        &self,
        request: v1::GetSecretRequest,
    ) -> Result<v1::GetSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", secret_name(&request.name));
        let name = parse::done(wrong, name)?;
        let secret = self.fetch::<Secret>(&name.to_string()).await?;
        Ok(v1::GetSecretResponse { secret: Some(to_wire(&secret, self.clock.now())) })
    }

    pub(crate) async fn list_secrets(
        &self,
        mut request: v1::ListSecretsRequest,
    ) -> Result<v1::ListSecretsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let parent = wrong.check("parent", parent(&request.parent));
        let parent = parse::done(wrong, parent)?.to_string();
        self.fetch::<Subscription>(&parent).await?;
        let name = |secret: &Secret| secret.name().to_string();
        let prefix = format!("{parent}/secrets/");
        let (found, next) = self.page(&prefix, &paging, name, |_| true).await?;
        let now = self.clock.now();
        let secrets = found.iter().map(|secret| to_wire(secret, now)).collect();
        Ok(v1::ListSecretsResponse { secrets, next_page_token: next })
    }

    pub(crate) async fn delete_secret(
        &self,
        request: v1::DeleteSecretRequest,
    ) -> Result<v1::DeleteSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", secret_name(&request.name));
        let name = parse::done(wrong, name)?;
        let _turn = self.turns.take(&name.subscription.tenant).await;
        until_settled(|| self.try_delete_secret(&name, &request)).await
    }

    async fn try_delete_secret(
        &self,
        name: &SecretName,
        request: &v1::DeleteSecretRequest,
    ) -> Result<Option<v1::DeleteSecretResponse>, Refusal> {
        let answer = v1::DeleteSecretResponse::default();
        let keys = self.find_keys_of(&name.subscription).await?;
        let found = keys.as_ref().and_then(|keys| keys.find(&name.secret).map(|it| (keys, it)));
        let Some((keys, secret)) = found else {
            return match request.allow_missing {
                true => Ok(Some(answer)),
                false => Err(Refusal::not_found(Secret::WORD, name.to_string())),
            };
        };
        etag::check(&request.etag, secret.revision, Secret::WORD, &name.to_string())?;
        if !request.force {
            self.not_the_last(keys, name)?;
        }
        let plan = keys.change(Plan::new().remove(name.to_string(), secret.revision));
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn rotate_secret(
        &self,
        request: v1::RotateSecretRequest,
        caller: &Caller,
    ) -> Result<v1::RotateSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let parent = wrong.check("parent", parent(&request.parent));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "RotateSecret", &request, options, &mut wrong);
        let overlap = match &request.overlap {
            None => Some(limits::ROTATE_OVERLAP_DEFAULT),
            Some(given) => {
                let range = Duration::ZERO..=limits::ROTATE_OVERLAP_MAX;
                wrong.check("overlap", time::parse_duration_within(given, range))
            }
        };
        let (now, form) = (self.clock.now(), self.contracts.secret_form());
        let activate = parse::moment("activate_time", request.activate_time.as_ref(), &mut wrong);
        let key = keys::material("material", &request.material, form, &mut wrong);
        let (parent, (overlap, key)) = parse::done(wrong, parent.zip(overlap.zip(key)))?;
        // No key signs in the past: a moment that has gone by is now.
        let activate = activate.map_or(now, |given| given.max(now));
        let draft = Draft { key, activate, expire: None };
        let id = SecretId::parse(&self.assign("key_"))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let name = SecretName { subscription: parent, secret: id };
        let secret = self.new_secret(&name, &draft)?;
        let end = activate.plus(overlap);
        let _turn = self.turns.take(&name.subscription.tenant).await;
        let mut answer = until_settled(|| self.try_rotate_secret(&secret, end, &how)).await?;
        if let Some(shown) = &mut answer.secret
            && request.validate_only
        {
            shown.name.clear(); // the real one will get another id
        }
        Ok(answer)
    }

    /// Puts `secret` in the place of the live ones, which end at `end`.
    async fn try_rotate_secret(
        &self,
        secret: &Secret,
        end: Timestamp,
        how: &How,
    ) -> Result<Option<v1::RotateSecretResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let keys = self.keys_of(&secret.subscription).await?;
        let now = self.clock.now();
        let mut plan = keys.trim(Plan::new().put(&Resource::Secret(secret.clone()), 0), now);
        let mut previous = Vec::new();
        for old in keys.live(now) {
            let mut ending = old.value.clone();
            ending.expire_time = Some(ending.expire_time.map_or(end, |own| own.min(end)));
            ending.common.update_time = now;
            plan = plan.put(&Resource::Secret(ending.clone()), old.revision);
            previous.push(ending);
        }
        let still_live = previous.iter().filter(|it| keys::is_live(it, now)).count();
        keys.room_for_one(still_live, &secret.subscription)?;
        previous.sort_by_key(|it| std::cmp::Reverse((it.activate_time, it.common.create_time)));
        let shown = |secret: &Secret| to_wire(&Stored::new(secret.clone()), now);
        let answer = v1::RotateSecretResponse {
            secret: Some(shown(secret)),
            previous: previous.iter().map(shown).collect(),
            ..Default::default()
        };
        self.commit(keys.change(plan), answer, how).await
    }

    pub(crate) async fn revoke_secret(
        &self,
        request: v1::RevokeSecretRequest,
    ) -> Result<v1::RevokeSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", secret_name(&request.name));
        let name = parse::done(wrong, name)?;
        let _turn = self.turns.take(&name.subscription.tenant).await;
        until_settled(|| self.try_revoke_secret(&name, &request)).await
    }

    async fn try_revoke_secret(
        &self,
        name: &SecretName,
        request: &v1::RevokeSecretRequest,
    ) -> Result<Option<v1::RevokeSecretResponse>, Refusal> {
        let text = name.to_string();
        let keys = self.find_keys_of(&name.subscription).await?;
        let found = keys.as_ref().and_then(|keys| keys.find(&name.secret).map(|it| (keys, it)));
        let Some((keys, stored)) = found else {
            return Err(Refusal::not_found(Secret::WORD, text));
        };
        let now = self.clock.now();
        match stored.value.state(now) {
            SecretState::Scheduled | SecretState::Active => {}
            SecretState::Revoked => {
                let revision = if request.validate_only { 0 } else { stored.revision };
                let secret = Some(to_wire(stored, now));
                return Ok(Some(v1::RevokeSecretResponse { secret, revision }));
            }
            SecretState::Expired => {
                let resource = Some((Secret::WORD, text.clone()));
                let message = format!("{text} has expired and signs no more");
                return Err(Refusal { resource, ..Refusal::new(Reason::StateConflict, message) });
            }
        }
        if !request.force {
            self.not_the_last(keys, name)?;
        }
        let mut secret = stored.value.clone();
        secret.revoke_time = Some(now);
        secret.common.update_time = now;
        let plan = Plan::new().put(&Resource::Secret(secret.clone()), stored.revision);
        let answer = v1::RevokeSecretResponse {
            secret: Some(to_wire(&Stored::new(secret), now)),
            ..Default::default()
        };
        self.commit(keys.change(plan), answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn reveal_secret(
        &self,
        request: v1::RevealSecretRequest,
        caller: &Caller,
    ) -> Result<v1::RevealSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", secret_name(&request.name));
        let name = parse::done(wrong, name)?;
        let stored = self.fetch::<Secret>(&name.to_string()).await?;
        let key = match stored.value.algorithm {
            SecretAlgorithm::Hmac => self.open(&stored.value)?,
            SecretAlgorithm::Ed25519 => {
                let text = "an Ed25519 secret is never shown; receivers need its public_key only";
                let resource = Some((Secret::WORD, name.to_string()));
                return Err(Refusal { resource, ..Refusal::new(Reason::StateConflict, text) });
            }
        };
        let unfit = || Refusal::new(Reason::Internal, "the key has not the contract's form");
        let material = self.contracts.secret_form().format(&key).ok_or_else(unfit)?;
        tracing::info!(secret = %name, actor = %caller.actor(), "a secret was revealed");
        Ok(v1::RevealSecretResponse { material: material.as_str().to_owned() })
    }
}
