//! A subscription, compiled: what matching, rendering and sending need of it.

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::contract::{Contract, Overrides, SigningKeys};
use pregon_core::event::{Environment, Event};
use pregon_core::expr::{Labelled, Scope, SubscriptionView};
use pregon_core::filter::{Filter, Verdict};
use pregon_core::id::{LaneNo, PoolName, SubscriptionName};
use pregon_core::model::{Failing, Subscription, SubscriptionState};
use pregon_core::pattern::Pattern;
use pregon_core::rate::Rate;
use pregon_core::redact::SensitivePath;
use pregon_core::seal::KeyRing;
use pregon_core::url::EndpointUrl;

use super::headers::FixedHeaders;
use super::{Labels, labels_of, paths_of, terms};
use crate::egress::{PoolChoice, Target, Terms};
use crate::oauth::Client;

/// A subscription's way out. Two of them are equal only when they are the same one: what was built
/// anew has changed.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The subscription.
    pub name: SubscriptionName,
    /// Its number.
    pub lane: LaneNo,
    /// Which side of its tenant it lives on.
    pub environment: Environment,
    /// What it does at present.
    pub state: SubscriptionState,
    /// When a node is to ask its receiver for the contract's verification; none: it is left alone.
    pub asked_at: Option<Timestamp>,
    /// The egress pool that it names.
    pub egress: Option<PoolName>,
    /// Where attempts go.
    pub url: EndpointUrl,
    /// The same, ready to be sent to.
    pub target: Target,
    /// What its TLS has of its own.
    pub terms: Option<Terms>,
    /// Where its tokens come from, if it wants any.
    pub(crate) client: Option<Client>,
    /// The event types it wants.
    pub patterns: Box<[Pattern]>,
    /// A condition on the event.
    pub filter: Option<Filter>,
    /// The wire contract its receiver speaks, with what the subscription says in its place.
    pub contract: Arc<Contract>,
    /// What that is; none: nothing.
    pub overrides: Option<Arc<Overrides>>,
    /// What Pregón identifies itself with, and the subscription's own headers.
    pub headers: FixedHeaders,
    /// Paths to values of the data that must not be kept, beside the contract's.
    pub sensitive: Box<[SensitivePath]>,
    /// Its labels.
    pub labels: Labels,
    /// Its tenant's labels.
    pub tenant_labels: Labels,
    /// Keys that are not revoked, newest first; which of them sign is a matter of the moment.
    pub keys: SigningKeys,
    /// Attempts in flight at most, of one node.
    pub max_concurrency: u32,
    /// How fast its attempts may start, over all nodes.
    pub rate: Option<Rate>,
    /// The same of all that is sent for its tenant.
    pub tenant_rate: Option<Rate>,
    /// When an operator last opened it.
    pub opened: Option<Timestamp>,
    /// The revision that wrote the subscription last; keys and tenant may have changed since.
    pub revision: i64,
    /// Its tenant is suspended: deliveries wait.
    pub tenant_suspended: bool,
    /// Since when its receiver only fails, as nodes noted it; none: nobody did.
    pub failing: Option<Box<Failing>>,
}

impl PartialEq for Lane {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Lane {}

impl Lane {
    /// Compiles a subscription; the reason where that cannot be done. Keys and what the tenant
    /// says are added by whoever knows them.
    pub(super) fn compile(
        subscription: &Subscription,
        contract: &Arc<Contract>,
        revision: i64,
        ring: &KeyRing,
    ) -> Result<Self, String> {
        let name = subscription.name();
        let patterns = subscription.event_types.iter().map(|text| Pattern::parse(text));
        let patterns: Vec<_> =
            patterns.collect::<Result<_, _>>().map_err(|wrong| format!("event_types: {wrong}"))?;
        let filter = match subscription.filter.as_str() {
            "" => None,
            text => Some(Filter::compile(text).map_err(|wrong| format!("filter: {wrong}"))?),
        };
        let url = EndpointUrl::parse_stored(&subscription.url)
            .map_err(|wrong| format!("url: {wrong}"))?;
        let overrides = match subscription.overrides.as_str() {
            "" => None,
            text => Some(Arc::new(Overrides::read(text).map_err(|faults| {
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                format!("overrides: {first}")
            })?)),
        };
        let choice = PoolChoice::new(subscription.egress.clone(), contract.egress());
        let whose = (&name, &subscription.tenant);
        let client = terms::client(&subscription.auth, &subscription.trust, whose, &choice, ring)?;
        let mut lane = Self {
            headers: FixedHeaders::compile(&subscription.auth, &subscription.headers, &name, ring)?,
            sensitive: paths_of(&subscription.sensitive_paths),
            labels: labels_of(&subscription.common),
            tenant_labels: Labels::default(),
            target: Target::new(subscription.tenant.clone(), &url),
            terms: terms::read(&subscription.auth, &subscription.trust, &name, ring)?,
            client,
            url,
            name,
            lane: subscription.lane,
            environment: subscription.environment,
            state: subscription.state,
            asked_at: subscription.asked_at(),
            patterns: patterns.into(),
            filter,
            contract: Arc::clone(contract),
            overrides,
            egress: subscription.egress.clone(),
            keys: SigningKeys::default(),
            max_concurrency: subscription.max_concurrency,
            rate: subscription.rate_limit,
            tenant_rate: None,
            opened: subscription.opened,
            revision,
            tenant_suspended: false,
            failing: subscription.failing().cloned().map(Box::new),
        };
        lane.put_under(contract);
        Ok(lane)
    }

    /// Puts it under a contract, or under another revision of its own.
    pub(super) fn put_under(&mut self, contract: &Arc<Contract>) {
        self.contract = match &self.overrides {
            Some(overrides) => overrides.over(contract),
            None => Arc::clone(contract),
        };
        let choice = PoolChoice::new(self.egress.clone(), contract.egress());
        let (tenant, terms) = (self.name.tenant.clone(), self.terms.clone());
        if let Some(client) = &mut self.client {
            client.put_by(&choice);
        }
        self.target = Target::by(tenant, &self.url, choice, terms);
    }

    /// Goes on with the tokens of an older version of it.
    pub(super) fn go_on_from(&mut self, older: &Lane) {
        if let (Some(client), Some(older)) = (&mut self.client, &older.client) {
            client.go_on_from(older);
        }
    }

    /// Whether its deliveries wait: it is paused, not approved or not verified, or its tenant is suspended.
    pub fn holds(&self) -> bool {
        self.state.holds() || self.tenant_suspended
    }

    /// Whether the subscription wants an event of its tenant.
    pub(super) fn wants(&self, event: &Event) -> Verdict {
        let named = self.environment == event.environment
            && self.state.matches()
            && self.patterns.iter().any(|pattern| pattern.matches(&event.event_type))
            && self.contract.carries(&event.event_type);
        match &self.filter {
            _ if !named => Verdict::False,
            None => Verdict::True,
            Some(filter) => filter.holds(&self.scope(event)),
        }
    }

    /// What a filter sees.
    fn scope<'a>(&'a self, event: &'a Event) -> Scope<'a> {
        Scope {
            event: Some(event.into()),
            tenant: Some(Labelled { id: event.tenant.as_str(), labels: &self.tenant_labels }),
            subscription: Some(SubscriptionView {
                id: self.name.subscription.as_str(),
                labels: &self.labels,
                url: self.url.as_str(),
                environment: self.environment.word(),
            }),
            ..Scope::default()
        }
    }
}
