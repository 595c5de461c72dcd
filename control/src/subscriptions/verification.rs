//! The verification of a subscription's receiver, as control begins it and shows it.
//!
//! Control never asks: it writes that there is something to be asked, and nodes do it. What they
//! write of it is part of the subscription's document. A receiver has to be verified at its first
//! URL under a contract with `verification`, and again where URL or contract change; nothing else
//! has a say in it. Until it has passed no move leads to ACTIVE.

use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::id::SubscriptionName;
use pregon_core::model::{APART, Subscription, SubscriptionState, Verification};
use pregon_core::outcome::ErrorClass;
use pregon_proto::v1;

use crate::catalog::{Kind as _, Stored};
use crate::commit::{How, Plan, until_settled};
use crate::receiver::{Shows as _, shows, to_wire};
use crate::{Control, map, parse};

/// Why a subscription is PENDING_VERIFICATION whose receiver was not asked yet.
pub(super) const NOT_ASKED: &str = "its receiver has not passed the verification yet";

shows! { Subscription as subscription: VerifySubscriptionResponse; }

/// What a new subscription under a contract has to pass.
pub(super) fn begun(contract: &Contract, now: Timestamp) -> Option<Verification> {
    contract.verification().map(|_| Verification::begin(now))
}

/// What one has to pass whose URL or contract changed: everything, and no sooner after its last
/// asking than any.
pub(super) fn begun_anew(
    before: &Subscription,
    contract: &Contract,
    now: Timestamp,
) -> Option<Verification> {
    let last = before.verification.as_ref().and_then(|it| it.last.as_ref());
    let apart = last.map(|last| last.time.plus(APART));
    let begun = begun(contract, now)?;
    Some(Verification { next: Some(apart.map_or(now, |apart| apart.max(now))), ..begun })
}

/// Where a subscription goes that is let in or goes on.
pub(super) fn open(subscription: &Subscription) -> SubscriptionState {
    match subscription.verification.as_ref().is_none_or(|it| it.passed) {
        true => SubscriptionState::Active,
        false => SubscriptionState::PendingVerification,
    }
}

/// Notes that the contract's verification cannot be asked at a URL.
pub(super) fn check_url(subscription: &Subscription, contract: &Contract, wrong: &mut Violations) {
    let rule = contract.verification();
    if let Some(name) = rule.and_then(|rule| rule.in_query_of(&subscription.url)) {
        let text =
            format!("has the query parameter {name}, which the contract's verification adds");
        wrong.add("subscription.url", Rule::UrlRefused, text);
    }
}

/// How the API shows it.
pub(super) fn shown(it: &Verification) -> v1::SubscriptionVerification {
    let last = it.last.clone().unwrap_or_default();
    let class = ErrorClass::ALL.iter().find(|class| class.word() == last.class);
    v1::SubscriptionVerification {
        state: map::verification_state(it.state()).into(),
        attempts: map::small(it.attempts),
        next_time: it.next.and_then(map::moment),
        passed_time: it.passed_time.and_then(map::moment),
        last_time: it.last.as_ref().and_then(|last| map::moment(last.time)),
        node: last.node,
        reason: last.reason,
        failed_step: map::small(last.step),
        status: i32::from(last.status),
        error_class: class.map_or(0, |class| map::error_class(*class).into()),
        excerpt: last.excerpt,
    }
}

impl Control {
    pub(crate) async fn verify_subscription(
        &self,
        request: v1::VerifySubscriptionRequest,
    ) -> Result<v1::VerifySubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        until_settled(|| self.try_verify(&name, request.validate_only)).await
    }

    async fn try_verify(
        &self,
        name: &SubscriptionName,
        validate_only: bool,
    ) -> Result<Option<v1::VerifySubscriptionResponse>, Refusal> {
        let text = name.to_string();
        let stored = self.fetch::<Subscription>(&text).await?;
        let live = self.live_secrets(&name.clone().into()).await?;
        let (mut subscription, read) = (stored.value, stored.revision);
        let contract = self.find_contract(&subscription.contract).await?;
        let conflict = |message: String| {
            Refusal::new(Reason::StateConflict, message).about(Subscription::WORD, text.clone())
        };
        if contract.is_none_or(|contract| contract.verification().is_none()) {
            let contract = subscription.contract.name();
            return Err(conflict(format!("{contract} asks for no verification")));
        }
        if !subscription.state.is_asked() {
            let state = subscription.state;
            return Err(conflict(format!("{text} is {state} and its receiver is left alone")));
        }
        let now = self.clock.now();
        match &mut subscription.verification {
            Some(verification) => verification.ask_again(now),
            none => *none = Some(Box::new(Verification::begin(now))),
        }
        subscription.common.update_time = now;
        let plan = Plan::new().put(&subscription.clone().wrap(), read);
        let shown = to_wire(&Stored::new(subscription), live);
        let answer = v1::VerifySubscriptionResponse::of(shown, Vec::new());
        self.commit(plan, answer, &How::plain(validate_only)).await
    }
}
