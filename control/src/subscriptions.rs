//! SubscriptionService.
//!
//! A subscription comes into being with its lane, its first key, its place in the tenant's count and
//! that among its contract's users in one commit, and goes with its keys in one. States are
//! configuration: what waits in the lane is moved by the nodes, which follow it.

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{ContractId, EventTypeId, LaneNo, SubscriptionId, SubscriptionName};
use pregon_core::limits;
use pregon_core::model::{
    Auth, Common, Resource, Secret, StateChange, Subscription, SubscriptionState, Tenant,
};
use pregon_core::pattern::Pattern;
use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService;
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::{Kind, SUBSCRIPTION_SECRETS, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::family::Family;
use crate::mask::Mask;
use crate::parse::Scope;
use crate::receiver::{AuthEdit, Receiver};
use crate::service::service;
use crate::{etag, lanes, parse};
pub(crate) use edit::to_wire;
use edit::{Edit, FIELD, from_state, with_fields};
pub(crate) use test::Tests;

mod edit;
mod health;
mod hints;
pub(crate) mod preview;
mod state;
mod test;
mod update;

service! {
    /// The service of subscriptions.
    Subscriptions: SubscriptionService {
        create_subscription(CreateSubscriptionRequest by caller) -> CreateSubscriptionResponse;
        get_subscription(GetSubscriptionRequest) -> GetSubscriptionResponse;
        list_subscriptions(ListSubscriptionsRequest) -> ListSubscriptionsResponse;
        update_subscription(UpdateSubscriptionRequest by caller) -> UpdateSubscriptionResponse;
        delete_subscription(DeleteSubscriptionRequest) -> DeleteSubscriptionResponse;
        pause_subscription(PauseSubscriptionRequest by caller) -> PauseSubscriptionResponse;
        resume_subscription(ResumeSubscriptionRequest by caller) -> ResumeSubscriptionResponse;
        disable_subscription(DisableSubscriptionRequest by caller) -> DisableSubscriptionResponse;
        approve_subscription(ApproveSubscriptionRequest by caller) -> ApproveSubscriptionResponse;
        reject_subscription(RejectSubscriptionRequest by caller) -> RejectSubscriptionResponse;
        test_subscription(TestSubscriptionRequest by caller) -> TestSubscriptionResponse;
        preview_delivery(PreviewDeliveryRequest) -> PreviewDeliveryResponse;
        get_subscription_health(GetSubscriptionHealthRequest)
            -> GetSubscriptionHealthResponse;
    }
}

/// What brings a subscription into being.
struct Birth {
    plan: Plan,
    subscription: Stored<Subscription>,
    /// How many secrets it has.
    secrets: u32,
}

/// What a request says of every field.
fn whole(given: &v1::Subscription, wrong: &mut Violations) -> Edit {
    Edit::parse(given, &with_fields(given, Mask::all), wrong)
}

/// Which subscriptions of a list are wanted.
#[derive(Debug, Default)]
struct Filter {
    environment: Option<Environment>,
    state: Option<SubscriptionState>,
    contract: Option<ContractId>,
    event_type: Option<EventTypeId>,
    labels: Vec<(String, String)>,
}

impl Filter {
    fn parse(request: &v1::ListSubscriptionsRequest, wrong: &mut Violations) -> Self {
        let state = parse::known("state", request.state, wrong);
        let mut filter = Self {
            environment: parse::environment("environment", request.environment, wrong),
            state: state.and_then(from_state),
            labels: request.labels.clone().into_iter().collect(),
            ..Self::default()
        };
        if !request.contract.is_empty() {
            filter.contract = wrong.check("contract", ContractId::parse_name(&request.contract));
        }
        if !request.event_type.is_empty() {
            let parsed = EventTypeId::parse_name(&request.event_type);
            filter.event_type = wrong.check("event_type", parsed);
        }
        filter
    }

    fn wants(&self, it: &Subscription) -> bool {
        let covers = |kind: &EventTypeId| {
            let mut patterns = it.event_types.iter().filter_map(|text| Pattern::parse(text).ok());
            patterns.any(|pattern| pattern.matches(kind))
        };
        self.environment.is_none_or(|wanted| wanted == it.environment)
            && self.state.is_none_or(|wanted| wanted == it.state)
            && self.contract.as_ref().is_none_or(|wanted| *wanted == it.contract)
            && self.event_type.as_ref().is_none_or(covers)
            && self.labels.iter().all(|(key, value)| it.common.labels.get(key) == Some(value))
    }
}

impl Control {
    pub(crate) async fn create_subscription(
        &self,
        request: v1::CreateSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::CreateSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
        let assigned = request.subscription_id.is_empty().then(|| self.assign("sub_"));
        let id = assigned.as_ref().unwrap_or(&request.subscription_id);
        let id = wrong.check("subscription_id", SubscriptionId::parse(id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateSubscription", &request, options, &mut wrong);
        let given = parse::required("subscription", request.subscription.as_ref(), &mut wrong);
        let edit = given.map(|given| whole(given, &mut wrong));
        self.also_wrong(edit.as_ref(), None, &mut wrong).await?;
        let name =
            tenant.zip(id).map(|(tenant, subscription)| SubscriptionName { tenant, subscription });
        let (name, edit) = parse::done(wrong, name.zip(edit))?;
        let _turn = self.turns.take(&name.tenant).await;
        let mut answer = until_settled(|| self.try_create_subscription(&name, &edit, &how)).await?;
        if let Some(shown) = &mut answer.subscription
            && request.validate_only
            && assigned.is_some()
        {
            shown.name.clear(); // the real one will get another id
        }
        Ok(answer)
    }

    /// Where something is wrong already, notes what else the contract finds: one that exists is
    /// the one asked for, else that of the subscription as it is, else the default.
    async fn also_wrong(
        &self,
        edit: Option<&Edit>,
        name: Option<&SubscriptionName>,
        wrong: &mut Violations,
    ) -> Result<(), Refusal> {
        let Some(edit) = edit.filter(|_| !wrong.is_empty()) else { return Ok(()) };
        let stored = match (&edit.contract, name) {
            (None, Some(name)) => self.find::<Subscription>(&name.to_string()).await?,
            (Some(_), _) | (None, None) => None,
        };
        let stored = stored.map(|it| it.value.contract);
        let id = edit.contract.clone().or(stored).unwrap_or_else(ContractId::standard_webhooks);
        if let Some(contract) = self.find_contract(&id).await? {
            edit.receiver().check(FIELD, &contract, &self.contracts.policy(&contract), wrong);
        }
        Ok(())
    }

    async fn try_create_subscription(
        &self,
        name: &SubscriptionName,
        edit: &Edit,
        how: &How,
    ) -> Result<Option<v1::CreateSubscriptionResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let family = self.family(&name.tenant).await?;
        if self.find::<Subscription>(&name.to_string()).await?.is_some() {
            return Err(Refusal::exists(Subscription::WORD, name.to_string()));
        }
        let contract = edit.contract.clone().unwrap_or_else(ContractId::standard_webhooks);
        let leans = self.lean_on([&contract]).await?;
        let contract = leans.get(&contract)?;
        let birth = self.birth(name, edit, contract, &family, how.validate_only).await?;
        let plan = leans.change(birth.plan, [(contract.id(), 1)]);
        let hints = self.hints(&birth.subscription.value).await?;
        let subscription = Some(to_wire(&birth.subscription, birth.secrets));
        let answer = v1::CreateSubscriptionResponse { subscription, hints, ..Default::default() };
        self.commit(plan, answer, how).await
    }

    /// The plan that brings a subscription into being, with its first key.
    async fn birth(
        &self,
        name: &SubscriptionName,
        edit: &Edit,
        contract: &Contract,
        family: &Family,
        validate_only: bool,
    ) -> Result<Birth, Refusal> {
        let most = family.tenant.value.limits.max_subscriptions;
        if family.children.subscriptions >= most {
            let text = format!("{} may have {most} subscriptions", name.tenant.name());
            let resource = Some((Tenant::WORD, name.tenant.name()));
            return Err(Refusal { resource, ..Refusal::new(Reason::QuotaExceeded, text) });
        }
        let lane = match validate_only {
            true => LaneNo::EVENTS, // shown to nobody, and no number is used up
            false => self.store.config.next_lane().await?,
        };
        let subscription = self.new_subscription(name, edit, contract, lane)?;
        let mut plan = Plan::new().put(&Resource::Subscription(subscription.clone()), 0);
        let secret = contract.secret().required;
        if secret {
            let signer = name.clone().into();
            plan = plan.put(&Resource::Secret(self.first_secret(&signer, contract)?), 0);
        }
        let mut children = family.children;
        children.subscriptions += 1;
        let plan = lanes::claim(family.change(plan, children), &subscription);
        let subscription = Stored::new(subscription);
        Ok(Birth { plan, subscription, secrets: u32::from(secret) })
    }

    fn new_subscription(
        &self,
        name: &SubscriptionName,
        edit: &Edit,
        contract: &Contract,
        lane: LaneNo,
    ) -> Result<Subscription, Refusal> {
        let now = self.clock.now();
        let none = AuthEdit::None;
        let auth = edit.auth.as_ref().unwrap_or(&none);
        let (auth, _) = self.sealed_auth(FIELD, auth, &Auth::None, name)?;
        let headers = self.sealed_headers(FIELD, edit.headers.as_deref(), &[], name)?;
        let state = match contract.approval() {
            true => SubscriptionState::PendingApproval,
            false => SubscriptionState::Active,
        };
        let mut subscription = Subscription {
            tenant: name.tenant.clone(),
            id: name.subscription.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            lane,
            url: String::new(),
            environment: edit.environment.unwrap_or(Environment::Live),
            event_types: Vec::new(),
            filter: String::new(),
            contract: contract.id().clone(),
            headers,
            auth,
            sensitive_paths: Vec::new(),
            max_concurrency: limits::CONCURRENCY_DEFAULT,
            max_pending: 0,
            state,
            state_reason: String::new(),
            state_change: None,
        };
        edit.apply(&mut subscription);
        let mut wrong = Violations::new();
        let policy = self.contracts.policy(contract);
        Receiver::from(&subscription).check(FIELD, contract, &policy, &mut wrong);
        wrong.finish()?;
        Ok(subscription)
    }

    pub(crate) async fn get_subscription(
        &self,
        request: v1::GetSubscriptionRequest,
    ) -> Result<v1::GetSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        let stored = self.fetch::<Subscription>(&name.to_string()).await?;
        let live = self.live_secrets(&name.into()).await?;
        Ok(v1::GetSubscriptionResponse { subscription: Some(to_wire(&stored, live)) })
    }

    pub(crate) async fn list_subscriptions(
        &self,
        mut request: v1::ListSubscriptionsRequest,
    ) -> Result<v1::ListSubscriptionsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let scope = wrong.check("parent", Scope::parse(&request.parent));
        let filter = Filter::parse(&request, &mut wrong);
        let scope = parse::done(wrong, scope)?;
        let prefix = match scope.tenant() {
            None => "tenants/".to_owned(),
            Some(tenant) => {
                self.fetch::<Tenant>(&tenant.name()).await?;
                format!("{}/subscriptions/", tenant.name())
            }
        };
        let name = |it: &Subscription| it.name().to_string();
        let wants = |it: &Subscription| filter.wants(it);
        let (found, next) = self.page(&prefix, &paging, name, wants).await?;
        let signers = found.iter().map(|it| it.value.name().into());
        let live = self.live_secrets_of(SUBSCRIPTION_SECRETS, &prefix, signers).await?;
        let live = |it: &Subscription| live.get(&it.name().into()).copied().unwrap_or(0);
        let subscriptions = found.iter().map(|it| to_wire(it, live(&it.value))).collect();
        Ok(v1::ListSubscriptionsResponse { subscriptions, next_page_token: next })
    }

    pub(crate) async fn delete_subscription(
        &self,
        request: v1::DeleteSubscriptionRequest,
    ) -> Result<v1::DeleteSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        let _turn = self.turns.take(&name.tenant).await;
        until_settled(|| self.try_delete_subscription(&name, &request)).await
    }

    async fn try_delete_subscription(
        &self,
        name: &SubscriptionName,
        request: &v1::DeleteSubscriptionRequest,
    ) -> Result<Option<v1::DeleteSubscriptionResponse>, Refusal> {
        let (text, answer) = (name.to_string(), v1::DeleteSubscriptionResponse::default());
        let family = self.find_family(&name.tenant).await?;
        let stored = self.find::<Subscription>(&text).await?;
        let (Some(family), Some(stored)) = (family, stored) else {
            return match request.allow_missing {
                true => Ok(Some(answer)),
                false => Err(Refusal::not_found(Subscription::WORD, text)),
            };
        };
        etag::check(&request.etag, stored.revision, Subscription::WORD, &text)?;
        let leans = self.lean_on([&stored.value.contract]).await?;
        let below = format!("{text}/secrets/");
        let secrets = self.names_below(Secret::collections(&below), &below).await?;
        let plan = Plan::new().remove(&text, stored.revision);
        let plan = secrets.into_iter().fold(plan, Plan::delete);
        let mut children = family.children;
        children.subscriptions = children.subscriptions.saturating_sub(1);
        let plan = leans.change(family.change(plan, children), [(&stored.value.contract, -1)]);
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }
}
