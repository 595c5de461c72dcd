//! ApiKeyService.
//!
//! A key is shown once, in the answer to the call that made its secret; stored is a hash. The answer
//! that is remembered for repeats of a request is without it.
//!
//! How many keys there are must hold of the set: whoever creates one rewrites a small document and
//! relies on it as it was read before the keys were, so that two creations cannot both succeed on
//! the same grounds.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::{ApiKeyId, TenantId};
use pregon_core::limits;
use pregon_core::model::{ApiKey, ApiKeySecret, ApiKeyState, Resource};
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService;
use pregon_rpc::caller::{Caller, Role};
use pregon_rpc::{keys, time};

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::service::service;
use crate::{etag, map, parse};
use draft::Draft;

mod draft;
mod portal;

service! {
    /// The service of API keys.
    ApiKeys: ApiKeyService {
        create_api_key(CreateApiKeyRequest by caller) -> CreateApiKeyResponse;
        get_api_key(GetApiKeyRequest by caller) -> GetApiKeyResponse;
        list_api_keys(ListApiKeysRequest by caller) -> ListApiKeysResponse;
        rotate_api_key(RotateApiKeyRequest by caller) -> RotateApiKeyResponse;
        revoke_api_key(RevokeApiKeyRequest by caller) -> RevokeApiKeyResponse;
        create_portal_token(CreatePortalTokenRequest by caller) -> CreatePortalTokenResponse;
    }
}

/// Where all keys lie.
const PREFIX: &str = "apiKeys/";
/// Written with every creation; no resource has such a name.
const GUARD: &str = "books/apiKeys";

/// Whether a caller may see a key.
fn sees(caller: &Caller, key: &ApiKey) -> bool {
    caller.reaches(key.tenants.as_ref()) && caller.may_use(key.environment).is_ok()
}

/// A key as the API shows it.
pub(crate) fn to_wire(stored: &Stored<ApiKey>, now: Timestamp) -> v1::ApiKey {
    let key = &stored.value;
    let secret = |it: &ApiKeySecret| v1::ApiKeySecret {
        create_time: map::moment(it.create_time),
        expire_time: it.expire_time.and_then(map::moment),
    };
    let tenants = key.tenants.iter().flatten();
    v1::ApiKey {
        name: key.id.name(),
        display_name: key.common.display_name.clone(),
        create_time: map::moment(key.common.create_time),
        update_time: map::moment(key.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        role: Role::parse(&key.role).map_or(v1::ApiKeyRole::Unspecified, map::role).into(),
        tenants: tenants.map(pregon_core::id::TenantId::name).collect(),
        event_types: key.event_types.clone(),
        environment: key.environment.map_or(0, |it| map::environment(it).into()),
        limits: Some(v1::ApiKeyLimits {
            calls_per_second: map::small(key.limits.calls_per_second),
            events_per_second: map::small(key.limits.events_per_second),
            bytes_per_second: map::small(key.limits.bytes_per_second),
        }),
        expire_time: key.expire_time.and_then(map::moment),
        revoke_time: key.revoke_time.and_then(map::moment),
        state: match key.state(now) {
            ApiKeyState::Active => v1::ApiKeyState::Active,
            ApiKeyState::Expired => v1::ApiKeyState::Expired,
            ApiKeyState::Revoked => v1::ApiKeyState::Revoked,
        }
        .into(),
        secrets: key.secrets.iter().filter(|it| is_valid(it, now)).map(secret).collect(),
        creator: key.creator.clone(),
    }
}

/// Whether a secret's own time has not passed.
fn is_valid(secret: &ApiKeySecret, now: Timestamp) -> bool {
    secret.expire_time.is_none_or(|end| end > now)
}

impl Control {
    pub(crate) async fn create_api_key(
        &self,
        request: v1::CreateApiKeyRequest,
        caller: &Caller,
    ) -> Result<v1::CreateApiKeyResponse, Refusal> {
        let given = parse::needed("api_key", request.api_key.as_ref())?;
        let mut wrong = Violations::new();
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateApiKey", &request, options, &mut wrong);
        let now = self.clock.now();
        let draft = Draft::parse(given, now, &mut wrong);
        let draft = parse::done(wrong, draft)?;
        draft.may_be_made_by(caller)?;
        let id = ApiKeyId::parse(&self.assign(""))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let made = keys::new_secret(&id, self.random);
        let secret =
            ApiKeySecret { sha256: made.sha256.clone(), create_time: now, expire_time: None };
        let key = draft.key(id, secret, caller, now);
        let mut answer = until_settled(|| self.try_create_api_key(&key, caller, &how)).await?;
        if let Some(shown) = &mut answer.api_key {
            if how.validate_only {
                shown.name.clear(); // the real one will get another id
            } else if shown.name == key.id.name() {
                // Not an answer that was remembered.
                answer.key = made.key.to_string();
            }
        }
        Ok(answer)
    }

    async fn try_create_api_key(
        &self,
        key: &ApiKey,
        caller: &Caller,
        how: &How,
    ) -> Result<Option<v1::CreateApiKeyResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let now = self.clock.now();
        let guard = self.store.config.get(&[GUARD.to_owned()]).await?.pop().flatten();
        let all = self.all_below::<ApiKey>(PREFIX, |it| it.id.name()).await?;
        let plan = Plan::new()
            .relies_on(GUARD, guard.map(|it| it.revision))
            .write(GUARD, b"{}".as_slice())
            .put(&Resource::ApiKey(key.clone()), 0);
        let plan = room_for(key, &all, plan, now)?;
        let plan = reaching(caller, key, &all, plan)?;
        let api_key = Some(to_wire(&Stored::new(key.clone()), now));
        self.commit(plan, v1::CreateApiKeyResponse { api_key, ..Default::default() }, how).await
    }

    /// A key that a caller may see.
    async fn api_key(&self, id: &ApiKeyId, caller: &Caller) -> Result<Stored<ApiKey>, Refusal> {
        let found = self.find::<ApiKey>(&id.name()).await?;
        let seen = found.filter(|it| sees(caller, &it.value));
        seen.ok_or_else(|| Refusal::not_found(ApiKey::WORD, id.name()))
    }

    pub(crate) async fn get_api_key(
        &self,
        request: v1::GetApiKeyRequest,
        caller: &Caller,
    ) -> Result<v1::GetApiKeyResponse, Refusal> {
        let id = parse::only("name", ApiKeyId::parse_name(&request.name))?;
        let key = self.api_key(&id, caller).await?;
        Ok(v1::GetApiKeyResponse { api_key: Some(to_wire(&key, self.clock.now())) })
    }

    pub(crate) async fn list_api_keys(
        &self,
        mut request: v1::ListApiKeysRequest,
        caller: &Caller,
    ) -> Result<v1::ListApiKeysResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        let (name, keep) = (|key: &ApiKey| key.id.name(), |key: &ApiKey| sees(caller, key));
        let (found, next) = self.page(PREFIX, &paging, name, keep).await?;
        let now = self.clock.now();
        let api_keys = found.iter().map(|key| to_wire(key, now)).collect();
        Ok(v1::ListApiKeysResponse { api_keys, next_page_token: next })
    }

    pub(crate) async fn rotate_api_key(
        &self,
        request: v1::RotateApiKeyRequest,
        caller: &Caller,
    ) -> Result<v1::RotateApiKeyResponse, Refusal> {
        let mut wrong = Violations::new();
        let id = wrong.check("name", ApiKeyId::parse_name(&request.name));
        let overlap = match &request.overlap {
            None => Some(limits::ROTATE_OVERLAP_DEFAULT),
            Some(given) => {
                let range = Duration::ZERO..=limits::ROTATE_OVERLAP_MAX;
                wrong.check("overlap", time::parse_duration_within(given, range))
            }
        };
        let (id, overlap) = parse::done(wrong, id.zip(overlap))?;
        let made = keys::new_secret(&id, self.random);
        let how = How::plain(request.validate_only);
        let rotation = (made.sha256.as_str(), overlap);
        let mut answer =
            until_settled(|| self.try_rotate_api_key(&id, rotation, caller, &how)).await?;
        if !how.validate_only {
            answer.key = made.key.to_string();
        }
        Ok(answer)
    }

    async fn try_rotate_api_key(
        &self,
        id: &ApiKeyId,
        (sha256, overlap): (&str, Duration),
        caller: &Caller,
        how: &How,
    ) -> Result<Option<v1::RotateApiKeyResponse>, Refusal> {
        let Stored { value: mut key, revision, .. } = self.api_key(id, caller).await?;
        draft::may_manage(caller, &key)?;
        draft::may_rotate(caller, &key)?;
        let now = self.clock.now();
        if key.state(now) != ApiKeyState::Active {
            let text = format!("{} has ended: create another", id.name());
            return Err(Refusal::new(Reason::StateConflict, text).about(ApiKey::WORD, id.name()));
        }
        let end = now.plus(overlap);
        for secret in &mut key.secrets {
            secret.expire_time = Some(secret.expire_time.map_or(end, |own| own.min(end)));
        }
        key.secrets.retain(|it| is_valid(it, now));
        if key.secrets.len() >= limits::API_KEY_SECRETS {
            let text = format!(
                "{} has {} valid secrets, as many as it may: give a shorter overlap, or wait",
                id.name(),
                limits::API_KEY_SECRETS
            );
            return Err(Refusal::new(Reason::QuotaExceeded, text).about(ApiKey::WORD, id.name()));
        }
        let sha256 = sha256.to_owned();
        key.secrets.push(ApiKeySecret { sha256, create_time: now, expire_time: None });
        key.common.update_time = now;
        let plan = Plan::new().put(&Resource::ApiKey(key.clone()), revision);
        let api_key = Some(to_wire(&Stored::new(key), now));
        self.commit(plan, v1::RotateApiKeyResponse { api_key, ..Default::default() }, how).await
    }

    pub(crate) async fn revoke_api_key(
        &self,
        request: v1::RevokeApiKeyRequest,
        caller: &Caller,
    ) -> Result<v1::RevokeApiKeyResponse, Refusal> {
        let mut wrong = Violations::new();
        let id = wrong.check("name", ApiKeyId::parse_name(&request.name));
        let at = parse::moment("revoke_time", request.revoke_time.as_ref(), &mut wrong);
        let id = parse::done(wrong, id)?;
        let how = How::plain(request.validate_only);
        until_settled(|| self.try_revoke_api_key(&id, at, caller, &how)).await
    }

    async fn try_revoke_api_key(
        &self,
        id: &ApiKeyId,
        at: Option<Timestamp>,
        caller: &Caller,
        how: &How,
    ) -> Result<Option<v1::RevokeApiKeyResponse>, Refusal> {
        let Stored { value: mut key, revision, .. } = self.api_key(id, caller).await?;
        draft::may_manage(caller, &key)?;
        let now = self.clock.now();
        let at = at.map_or(now, |at| at.max(now));
        key.revoke_time = Some(key.revoke_time.map_or(at, |own| own.min(at)));
        key.revoked |= key.revoke_time.is_some_and(|at| at <= now);
        key.common.update_time = now;
        let plan = Plan::new().put(&Resource::ApiKey(key.clone()), revision);
        let api_key = Some(to_wire(&Stored::new(key), now));
        self.commit(plan, v1::RevokeApiKeyResponse { api_key, ..Default::default() }, how).await
    }
}

impl Control {
    /// Adds to a plan that deletes a tenant what becomes of keys that name it: one that is for this
    /// tenant alone goes with it, ended or not, and any other loses it. Whoever makes a tenant of
    /// the same id again neither lets in an old key nor sees one.
    pub(crate) async fn without_keys(
        &self,
        tenant: &TenantId,
        plan: Plan,
    ) -> Result<Plan, Refusal> {
        let guard = self.store.config.get(&[GUARD.to_owned()]).await?.pop().flatten();
        let all = self.all_below::<ApiKey>(PREFIX, |it| it.id.name()).await?;
        // A key that is made meanwhile is seen when this is decided again, and who is about to make
        // one then decides again, too.
        let mut plan =
            plan.relies_on(GUARD, guard.map(|it| it.revision)).write(GUARD, b"{}".as_slice());
        let now = self.clock.now();
        for Stored { value: mut key, revision, .. } in all {
            let Some(tenants) = key.tenants.as_mut().filter(|it| it.contains(tenant)) else {
                continue;
            };
            tenants.remove(tenant);
            plan = match tenants.is_empty() {
                true => plan.remove(key.id.name(), revision),
                false => {
                    key.common.update_time = now;
                    plan.put(&Resource::ApiKey(key), revision)
                }
            };
        }
        Ok(plan)
    }
}

/// Adds to a plan that makes a key that the caller's own key still reaches the tenants, or refuses
/// it: since the call was let in, a tenant may have been deleted, and its keys with it.
fn reaching(
    caller: &Caller,
    key: &ApiKey,
    all: &[Stored<ApiKey>],
    plan: Plan,
) -> Result<Plan, Refusal> {
    let Ok(id) = ApiKeyId::parse_name(caller.actor()) else { return Ok(plan) };
    let Some(own) = all.iter().find(|it| it.value.id == id) else {
        let text = "the API key that the call is made with is gone";
        return Err(Refusal::new(Reason::CredentialRevoked, text));
    };
    let reaches = match (&own.value.tenants, &key.tenants) {
        (None, _) => true,
        (Some(own), Some(wanted)) => wanted.is_subset(own),
        (Some(_), None) => false,
    };
    if !reaches {
        let text = "a tenant that the caller's API key was for is gone";
        return Err(Refusal::new(Reason::TenantDenied, text));
    }
    Ok(plan.relies_on(own.value.id.name(), Some(own.revision)))
}

/// Adds to a plan that the longest ended keys make room for a new one, or refuses it.
fn room_for(
    key: &ApiKey,
    all: &[Stored<ApiKey>],
    plan: Plan,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let full = |text| Err(Refusal::new(Reason::QuotaExceeded, text));
    let ended = |it: &&Stored<ApiKey>| it.value.state(now) != ApiKeyState::Active;
    for tenant in key.tenants.iter().flatten() {
        let is_for = |it: &&Stored<ApiKey>| {
            !ended(it) && it.value.tenants.as_ref().is_some_and(|own| own.contains(tenant))
        };
        if all.iter().filter(is_for).count() >= limits::API_KEYS_OF_TENANT {
            let most = limits::API_KEYS_OF_TENANT;
            return full(format!("{} has {most} API keys, as many as it may", tenant.name()));
        }
    }
    let surplus = (all.len() + 1).saturating_sub(limits::API_KEYS);
    let mut over: Vec<_> = all.iter().filter(ended).collect();
    if over.len() < surplus {
        return full(format!("there are {} API keys, as many as there may be", limits::API_KEYS));
    }
    over.sort_by_key(|it| it.value.end());
    let gone = over.into_iter().take(surplus);
    Ok(gone.fold(plan, |plan, it| plan.remove(it.value.id.name(), it.revision)))
}
