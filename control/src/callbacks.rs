//! CallbackService.
//!
//! A callback is a receiver like a subscription, without lane and without patterns: what holds of
//! its URL, headers, auth, contract and keys is the same. It comes into being with its first key,
//! its place in the tenant's count and that among its contract's users in one commit, and goes with
//! its keys in one. Whoever asks it reads it from the configuration.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{CallbackId, CallbackName, ContractId};
use pregon_core::limits;
use pregon_core::model::{
    Auth, Callback, CallbackState, Common, FailurePolicy, Resource, Secret, StateChange, Tenant,
};
use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService;
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::{CALLBACK_SECRETS, Kind, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::family::Family;
use crate::mask::Mask;
use crate::parse::Scope;
use crate::receiver::{AuthEdit, Receiver};
use crate::service::service;
use crate::{etag, parse};
pub(crate) use edit::to_wire;
use edit::{Edit, FIELD, with_fields};

mod edit;
mod update;

service! {
    /// The service of callbacks.
    Callbacks: CallbackService {
        create_callback(CreateCallbackRequest by caller) -> CreateCallbackResponse;
        get_callback(GetCallbackRequest) -> GetCallbackResponse;
        list_callbacks(ListCallbacksRequest) -> ListCallbacksResponse;
        update_callback(UpdateCallbackRequest) -> UpdateCallbackResponse;
        delete_callback(DeleteCallbackRequest) -> DeleteCallbackResponse;
        pause_callback(PauseCallbackRequest by caller) -> PauseCallbackResponse;
        resume_callback(ResumeCallbackRequest by caller) -> ResumeCallbackResponse;
    }
}

/// What brings a callback into being.
struct Birth {
    plan: Plan,
    callback: Stored<Callback>,
    /// How many secrets it has.
    secrets: u32,
}

/// What a request says of every field.
fn whole(given: &v1::Callback, wrong: &mut Violations) -> Edit {
    Edit::parse(given, &with_fields(given, Mask::all), wrong)
}

/// Notes that a contract has no questions.
fn check_contract(contract: &Contract, wrong: &mut Violations) {
    if contract.callback().is_none() {
        let text =
            format!("{} signs what only an event has: it cannot be asked by", contract.id().name());
        wrong.add("callback.contract", Rule::OutOfRange, text);
    }
}

impl Control {
    pub(crate) async fn create_callback(
        &self,
        request: v1::CreateCallbackRequest,
        caller: &Caller,
    ) -> Result<v1::CreateCallbackResponse, Refusal> {
        let mut wrong = Violations::new();
        let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
        let assigned = request.callback_id.is_empty().then(|| self.assign("cb_"));
        let id = assigned.as_ref().unwrap_or(&request.callback_id);
        let id = wrong.check("callback_id", CallbackId::parse(id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateCallback", &request, options, &mut wrong);
        let given = parse::required(FIELD, request.callback.as_ref(), &mut wrong);
        let edit = given.map(|given| whole(given, &mut wrong));
        self.callback_also_wrong(edit.as_ref(), None, &mut wrong).await?;
        let name = tenant.zip(id).map(|(tenant, callback)| CallbackName { tenant, callback });
        let (name, edit) = parse::done(wrong, name.zip(edit))?;
        let _turn = self.turns.take(&name.tenant).await;
        let mut answer = until_settled(|| self.try_create_callback(&name, &edit, &how)).await?;
        if let Some(shown) = &mut answer.callback
            && request.validate_only
            && assigned.is_some()
        {
            shown.name.clear(); // the real one will get another id
        }
        Ok(answer)
    }

    /// Where something is wrong already, notes what else the contract finds: one that exists is
    /// the one asked for, else that of the callback as it is, else the default.
    async fn callback_also_wrong(
        &self,
        edit: Option<&Edit>,
        name: Option<&CallbackName>,
        wrong: &mut Violations,
    ) -> Result<(), Refusal> {
        let Some(edit) = edit.filter(|_| !wrong.is_empty()) else { return Ok(()) };
        let stored = match (&edit.contract, name) {
            (None, Some(name)) => self.find::<Callback>(&name.to_string()).await?,
            (Some(_), _) | (None, None) => None,
        };
        let stored = stored.map(|it| it.value.contract);
        let id = edit.contract.clone().or(stored).unwrap_or_else(ContractId::standard_webhooks);
        if let Some(contract) = self.find_contract(&id).await? {
            edit.receiver().check(FIELD, &contract, &self.contracts.policy(&contract), wrong);
            check_contract(&contract, wrong);
        }
        Ok(())
    }

    async fn try_create_callback(
        &self,
        name: &CallbackName,
        edit: &Edit,
        how: &How,
    ) -> Result<Option<v1::CreateCallbackResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let family = self.family(&name.tenant).await?;
        if self.find::<Callback>(&name.to_string()).await?.is_some() {
            return Err(Refusal::exists(Callback::WORD, name.to_string()));
        }
        let birth = self.callback_birth(name, edit, &family).await?;
        let callback = Some(to_wire(&birth.callback, birth.secrets));
        let answer = v1::CreateCallbackResponse { callback, ..Default::default() };
        self.commit(birth.plan, answer, how).await
    }

    /// The plan that brings a callback into being, with its first key.
    async fn callback_birth(
        &self,
        name: &CallbackName,
        edit: &Edit,
        family: &Family,
    ) -> Result<Birth, Refusal> {
        let mut children = family.children;
        if usize::try_from(children.callbacks).unwrap_or(usize::MAX) >= limits::CALLBACKS {
            let text = format!("{} may have {} callbacks", name.tenant.name(), limits::CALLBACKS);
            let resource = Some((Tenant::WORD, name.tenant.name()));
            return Err(Refusal { resource, ..Refusal::new(Reason::QuotaExceeded, text) });
        }
        children.callbacks += 1;
        let contract = edit.contract.clone().unwrap_or_else(ContractId::standard_webhooks);
        let leans = self.lean_on([&contract]).await?;
        let contract = leans.get(&contract)?;
        let callback = self.new_callback(name, edit, contract)?;
        let mut plan = Plan::new().put(&Resource::Callback(callback.clone()), 0);
        let secret = contract.secret().required;
        if secret {
            let signer = name.clone().into();
            plan = plan.put(&Resource::Secret(self.first_secret(&signer, contract)?), 0);
        }
        let plan = leans.change(family.change(plan, children), [(contract.id(), 1)]);
        Ok(Birth { plan, callback: Stored::new(callback), secrets: u32::from(secret) })
    }

    fn new_callback(
        &self,
        name: &CallbackName,
        edit: &Edit,
        contract: &Contract,
    ) -> Result<Callback, Refusal> {
        let now = self.clock.now();
        let none = AuthEdit::None;
        let auth = edit.auth.as_ref().unwrap_or(&none);
        let (auth, _) = self.sealed_auth(FIELD, auth, &Auth::None, name)?;
        let headers = self.sealed_headers(FIELD, edit.headers.as_deref(), &[], name)?;
        let mut callback = Callback {
            tenant: name.tenant.clone(),
            id: name.callback.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            url: String::new(),
            environment: edit.environment.unwrap_or(Environment::Live),
            contract: contract.id().clone(),
            headers,
            auth,
            verdict: String::new(),
            timeout_ms: 0,
            on_error: FailurePolicy::Deny,
            cache_ttl_ms: 0,
            max_concurrency: limits::CONCURRENCY_DEFAULT,
            state: CallbackState::Active,
            state_change: None,
        };
        edit.apply(&mut callback);
        let mut wrong = Violations::new();
        let policy = self.contracts.policy(contract);
        Receiver::from(&callback).check(FIELD, contract, &policy, &mut wrong);
        check_contract(contract, &mut wrong);
        wrong.finish()?;
        Ok(callback)
    }

    pub(crate) async fn get_callback(
        &self,
        request: v1::GetCallbackRequest,
    ) -> Result<v1::GetCallbackResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", CallbackName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        let stored = self.fetch::<Callback>(&name.to_string()).await?;
        let live = self.live_secrets(&name.into()).await?;
        Ok(v1::GetCallbackResponse { callback: Some(to_wire(&stored, live)) })
    }

    pub(crate) async fn list_callbacks(
        &self,
        mut request: v1::ListCallbacksRequest,
    ) -> Result<v1::ListCallbacksResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let scope = wrong.check("parent", Scope::parse(&request.parent));
        let scope = parse::done(wrong, scope)?;
        let prefix = match scope.tenant() {
            None => "tenants/".to_owned(),
            Some(tenant) => {
                self.fetch::<Tenant>(&tenant.name()).await?;
                format!("{}/callbacks/", tenant.name())
            }
        };
        let name = |it: &Callback| it.name().to_string();
        let (found, next) = self.page(&prefix, &paging, name, |_| true).await?;
        let signers = found.iter().map(|it| it.value.name().into());
        let live = self.live_secrets_of(CALLBACK_SECRETS, &prefix, signers).await?;
        let live = |it: &Callback| live.get(&it.name().into()).copied().unwrap_or(0);
        let callbacks = found.iter().map(|it| to_wire(it, live(&it.value))).collect();
        Ok(v1::ListCallbacksResponse { callbacks, next_page_token: next })
    }

    pub(crate) async fn delete_callback(
        &self,
        request: v1::DeleteCallbackRequest,
    ) -> Result<v1::DeleteCallbackResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", CallbackName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        let _turn = self.turns.take(&name.tenant).await;
        until_settled(|| self.try_delete_callback(&name, &request)).await
    }

    async fn try_delete_callback(
        &self,
        name: &CallbackName,
        request: &v1::DeleteCallbackRequest,
    ) -> Result<Option<v1::DeleteCallbackResponse>, Refusal> {
        let (text, answer) = (name.to_string(), v1::DeleteCallbackResponse::default());
        let family = self.find_family(&name.tenant).await?;
        let stored = self.find::<Callback>(&text).await?;
        let (Some(family), Some(stored)) = (family, stored) else {
            return match request.allow_missing {
                true => Ok(Some(answer)),
                false => Err(Refusal::not_found(Callback::WORD, text)),
            };
        };
        etag::check(&request.etag, stored.revision, Callback::WORD, &text)?;
        let leans = self.lean_on([&stored.value.contract]).await?;
        let below = format!("{text}/secrets/");
        let secrets = self.names_below(Secret::collections(&below), &below).await?;
        let plan = Plan::new().remove(&text, stored.revision);
        let plan = secrets.into_iter().fold(plan, Plan::delete);
        let mut children = family.children;
        children.callbacks = children.callbacks.saturating_sub(1);
        let plan = leans.change(family.change(plan, children), [(&stored.value.contract, -1)]);
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }
}
