//! A callback, from the wire and to it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use pregon_core::contract::Verdict;
use pregon_core::error::{Violations, Wrong};
use pregon_core::event::Environment;
use pregon_core::id::ContractId;
use pregon_core::limits;
use pregon_core::model::{Callback, CallbackState, FailurePolicy};
use pregon_proto::v1;
use pregon_rpc::time;

use crate::catalog::Stored;
use crate::mask::{Fields, Mask, put};
use crate::receiver::{self, AuthEdit, HeaderEdit, Receiver};
use crate::{etag, map, parse};

const IMMUTABLE: &[&str] = &["name", "environment"];
const OUTPUT_ONLY: &[&str] =
    &["create_time", "update_time", "revision", "etag", "state", "state_change", "secrets_live"];

/// Runs `body` with the fields of a callback as the wire has them.
pub(super) fn with_fields<T>(given: &v1::Callback, body: impl FnOnce(Fields<'_>) -> T) -> T {
    let settable = [
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("url", !given.url.is_empty()),
        ("contract", !given.contract.is_empty()),
        ("auth", given.auth.is_some()),
        ("headers", !given.headers.is_empty()),
        ("verdict", !given.verdict.is_empty()),
        ("timeout", given.timeout.is_some()),
        ("on_error", given.on_error != 0),
        ("cache_ttl", given.cache_ttl.is_some()),
        ("max_concurrency", given.max_concurrency != 0),
    ];
    body(Fields { settable: &settable, immutable: IMMUTABLE, output_only: OUTPUT_ONLY })
}

/// What the fields are fields of.
pub(super) const FIELD: &str = "callback";

/// What a request says of a callback: the chosen fields, parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Edit {
    display_name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    url: Option<String>,
    /// As given, chosen or not: it is for good once the callback exists.
    pub environment: Option<Environment>,
    /// The contract, if it is chosen.
    pub contract: Option<ContractId>,
    /// Headers that go along, if they are chosen.
    pub headers: Option<Vec<HeaderEdit>>,
    /// How Pregón identifies itself, if it is chosen.
    pub auth: Option<AuthEdit>,
    verdict: Option<String>,
    timeout_ms: Option<u32>,
    on_error: Option<FailurePolicy>,
    cache_ttl_ms: Option<u32>,
    max_concurrency: Option<u32>,
}

impl Edit {
    pub(super) fn parse(given: &v1::Callback, mask: &Mask, wrong: &mut Violations) -> Self {
        let mut edit = Self {
            environment: parse::environment("callback.environment", given.environment, wrong),
            ..Self::default()
        };
        if mask.has("display_name") {
            let parsed = parse::display_name(&given.display_name);
            edit.display_name = wrong.check("callback.display_name", parsed);
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels("callback.labels", &given.labels, wrong));
        }
        if mask.has("url") {
            edit.url = receiver::url(FIELD, &given.url, wrong);
        }
        if mask.has("contract") {
            let parsed = match given.contract.is_empty() {
                true => Ok(ContractId::standard_webhooks()),
                false => ContractId::parse_name(&given.contract),
            };
            edit.contract = wrong.check("callback.contract", parsed);
        }
        if mask.has("headers") {
            edit.headers = Some(HeaderEdit::parse(FIELD, &given.headers, wrong));
        }
        if mask.has("auth") {
            edit.auth = AuthEdit::parse(FIELD, given.auth.as_ref(), wrong);
        }
        if mask.has("verdict") {
            let parsed = match given.verdict.is_empty() {
                true => Ok(()),
                false => Verdict::compile(&given.verdict).map(drop),
            };
            edit.verdict = wrong.check("callback.verdict", parsed).map(|()| given.verdict.clone());
        }
        if mask.has("on_error") {
            edit.on_error =
                parse::known("callback.on_error", given.on_error, wrong).map(failure_policy);
        }
        edit.numbers(given, mask, wrong);
        edit
    }

    fn numbers(&mut self, given: &v1::Callback, mask: &Mask, wrong: &mut Violations) {
        if mask.has("timeout") {
            let parsed = milliseconds(
                given.timeout.as_ref(),
                limits::CALLBACK_TIMEOUT_DEFAULT,
                limits::CALLBACK_TIMEOUT,
            );
            self.timeout_ms = wrong.check("callback.timeout", parsed);
        }
        if mask.has("cache_ttl") {
            let range = Duration::ZERO..=limits::CALLBACK_CACHE;
            let parsed = milliseconds(given.cache_ttl.as_ref(), Duration::ZERO, range);
            self.cache_ttl_ms = wrong.check("callback.cache_ttl", parsed);
        }
        if mask.has("max_concurrency") {
            self.max_concurrency =
                parse::concurrency("callback.max_concurrency", given.max_concurrency, wrong);
        }
    }

    /// What of it the contract has a say in.
    pub(super) fn receiver(&self) -> Receiver<'_> {
        Receiver {
            url: self.url.as_deref(),
            headers: self.headers.as_ref().map(|all| all.iter().map(HeaderEdit::name).collect()),
            identity: self.auth.as_ref().map(AuthEdit::identity),
        }
    }

    /// Changes a callback, all but its environment, headers and auth.
    pub(super) fn apply(&self, callback: &mut Callback) {
        put(&mut callback.common.display_name, self.display_name.as_ref());
        put(&mut callback.common.labels, self.labels.as_ref());
        put(&mut callback.url, self.url.as_ref());
        put(&mut callback.contract, self.contract.as_ref());
        put(&mut callback.verdict, self.verdict.as_ref());
        put(&mut callback.timeout_ms, self.timeout_ms.as_ref());
        put(&mut callback.on_error, self.on_error.as_ref());
        put(&mut callback.cache_ttl_ms, self.cache_ttl_ms.as_ref());
        put(&mut callback.max_concurrency, self.max_concurrency.as_ref());
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

fn failure_policy(given: v1::FailurePolicy) -> FailurePolicy {
    match given {
        v1::FailurePolicy::Unspecified | v1::FailurePolicy::Deny => FailurePolicy::Deny,
        v1::FailurePolicy::Allow => FailurePolicy::Allow,
    }
}

/// A callback as the API shows it; `secrets_live` is counted elsewhere.
pub(crate) fn to_wire(stored: &Stored<Callback>, secrets_live: u32) -> v1::Callback {
    let it = &stored.value;
    let span = |ms: u32| Some(time::duration(Duration::from_millis(u64::from(ms))));
    let on_error = match it.on_error {
        FailurePolicy::Deny => v1::FailurePolicy::Deny,
        FailurePolicy::Allow => v1::FailurePolicy::Allow,
    };
    let state = match it.state {
        CallbackState::Active => v1::CallbackState::Active,
        CallbackState::Paused => v1::CallbackState::Paused,
    };
    v1::Callback {
        name: it.name().to_string(),
        display_name: it.common.display_name.clone(),
        labels: map::labels(&it.common.labels),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        url: it.url.clone(),
        environment: map::environment(it.environment).into(),
        contract: it.contract.name(),
        auth: receiver::shown_auth(&it.auth),
        headers: receiver::shown_headers(&it.headers),
        verdict: it.verdict.clone(),
        timeout: span(it.timeout_ms),
        on_error: on_error.into(),
        cache_ttl: span(it.cache_ttl_ms),
        max_concurrency: map::small(it.max_concurrency),
        state: state.into(),
        state_change: it.state_change.as_ref().map(|change| v1::CallbackStateChange {
            time: map::moment(change.time),
            actor: change.actor.clone(),
        }),
        secrets_live: map::small(secrets_live),
    }
}
