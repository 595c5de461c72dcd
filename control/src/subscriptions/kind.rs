//! What a subscription has of its own among receivers.
//!
//! Under a contract that asks for approval, whoever is below operator asks for it again by a change
//! of what the platform approved: url, auth, contract. That is so whatever the subscription does at
//! present, so that nobody disables it first, changes it and resumes it; a REJECTED one stays
//! rejected. One that waits and moves under a contract that does not ask still waits, for what it
//! was waiting for was never given. Where callers are not authenticated everybody is everything, an
//! operator too.
//!
//! Under a contract with `verification` it is ACTIVE only after its receiver has passed
//! ([`verification`]).

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::contract::{Contract, OVERRIDES_LEN, Overrides};
use pregon_core::error::{Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::filter::Filter;
use pregon_core::id::{LaneNo, PoolName, SubscriptionName};
use pregon_core::limits;
use pregon_core::model::{
    Auth, Common, StateChange, Subscription, SubscriptionState, TenantLimits, Trust,
};
use pregon_core::pattern::Pattern;
use pregon_core::rate::{BURST_MAX, Rate};
use pregon_core::redact::SensitiveRoot;
use pregon_proto::v1;
use pregon_rpc::caller::{Caller, Role};

use super::verification;
use crate::catalog::SUBSCRIPTION_SECRETS;
use crate::commit::Plan;
use crate::family::Children;
use crate::mask::{Mask, put};
use crate::receiver::{Move, Receiver};
use crate::{lanes, map, parse};

/// What a request says of a subscription's own fields.
#[derive(Debug, Default)]
pub(crate) struct Own {
    event_types: Option<Vec<String>>,
    filter: Option<String>,
    sensitive_paths: Option<Vec<String>>,
    overrides: Option<String>,
    egress: Option<Option<PoolName>>,
    rate_limit: Option<Option<Rate>>,
}

impl Receiver for Subscription {
    const ID_PREFIX: &'static str = "sub_";
    const COLLECTION: &'static str = "subscriptions";
    const SECRETS: &'static str = SUBSCRIPTION_SECRETS;
    const LANE: bool = true;
    const OUTPUT_ONLY: &'static [&'static str] = &["state_reason", "verification"];

    type Own = Own;
    type State = SubscriptionState;

    fn own_fields(given: &v1::Subscription) -> Vec<(&'static str, bool)> {
        vec![
            ("event_types", !given.event_types.is_empty()),
            ("filter", !given.filter.is_empty()),
            ("rate_limit", given.rate_limit.is_some()),
            ("max_pending", given.max_pending != 0),
            ("ordered", given.ordered.is_some()),
            ("egress", !given.egress.is_empty()),
            ("sensitive_paths", !given.sensitive_paths.is_empty()),
            ("overrides", !given.overrides.is_empty()),
        ]
    }

    fn parse_own(given: &v1::Subscription, mask: &Mask, wrong: &mut Violations) -> Own {
        let mut own = Own::default();
        if mask.has("event_types") {
            own.event_types = patterns(&given.event_types, wrong);
        }
        if mask.has("filter") {
            let parsed = match given.filter.is_empty() {
                true => Ok(String::new()),
                false => Filter::written(&given.filter).map(|filter| filter.source().to_owned()),
            };
            own.filter = wrong.check("subscription.filter", parsed);
        }
        if mask.has("sensitive_paths") {
            let (field, root) = ("subscription.sensitive_paths", SensitiveRoot::Event);
            own.sensitive_paths =
                parse::sensitive_paths(field, &given.sensitive_paths, root, wrong);
        }
        if mask.has("overrides") {
            own.overrides = overrides(&given.overrides, wrong);
        }
        if mask.has("egress") {
            own.egress = parse::pool("subscription.egress", &given.egress, wrong);
        }
        if mask.has("rate_limit") {
            own.rate_limit = rate(given.rate_limit, wrong);
        }
        refuse_unsupported(given, mask, wrong);
        own
    }

    fn put_own(&mut self, own: &Own) {
        put(&mut self.event_types, own.event_types.as_ref());
        put(&mut self.filter, own.filter.as_ref());
        put(&mut self.sensitive_paths, own.sensitive_paths.as_ref());
        put(&mut self.overrides, own.overrides.as_ref());
        put(&mut self.egress, own.egress.as_ref());
        put(&mut self.rate_limit, own.rate_limit.as_ref());
    }

    fn show_own(&self, wire: &mut v1::Subscription) {
        wire.event_types.clone_from(&self.event_types);
        wire.filter.clone_from(&self.filter);
        wire.sensitive_paths.clone_from(&self.sensitive_paths);
        wire.overrides.clone_from(&self.overrides);
        wire.egress = self.egress.as_ref().map(PoolName::to_string).unwrap_or_default();
        wire.rate_limit = self.rate_limit.map(|rate| v1::RateLimit {
            per_second: rate.per_second(),
            burst: map::small(rate.given_burst()),
        });
        wire.ordered = Some(false);
        wire.state = map::subscription_state(self.state).into();
        wire.state_reason.clone_from(&self.state_reason);
        wire.verification = self.verification.as_deref().map(verification::shown);
    }

    fn blank(name: &SubscriptionName, contract: &Contract, lane: LaneNo, now: Timestamp) -> Self {
        let mut it = Self {
            tenant: name.tenant.clone(),
            id: name.subscription.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            lane,
            url: String::new(),
            environment: Environment::Live,
            event_types: Vec::new(),
            filter: String::new(),
            contract: contract.id().clone(),
            headers: Vec::new(),
            auth: Auth::None,
            trust: Trust::default(),
            sensitive_paths: Vec::new(),
            overrides: String::new(),
            egress: None,
            max_concurrency: limits::CONCURRENCY_DEFAULT,
            rate_limit: None,
            opened: None,
            max_pending: 0,
            state: SubscriptionState::PendingApproval,
            state_reason: String::new(),
            state_change: None,
            verification: verification::begun(contract, now).map(Box::new),
            failing: None,
        };
        if !contract.approval() {
            it.put_state(verification::open(&it), "", now);
        }
        it
    }

    fn created_paused(given: &v1::Subscription, wrong: &mut Violations) -> Option<bool> {
        use SubscriptionState::{
            Active, Disabled, Paused, PendingApproval, PendingVerification, Rejected,
        };
        const FIELD: &str = "subscription.state";
        match map::from_subscription_state(parse::known(FIELD, given.state, wrong)?) {
            None | Some(Active) => Some(false),
            Some(Paused) => Some(true),
            Some(other @ (PendingApproval | PendingVerification | Rejected | Disabled)) => {
                let text = format!("must be ACTIVE or PAUSED at creation, not {other}");
                wrong.add(FIELD, Rule::OutOfRange, text);
                None
            }
        }
    }

    fn claim(&self, plan: Plan) -> Plan {
        lanes::claim(plan, self)
    }

    fn count(children: &mut Children) -> &mut u32 {
        &mut children.subscriptions
    }

    fn most(limits: &TenantLimits) -> u32 {
        limits.max_subscriptions
    }

    fn pool_of(own: &Own) -> Option<&PoolName> {
        own.egress.as_ref()?.as_ref()
    }

    fn pool(&self) -> Option<&PoolName> {
        self.egress.as_ref()
    }

    fn patterns(&self) -> &[String] {
        &self.event_types
    }

    fn state(&self) -> SubscriptionState {
        self.state
    }

    fn state_reason(&self) -> &str {
        &self.state_reason
    }

    fn target(&self, to: Move) -> Option<SubscriptionState> {
        use SubscriptionState::{
            Active, Disabled, Paused, PendingApproval, PendingVerification, Rejected,
        };
        match (to, self.state) {
            (Move::Approve, PendingApproval | Rejected) => Some(verification::open(self)),
            (Move::Approve, approved @ (Active | Paused | Disabled | PendingVerification)) => {
                Some(approved)
            }
            (Move::Reject, PendingApproval | Rejected) => Some(Rejected),
            (Move::Reject, Active | Paused | Disabled | PendingVerification)
            | (_, PendingApproval | Rejected)
            | (Move::Pause, Disabled | PendingVerification)
            | (Move::Resume, PendingVerification)
            | (Move::Open, Paused | Disabled | PendingVerification) => None,
            (Move::Pause, Active | Paused) => Some(Paused),
            (Move::Resume | Move::Open, Active) => Some(Active),
            (Move::Resume, Paused | Disabled) => Some(verification::open(self)),
            (Move::Disable, Active | Paused | Disabled | PendingVerification) => Some(Disabled),
        }
    }

    fn put_state(&mut self, state: SubscriptionState, reason: &str, now: Timestamp) {
        let waits = state == SubscriptionState::PendingVerification;
        if waits
            && self.state != state
            && let Some(verification) = &mut self.verification
        {
            verification.ask_again(now);
        }
        self.state = state;
        let reason = if waits && reason.is_empty() { verification::NOT_ASKED } else { reason };
        reason.clone_into(&mut self.state_reason);
    }

    fn open(&mut self, now: Timestamp) {
        self.opened = Some(now);
    }

    fn check_own(&self, contract: &Contract, wrong: &mut Violations) {
        verification::check_url(self, contract, wrong);
        // A stored document was read when it was given.
        if let Ok(overrides) = Overrides::read(&self.overrides) {
            wrong.check(OVERRIDES, overrides.check(contract));
        }
    }

    /// Puts it back to PENDING_APPROVAL or PENDING_VERIFICATION where it must be.
    fn on_update(&mut self, before: &Self, contract: &Contract, caller: &Caller, now: Timestamp) {
        use SubscriptionState::{
            Active, Disabled, Paused, PendingApproval, PendingVerification, Rejected,
        };
        let operator = caller.role().is_none_or(|role| role.covers(Role::Operator));
        let changed: Vec<_> = [
            ("url", before.url != self.url),
            ("auth", before.auth != self.auth || before.trust != self.trust),
            ("contract", before.contract != self.contract),
        ]
        .into_iter()
        .filter_map(|(what, changed)| changed.then_some(what))
        .collect();
        let moved = before.url != self.url || before.contract != self.contract;
        if moved {
            self.verification = verification::begun_anew(before, contract, now).map(Box::new);
        }
        let (actor, note) =
            (caller.actor().to_string(), format!("changed: {}", changed.join(", ")));
        let asks = contract.approval() && !operator && !changed.is_empty();
        let state = match self.state {
            PendingApproval | Rejected => return,
            Active | Paused | Disabled | PendingVerification if asks => PendingApproval,
            Active | PendingVerification if moved => verification::open(self),
            Active | Paused | Disabled | PendingVerification => return,
        };
        let reason = if state == PendingApproval { note.as_str() } else { "" };
        if state != self.state {
            self.state_change = Some(StateChange { time: now, actor, note: note.clone() });
        }
        self.state = state; // a round has begun, where one must
        self.put_state(state, reason, now);
    }
}

/// The field of what stands in place of the contract.
const OVERRIDES: &str = "subscription.overrides";

/// The document as it was given; every fault in it is told.
fn overrides(given: &str, wrong: &mut Violations) -> Option<String> {
    if given.len() > OVERRIDES_LEN {
        wrong.add(OVERRIDES, Rule::TooLong, format!("must be {OVERRIDES_LEN} bytes at most"));
        return None;
    }
    if given.is_empty() {
        return Some(String::new());
    }
    match Overrides::read(given) {
        Ok(_) => Some(given.to_owned()),
        Err(faults) => {
            faults.iter().for_each(|fault| wrong.add(OVERRIDES, fault.rule, fault));
            None
        }
    }
}

/// The contract of a subscription, with what it says in its place.
pub(crate) fn contract_of(subscription: &Subscription, contract: &Arc<Contract>) -> Arc<Contract> {
    match Overrides::read(&subscription.overrides) {
        Ok(overrides) => overrides.over(contract),
        Err(_) => Arc::clone(contract),
    }
}

/// How fast it may be sent to; none: no limit.
fn rate(given: Option<v1::RateLimit>, wrong: &mut Violations) -> Option<Option<Rate>> {
    let Some(given) = given else { return Some(None) };
    const FIELD: &str = "subscription.rate_limit";
    if Rate::new(given.per_second, 0).is_none() {
        let text = format!("must be 0.001 to 100000, is {}", given.per_second);
        wrong.add(format!("{FIELD}.per_second"), Rule::OutOfRange, text);
        return None;
    }
    let burst = u32::try_from(given.burst).ok();
    let rate = burst.and_then(|burst| Rate::new(given.per_second, burst));
    if rate.is_none() {
        let text = format!(
            "must be 0 to {BURST_MAX} and no more than per_second allows in an hour, is {}",
            given.burst
        );
        wrong.add(format!("{FIELD}.burst"), Rule::OutOfRange, text);
    }
    rate.map(Some)
}

fn patterns(given: &[String], wrong: &mut Violations) -> Option<Vec<String>> {
    const FIELD: &str = "subscription.event_types";
    if given.is_empty() {
        wrong.add(FIELD, Rule::Required, format!("must be 1 to {} patterns", limits::PATTERNS));
        return None;
    }
    if given.len() > limits::PATTERNS {
        let text = format!("must be 1 to {} patterns, are {}", limits::PATTERNS, given.len());
        wrong.add(FIELD, Rule::TooMany, text);
        return None;
    }
    let mut parsed = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let pattern = wrong.check(format!("{FIELD}[{index}]"), Pattern::parse(text));
        parsed.extend(pattern.map(String::from));
    }
    Some(parsed)
}

/// Fields that later releases fill: refused when set, never ignored.
fn refuse_unsupported(given: &v1::Subscription, mask: &Mask, wrong: &mut Violations) {
    let set = [("max_pending", given.max_pending != 0), ("ordered", given.ordered == Some(true))];
    for (path, set) in set {
        parse::unsupported(&format!("subscription.{path}"), set && mask.has(path), wrong);
    }
}
