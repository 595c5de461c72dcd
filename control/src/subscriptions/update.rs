//! UpdateSubscription.
//!
//! Under a contract that asks for approval, whoever is below operator asks for it again by a change
//! of what the platform approved: url, auth, contract. That is so whatever the subscription does at
//! present, so that nobody disables it first, changes it and resumes it; a REJECTED one stays
//! rejected. One that waits and moves under a contract that does not ask still waits, for what it
//! was waiting for was never given. Where callers are not authenticated everybody is everything, an operator too.
//!
//! A subscription that moves to another contract takes its keys along: they must have the form that
//! the new one wants, and it gets its first key where the new one requires one.

use pregon_core::contract::Contract;
use pregon_rpc::caller::Role;

use super::{
    Caller, Control, Edit, FIELD, How, Kind, Mask, Plan, Refusal, Resource, Rule, StateChange,
    Stored, Subscription, SubscriptionName, SubscriptionState, Violations, etag, parse, to_wire,
    until_settled, v1, whole, with_fields,
};
use crate::contracts::Leans;
use crate::receiver::Receiver;

/// An update on its way.
struct Update<'a> {
    name: &'a SubscriptionName,
    given: &'a v1::Subscription,
    edit: &'a Edit,
    request: &'a v1::UpdateSubscriptionRequest,
    caller: &'a Caller,
}

impl Control {
    pub(crate) async fn update_subscription(
        &self,
        request: v1::UpdateSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::UpdateSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let given = parse::required(FIELD, request.subscription.as_ref(), &mut wrong);
        let given = parse::done(wrong, given)?;
        let mut wrong = Violations::new();
        let name = wrong.check("subscription.name", SubscriptionName::parse(&given.name));
        let mask = with_fields(given, |fields| {
            Mask::parse(request.update_mask.as_ref(), fields, &mut wrong)
        });
        let edit = Edit::parse(given, &mask, &mut wrong);
        self.also_wrong(Some(&edit), name.as_ref(), &mut wrong).await?;
        let name = parse::done(wrong, name)?;
        // What may change how many children the tenant has takes its turn.
        let _turn = match request.allow_missing || edit.contract.is_some() {
            true => Some(self.turns.take(&name.tenant).await),
            false => None,
        };
        let update = Update { name: &name, given, edit: &edit, request: &request, caller };
        until_settled(|| self.try_update_subscription(&update)).await
    }

    async fn try_update_subscription(
        &self,
        update: &Update<'_>,
    ) -> Result<Option<v1::UpdateSubscriptionResponse>, Refusal> {
        let (text, request) = (update.name.to_string(), update.request);
        match self.find::<Subscription>(&text).await? {
            Some(stored) => {
                etag::check(&update.given.etag, stored.revision, Subscription::WORD, &text)?;
                self.try_change_subscription(update, stored).await
            }
            None if request.allow_missing => {
                etag::check(&update.given.etag, 0, Subscription::WORD, &text)?;
                self.try_make_subscription(update).await
            }
            None => Err(Refusal::not_found(Subscription::WORD, text)),
        }
    }

    /// Creates what is missing.
    async fn try_make_subscription(
        &self,
        update: &Update<'_>,
    ) -> Result<Option<v1::UpdateSubscriptionResponse>, Refusal> {
        let how = How::plain(update.request.validate_only);
        let family = self.family(&update.name.tenant).await?;
        let mut wrong = Violations::new();
        let all = whole(update.given, &mut wrong);
        self.also_wrong(Some(&all), None, &mut wrong).await?;
        wrong.finish()?;
        let contract = all.contract.clone().unwrap_or_else(super::ContractId::standard_webhooks);
        let leans = self.lean_on([&contract]).await?;
        let contract = leans.get(&contract)?;
        let birth = self.birth(update.name, &all, contract, &family, how.validate_only).await?;
        let plan = leans.change(birth.plan, [(contract.id(), 1)]);
        let hints = self.hints(&birth.subscription.value).await?;
        self.commit(plan, answer(&birth.subscription, birth.secrets, hints), &how).await
    }

    async fn try_change_subscription(
        &self,
        update: &Update<'_>,
        stored: Stored<Subscription>,
    ) -> Result<Option<v1::UpdateSubscriptionResponse>, Refusal> {
        let (edit, before) = (update.edit, &stored.value);
        if edit.environment.is_some_and(|wanted| wanted != before.environment) {
            let words = format!("is {} for good", before.environment);
            return Err(Refusal::field("subscription.environment", Rule::Immutable, words));
        }
        let leans = self.lean_on([&before.contract].into_iter().chain(&edit.contract)).await?;
        let mut now = before.clone();
        edit.apply(&mut now);
        let moved = now.contract != before.contract;
        let contract = leans.get(&now.contract)?;
        if let Some(auth) = &edit.auth {
            (now.auth, _) = self.sealed_auth(FIELD, auth, &before.auth, update.name)?;
        }
        let headers = edit.headers.as_deref();
        now.headers = self.sealed_headers(FIELD, headers, &before.headers, update.name)?;
        let mut wrong = Violations::new();
        let affected = Receiver::from(&now).affected_by(&edit.receiver(), moved);
        let touched = moved || affected.url.is_some() || affected.headers.is_some();
        affected.check(FIELD, contract, &self.contracts.policy(contract), &mut wrong);
        wrong.finish()?;
        now.common.update_time = self.clock.now();
        self.ask_again(before, &mut now, contract, update.caller);
        let plan = Plan::new().put(&Resource::Subscription(now.clone()), stored.revision);
        let signer = update.name.clone().into();
        let (plan, live) = match moved {
            true => self.move_keys("subscription.contract", &signer, contract, plan).await?,
            false => (plan, self.live_secrets(&signer).await?),
        };
        let plan = if touched { counted(&leans, plan, before, &now) } else { plan };
        let how = How::plain(update.request.validate_only);
        let hints = self.hints(&now).await?;
        self.commit(plan, answer(&Stored::new(now), live, hints), &how).await
    }

    /// Puts a subscription back to PENDING_APPROVAL where it must be.
    fn ask_again(
        &self,
        before: &Subscription,
        now: &mut Subscription,
        contract: &Contract,
        caller: &Caller,
    ) {
        use SubscriptionState::{Active, Disabled, Paused, PendingApproval, Rejected};
        let operator = caller.role().is_none_or(|role| role.covers(Role::Operator));
        let changed: Vec<_> = [
            ("url", before.url != now.url),
            ("auth", before.auth != now.auth),
            ("contract", before.contract != now.contract),
        ]
        .into_iter()
        .filter_map(|(what, changed)| changed.then_some(what))
        .collect();
        match now.state {
            Active | Paused | Disabled => {}
            PendingApproval | Rejected => return,
        }
        if !contract.approval() || operator || changed.is_empty() {
            return;
        }
        let note = format!("changed: {}", changed.join(", "));
        now.state = PendingApproval;
        now.state_reason.clone_from(&note);
        let (time, actor) = (self.clock.now(), caller.actor().to_string());
        now.state_change = Some(StateChange { time, actor, note });
    }
}

/// Adds to a plan whose users changed.
fn counted(leans: &Leans<'_>, plan: Plan, before: &Subscription, now: &Subscription) -> Plan {
    leans.change(plan, [(&before.contract, -1), (&now.contract, 1)])
}

fn answer(
    subscription: &Stored<Subscription>,
    secrets: u32,
    hints: Vec<String>,
) -> v1::UpdateSubscriptionResponse {
    let subscription = Some(to_wire(subscription, secrets));
    v1::UpdateSubscriptionResponse { subscription, hints, ..Default::default() }
}
