//! A subscription, from the wire and to it.

use std::collections::BTreeMap;

use pregon_core::error::{Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::filter::Filter;
use pregon_core::id::ContractId;
use pregon_core::limits;
use pregon_core::model::{Subscription, SubscriptionState};
use pregon_core::pattern::Pattern;
use pregon_core::redact::SensitiveRoot;
use pregon_proto::v1;

use crate::catalog::Stored;
use crate::mask::{Fields, Mask, put};
use crate::receiver::{self, AuthEdit, HeaderEdit, Receiver};
use crate::{etag, map, parse};

const IMMUTABLE: &[&str] = &["name", "environment"];
const OUTPUT_ONLY: &[&str] = &[
    "create_time",
    "update_time",
    "revision",
    "etag",
    "state",
    "state_reason",
    "state_change",
    "secrets_live",
];

/// Runs `body` with the fields of a subscription as the wire has them.
pub(super) fn with_fields<T>(given: &v1::Subscription, body: impl FnOnce(Fields<'_>) -> T) -> T {
    let settable = [
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("url", !given.url.is_empty()),
        ("event_types", !given.event_types.is_empty()),
        ("filter", !given.filter.is_empty()),
        ("contract", !given.contract.is_empty()),
        ("headers", !given.headers.is_empty()),
        ("auth", given.auth.is_some()),
        ("max_concurrency", given.max_concurrency != 0),
        ("rate_limit", given.rate_limit.is_some()),
        ("max_pending", given.max_pending != 0),
        ("ordered", given.ordered.is_some()),
        ("egress", !given.egress.is_empty()),
        ("sensitive_paths", !given.sensitive_paths.is_empty()),
    ];
    body(Fields { settable: &settable, immutable: IMMUTABLE, output_only: OUTPUT_ONLY })
}

/// What the fields are fields of.
pub(super) const FIELD: &str = "subscription";

/// What a request says of a subscription: the chosen fields, parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Edit {
    display_name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    url: Option<String>,
    /// As given, chosen or not: it is for good once the subscription exists.
    pub environment: Option<Environment>,
    event_types: Option<Vec<String>>,
    filter: Option<String>,
    /// The contract, if it is chosen.
    pub contract: Option<ContractId>,
    /// Headers that go along, if they are chosen.
    pub headers: Option<Vec<HeaderEdit>>,
    /// How Pregón identifies itself, if it is chosen.
    pub auth: Option<AuthEdit>,
    sensitive_paths: Option<Vec<String>>,
    max_concurrency: Option<u32>,
}

impl Edit {
    pub(super) fn parse(given: &v1::Subscription, mask: &Mask, wrong: &mut Violations) -> Self {
        let mut edit = Self {
            environment: parse::environment("subscription.environment", given.environment, wrong),
            ..Self::default()
        };
        if mask.has("display_name") {
            let parsed = parse::display_name(&given.display_name);
            edit.display_name = wrong.check("subscription.display_name", parsed);
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels("subscription.labels", &given.labels, wrong));
        }
        if mask.has("url") {
            edit.url = receiver::url(FIELD, &given.url, wrong);
        }
        if mask.has("event_types") {
            edit.event_types = patterns(&given.event_types, wrong);
        }
        if mask.has("filter") {
            let parsed = match given.filter.is_empty() {
                true => Ok(String::new()),
                false => Filter::written(&given.filter).map(|filter| filter.source().to_owned()),
            };
            edit.filter = wrong.check("subscription.filter", parsed);
        }
        if mask.has("contract") {
            let parsed = match given.contract.is_empty() {
                true => Ok(ContractId::standard_webhooks()),
                false => ContractId::parse_name(&given.contract),
            };
            edit.contract = wrong.check("subscription.contract", parsed);
        }
        if mask.has("headers") {
            edit.headers = Some(HeaderEdit::parse(FIELD, &given.headers, wrong));
        }
        if mask.has("auth") {
            edit.auth = AuthEdit::parse(FIELD, given.auth.as_ref(), wrong);
        }
        if mask.has("sensitive_paths") {
            let (field, root) = ("subscription.sensitive_paths", SensitiveRoot::Event);
            edit.sensitive_paths =
                parse::sensitive_paths(field, &given.sensitive_paths, root, wrong);
        }
        if mask.has("max_concurrency") {
            edit.max_concurrency =
                parse::concurrency("subscription.max_concurrency", given.max_concurrency, wrong);
        }
        refuse_unsupported(given, mask, wrong);
        edit
    }

    /// What of it the contract has a say in.
    pub(super) fn receiver(&self) -> Receiver<'_> {
        Receiver {
            url: self.url.as_deref(),
            headers: self.headers.as_ref().map(|all| all.iter().map(HeaderEdit::name).collect()),
            identity: self.auth.as_ref().map(AuthEdit::identity),
        }
    }

    /// Changes a subscription, all but its environment, headers and auth.
    pub(super) fn apply(&self, subscription: &mut Subscription) {
        put(&mut subscription.common.display_name, self.display_name.as_ref());
        put(&mut subscription.common.labels, self.labels.as_ref());
        put(&mut subscription.url, self.url.as_ref());
        put(&mut subscription.event_types, self.event_types.as_ref());
        put(&mut subscription.filter, self.filter.as_ref());
        put(&mut subscription.contract, self.contract.as_ref());
        put(&mut subscription.sensitive_paths, self.sensitive_paths.as_ref());
        put(&mut subscription.max_concurrency, self.max_concurrency.as_ref());
    }
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
    let set = [
        ("rate_limit", given.rate_limit.is_some()),
        ("max_pending", given.max_pending != 0),
        ("ordered", given.ordered == Some(true)),
        ("egress", !given.egress.is_empty()),
    ];
    for (path, set) in set {
        parse::unsupported(&format!("subscription.{path}"), set && mask.has(path), wrong);
    }
}

pub(super) fn state(state: SubscriptionState) -> v1::SubscriptionState {
    match state {
        SubscriptionState::PendingApproval => v1::SubscriptionState::PendingApproval,
        SubscriptionState::Active => v1::SubscriptionState::Active,
        SubscriptionState::Paused => v1::SubscriptionState::Paused,
        SubscriptionState::Disabled => v1::SubscriptionState::Disabled,
        SubscriptionState::Rejected => v1::SubscriptionState::Rejected,
    }
}

/// A state that a list asks for; none: every one.
pub(super) fn from_state(state: v1::SubscriptionState) -> Option<SubscriptionState> {
    match state {
        v1::SubscriptionState::Unspecified => None,
        v1::SubscriptionState::PendingApproval => Some(SubscriptionState::PendingApproval),
        v1::SubscriptionState::Active => Some(SubscriptionState::Active),
        v1::SubscriptionState::Paused => Some(SubscriptionState::Paused),
        v1::SubscriptionState::Disabled => Some(SubscriptionState::Disabled),
        v1::SubscriptionState::Rejected => Some(SubscriptionState::Rejected),
    }
}

/// A subscription as the API shows it; `secrets_live` is counted elsewhere.
pub(crate) fn to_wire(stored: &Stored<Subscription>, secrets_live: u32) -> v1::Subscription {
    let it = &stored.value;
    v1::Subscription {
        name: it.name().to_string(),
        display_name: it.common.display_name.clone(),
        labels: map::labels(&it.common.labels),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        url: it.url.clone(),
        environment: map::environment(it.environment).into(),
        event_types: it.event_types.clone(),
        filter: it.filter.clone(),
        contract: it.contract.name(),
        headers: receiver::shown_headers(&it.headers),
        auth: receiver::shown_auth(&it.auth),
        sensitive_paths: it.sensitive_paths.clone(),
        max_concurrency: map::small(it.max_concurrency),
        ordered: Some(false),
        state: state(it.state).into(),
        state_reason: it.state_reason.clone(),
        state_change: it.state_change.as_ref().map(|change| v1::SubscriptionStateChange {
            time: map::moment(change.time),
            actor: change.actor.clone(),
            note: change.note.clone(),
        }),
        secrets_live: map::small(secrets_live),
        ..Default::default()
    }
}
