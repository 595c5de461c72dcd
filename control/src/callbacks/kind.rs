//! What a callback has of its own among receivers.

use std::ops::RangeInclusive;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::contract::{Contract, Verdict};
use pregon_core::error::{Violations, Wrong};
use pregon_core::event::Environment;
use pregon_core::id::{CallbackName, LaneNo};
use pregon_core::limits;
use pregon_core::model::{
    Auth, Callback, CallbackState, Common, FailurePolicy, TenantLimits, Trust,
};
use pregon_proto::v1;
use pregon_rpc::time;

use crate::catalog::CALLBACK_SECRETS;
use crate::family::Children;
use crate::mask::{Mask, put};
use crate::receiver::{Move, Receiver};
use crate::{map, parse};

/// What a request says of a callback's own fields.
#[derive(Debug, Default)]
pub(crate) struct Own {
    verdict: Option<String>,
    timeout_ms: Option<u32>,
    on_error: Option<FailurePolicy>,
    cache_ttl_ms: Option<u32>,
}

impl Receiver for Callback {
    const ID_PREFIX: &'static str = "cb_";
    const COLLECTION: &'static str = "callbacks";
    const SECRETS: &'static str = CALLBACK_SECRETS;

    type Own = Own;
    type State = CallbackState;

    fn own_fields(given: &v1::Callback) -> Vec<(&'static str, bool)> {
        vec![
            ("verdict", !given.verdict.is_empty()),
            ("timeout", given.timeout.is_some()),
            ("on_error", given.on_error != 0),
            ("cache_ttl", given.cache_ttl.is_some()),
        ]
    }

    fn parse_own(given: &v1::Callback, mask: &Mask, wrong: &mut Violations) -> Own {
        let mut own = Own::default();
        if mask.has("verdict") {
            let parsed = match given.verdict.is_empty() {
                true => Ok(()),
                false => Verdict::compile(&given.verdict).map(drop),
            };
            own.verdict = wrong.check("callback.verdict", parsed).map(|()| given.verdict.clone());
        }
        if mask.has("on_error") {
            let known = parse::known("callback.on_error", given.on_error, wrong);
            let policy = |it| map::from_failure_policy(it).unwrap_or(FailurePolicy::Deny);
            own.on_error = known.map(policy);
        }
        if mask.has("timeout") {
            let default = limits::CALLBACK_TIMEOUT_DEFAULT;
            let parsed = milliseconds(given.timeout.as_ref(), default, limits::CALLBACK_TIMEOUT);
            own.timeout_ms = wrong.check("callback.timeout", parsed);
        }
        if mask.has("cache_ttl") {
            let range = Duration::ZERO..=limits::CALLBACK_CACHE;
            let parsed = milliseconds(given.cache_ttl.as_ref(), Duration::ZERO, range);
            own.cache_ttl_ms = wrong.check("callback.cache_ttl", parsed);
        }
        own
    }

    fn put_own(&mut self, own: &Own) {
        put(&mut self.verdict, own.verdict.as_ref());
        put(&mut self.timeout_ms, own.timeout_ms.as_ref());
        put(&mut self.on_error, own.on_error.as_ref());
        put(&mut self.cache_ttl_ms, own.cache_ttl_ms.as_ref());
    }

    fn show_own(&self, wire: &mut v1::Callback) {
        let span = |ms: u32| Some(time::duration(Duration::from_millis(u64::from(ms))));
        wire.verdict.clone_from(&self.verdict);
        wire.timeout = span(self.timeout_ms);
        wire.on_error = map::failure_policy(self.on_error).into();
        wire.cache_ttl = span(self.cache_ttl_ms);
        wire.state = map::callback_state(self.state).into();
    }

    fn blank(name: &CallbackName, contract: &Contract, _: LaneNo, now: Timestamp) -> Self {
        Self {
            tenant: name.tenant.clone(),
            id: name.callback.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            url: String::new(),
            environment: Environment::Live,
            contract: contract.id().clone(),
            headers: Vec::new(),
            auth: Auth::None,
            trust: Trust::default(),
            verdict: String::new(),
            timeout_ms: 0,
            on_error: FailurePolicy::Deny,
            cache_ttl_ms: 0,
            max_concurrency: limits::CONCURRENCY_DEFAULT,
            state: CallbackState::Active,
            state_change: None,
        }
    }

    fn created_paused(given: &v1::Callback, wrong: &mut Violations) -> Option<bool> {
        let state = parse::known("callback.state", given.state, wrong)?;
        Some(map::from_callback_state(state) == Some(CallbackState::Paused))
    }

    fn count(children: &mut Children) -> &mut u32 {
        &mut children.callbacks
    }

    fn most(_: &TenantLimits) -> u32 {
        limits::CALLBACKS
    }

    fn unfit(contract: &Contract) -> Option<&'static str> {
        let text = "signs what only an event has: no callback can be under it";
        contract.callback().is_none().then_some(text)
    }

    fn state(&self) -> CallbackState {
        self.state
    }

    fn target(&self, to: Move) -> Option<CallbackState> {
        match to {
            Move::Pause => Some(CallbackState::Paused),
            Move::Resume => Some(CallbackState::Active),
            Move::Open | Move::Disable | Move::Approve | Move::Reject => None,
        }
    }

    fn put_state(&mut self, state: CallbackState, _: &str, _: Timestamp) {
        self.state = state;
    }
}

/// A duration within bounds, as whole milliseconds.
fn milliseconds(
    given: Option<&prost_types::Duration>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Result<u32, Wrong> {
    let length = match given {
        None => default,
        Some(given) => time::parse_duration_within(given, range)?,
    };
    // The bounds are hours at most.
    Ok(u32::try_from(length.as_millis()).unwrap_or(u32::MAX))
}
