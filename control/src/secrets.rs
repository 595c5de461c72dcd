//! SecretService.
//!
//! A key is a document of its own; what must hold of the keys of a subscription or a callback
//! together (no eleventh live one, the last one stays) is decided on all of them at one moment and
//! guarded by the tenant's [`family`](crate::family). The contract of whoever signs says what a key
//! looks like, so a new one leans on it. Material leaves by RevealSecret alone; everywhere else it
//! is sealed, bound to the secret's name. Of an Ed25519 key nothing leaves but its public half.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::id::{ContractId, SecretId, SecretName, SignerName};
use pregon_core::model::{
    Callback, Resource, Secret, SecretAlgorithm, SecretState, Subscription, Tenant,
};
use pregon_core::secret::{pair_base64, pair_pem};
use pregon_proto::v1;
use pregon_proto::v1::secret_service_server::SecretService;
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, nothing, until_settled};
use crate::service::service;
use crate::{etag, parse};
pub(crate) use draft::Draft;
pub(crate) use keys::{is_live, lacks_one};
pub(crate) use make::to_wire;
pub(crate) use making::Making;

mod draft;
mod jwks;
mod keys;
mod make;
mod making;
mod rotate;
mod signer;

service! {
    /// The service of signing keys.
    Secrets: SecretService {
        create_secret(CreateSecretRequest by caller) -> CreateSecretResponse;
        get_secret(GetSecretRequest) -> GetSecretResponse;
        list_secrets(ListSecretsRequest) -> ListSecretsResponse;
        delete_secret(DeleteSecretRequest) -> DeleteSecretResponse;
        rotate_secret(RotateSecretRequest by caller) -> RotateSecretResponse;
        revoke_secret(RevokeSecretRequest) -> RevokeSecretResponse;
        reveal_secret(RevealSecretRequest) -> RevealSecretResponse;
        get_jwks(GetJwksRequest) -> GetJwksResponse;
    }
}

impl Control {
    pub(crate) async fn create_secret(
        &self,
        request: v1::CreateSecretRequest,
        caller: &Caller,
    ) -> Result<v1::CreateSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let parent = wrong.check("parent", SignerName::parse(&request.parent));
        let assigned = request.secret_id.is_empty().then(|| self.assign("key_"));
        let id = assigned.as_ref().unwrap_or(&request.secret_id);
        let id = wrong.check("secret_id", SecretId::parse(id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateSecret", &request, options, &mut wrong);
        let (now, given) = (self.clock.now(), request.secret.unwrap_or_default());
        let contract = self.contract_meant(parent.as_ref()).await?;
        let draft = Draft::parse("secret", &given, &contract, now, &mut wrong);
        let name = parent.zip(id).map(|(signer, secret)| SecretName { signer, secret });
        let (name, draft) = parse::done(wrong, name.zip(draft))?;
        let secret = self.new_secret(&name, &draft, &contract).await?;
        let _turn = self.turns.take(name.signer.tenant()).await;
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
        let keys = self.keys_of(&secret.signer).await?;
        if keys.find(&secret.id).is_some() {
            return Err(Refusal::exists(Secret::WORD, secret.name().to_string()));
        }
        let leans = self.lean_on([keys.contract()]).await?;
        self.check_key("secret.material", leans.get(keys.contract())?, secret)?;
        let now = self.clock.now();
        keys.room_for_one(keys.live(now).count(), &secret.signer)?;
        let plan = keys.trim(Plan::new().put(&Resource::Secret(secret.clone()), 0), now);
        let answer = v1::CreateSecretResponse {
            secret: Some(self.shown_secret(&Stored::new(secret.clone()), now)),
            ..Default::default()
        };
        let plan = leans.change(keys.change(plan), [(keys.contract(), 0)]);
        self.commit(plan, answer, how).await
    }

    pub(crate) async fn get_secret(
        &self,
        request: v1::GetSecretRequest,
    ) -> Result<v1::GetSecretResponse, Refusal> {
        let name = parse::only("name", SecretName::parse(&request.name))?;
        let secret = self.fetch::<Secret>(&name.to_string()).await?;
        let secret = Some(self.shown_secret(&secret, self.clock.now()));
        Ok(v1::GetSecretResponse { secret })
    }

    pub(crate) async fn list_secrets(
        &self,
        mut request: v1::ListSecretsRequest,
    ) -> Result<v1::ListSecretsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let parent = wrong.check("parent", SignerName::parse(&request.parent));
        let parent = parse::done(wrong, parent)?;
        self.contract_of(&parent).await?;
        let name = |secret: &Secret| secret.name().to_string();
        let prefix = format!("{parent}/secrets/");
        let (found, next) = self.page(&prefix, &paging, name, |_| true).await?;
        let now = self.clock.now();
        let secrets = found.iter().map(|secret| self.shown_secret(secret, now)).collect();
        Ok(v1::ListSecretsResponse { secrets, next_page_token: next })
    }

    pub(crate) async fn delete_secret(
        &self,
        request: v1::DeleteSecretRequest,
    ) -> Result<v1::DeleteSecretResponse, Refusal> {
        let name = parse::only("name", SecretName::parse(&request.name))?;
        let _turn = self.turns.take(name.signer.tenant()).await;
        until_settled(|| self.try_delete_secret(&name, &request)).await
    }

    async fn try_delete_secret(
        &self,
        name: &SecretName,
        request: &v1::DeleteSecretRequest,
    ) -> Result<Option<v1::DeleteSecretResponse>, Refusal> {
        let answer = v1::DeleteSecretResponse::default();
        let keys = self.find_keys_of(&name.signer).await?;
        let found = keys.as_ref().and_then(|keys| keys.find(&name.secret).map(|it| (keys, it)));
        let Some((keys, secret)) = found else {
            return nothing(request.allow_missing, Secret::WORD, name.to_string());
        };
        etag::check(&request.etag, secret.revision, Secret::WORD, &name.to_string())?;
        if !request.force {
            self.not_the_last(keys, name).await?;
        }
        let plan = keys.change(Plan::new().remove(name.to_string(), secret.revision));
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn revoke_secret(
        &self,
        request: v1::RevokeSecretRequest,
    ) -> Result<v1::RevokeSecretResponse, Refusal> {
        let name = parse::only("name", SecretName::parse(&request.name))?;
        let _turn = self.turns.take(name.signer.tenant()).await;
        until_settled(|| self.try_revoke_secret(&name, &request)).await
    }

    async fn try_revoke_secret(
        &self,
        name: &SecretName,
        request: &v1::RevokeSecretRequest,
    ) -> Result<Option<v1::RevokeSecretResponse>, Refusal> {
        let text = name.to_string();
        let keys = self.find_keys_of(&name.signer).await?;
        let found = keys.as_ref().and_then(|keys| keys.find(&name.secret).map(|it| (keys, it)));
        let Some((keys, stored)) = found else {
            return Err(Refusal::not_found(Secret::WORD, text));
        };
        let now = self.clock.now();
        match stored.value.state(now) {
            SecretState::Scheduled | SecretState::Active => {}
            SecretState::Revoked => {
                let revision = if request.validate_only { 0 } else { stored.revision };
                let secret = Some(self.shown_secret(stored, now));
                return Ok(Some(v1::RevokeSecretResponse { secret, revision }));
            }
            SecretState::Expired => {
                let message = format!("{text} has expired and signs no more");
                return Err(Refusal::new(Reason::StateConflict, message).about(Secret::WORD, text));
            }
        }
        if !request.force {
            self.not_the_last(keys, name).await?;
        }
        let mut secret = stored.value.clone();
        secret.revoke_time = Some(now);
        secret.common.update_time = now;
        let plan = Plan::new().put(&Resource::Secret(secret.clone()), stored.revision);
        let answer = v1::RevokeSecretResponse {
            secret: Some(self.shown_secret(&Stored::new(secret), now)),
            ..Default::default()
        };
        self.commit(keys.change(plan), answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn reveal_secret(
        &self,
        request: v1::RevealSecretRequest,
    ) -> Result<v1::RevealSecretResponse, Refusal> {
        let name = parse::only("name", SecretName::parse(&request.name))?;
        let stored = self.fetch::<Secret>(&name.to_string()).await?;
        let key = match stored.value.algorithm {
            SecretAlgorithm::Hmac
            | SecretAlgorithm::Rsa
            | SecretAlgorithm::EcdsaP256
            | SecretAlgorithm::EcdsaP521
            | SecretAlgorithm::EcdsaSecp256k1 => self.open(&stored.value)?,
            SecretAlgorithm::Ed25519 => {
                let text = "an Ed25519 secret is never shown; receivers need its public_key only";
                return Err(Refusal::new(Reason::StateConflict, text).about(Secret::WORD, name));
            }
        };
        let contract = self.contract_of(&name.signer).await?;
        let unfit = || {
            let text = "the contract has no form for the key: it was made under another one";
            Refusal::new(Reason::StateConflict, text).about(Secret::WORD, &name)
        };
        let (material, material_der) = match stored.value.algorithm.pair() {
            Some(_) => (pair_pem(&key), pair_base64(&key).as_str().to_owned()),
            None => (contract.secret().form.format(&key).ok_or_else(unfit)?, String::new()),
        };
        self.revealed(&name.to_string()).await?;
        Ok(v1::RevealSecretResponse { material: material.as_str().to_owned(), material_der })
    }
}
