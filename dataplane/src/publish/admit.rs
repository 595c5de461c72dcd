//! Whether the configuration lets an event in.
//!
//! What a snapshot does not know may have been created a moment ago. So before a tenant, a type or
//! a revision is said not to exist, the node catches up with the store once; where that fails, the
//! answer is that nobody knows, not that it does not exist.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::error::{Reason, Refusal, Rule};
use pregon_core::event::{NewEvent, Terms};
use pregon_core::id::SubscriptionName;
use pregon_store::Intake;

use super::parse::{Parsed, check_schema};
use crate::snapshot::{Configuration, Late, Snapshot, TenantEntry};

/// When to repeat what failed because the node or the store is not there yet, or nothing may be added.
const WAIT: Duration = Duration::from_secs(1);

/// Lets events in, or not.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) configuration: Configuration,
    pub(super) clock: SharedClock,
    /// Says what tenants have outstanding.
    pub(super) intake: Arc<dyn Intake>,
}

/// Why an event is not let in.
#[derive(Debug)]
enum Denied {
    /// A later snapshot would not change it.
    Final(Refusal),
    /// A later snapshot might.
    Unknown(Unknown),
}

/// What a snapshot does not have.
#[derive(Debug)]
enum Unknown {
    /// A tenant or type: what to say if it does not exist.
    Resource(Refusal),
    /// A revision.
    Revision(i64),
}

impl Admission {
    /// What the node serves.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, Refusal> {
        self.configuration.whole().map_err(|refusal| refusal.retry_after(WAIT))
    }

    /// Lets an event in; answers with the revision by which. `fresh` keeps what catching up led to,
    /// for a call of many events.
    pub(super) async fn admit(
        &self,
        snapshot: &Snapshot,
        parsed: &mut Parsed,
        fresh: &mut Option<Result<Arc<Snapshot>, Late>>,
    ) -> Result<i64, Refusal> {
        let unknown = match self.check(snapshot, parsed) {
            Ok(()) => return self.place(snapshot, parsed).await,
            Err(Denied::Final(refusal)) => return Err(refusal),
            Err(Denied::Unknown(unknown)) => unknown,
        };
        let fresh = match fresh {
            Some(fresh) => fresh,
            None => fresh.insert(self.configuration.catch_up().await),
        };
        match fresh {
            Ok(fresh) => {
                self.check(fresh, parsed).map_err(Denied::refusal)?;
                self.place(fresh, parsed).await
            }
            Err(late) => Err(unknown.nobody_knows(*late)),
        }
    }

    /// Counts an event that was checked against what its tenant may have outstanding, and notes what
    /// the tenant says of it; answers with the revision by which it is let in.
    async fn place(&self, snapshot: &Snapshot, parsed: &mut Parsed) -> Result<i64, Refusal> {
        let Some(tenant) = snapshot.tenant(&parsed.event.tenant) else {
            return Ok(snapshot.revision()); // the check found it
        };
        parsed.event.since = tenant.since;
        let id = &parsed.event.tenant;
        if !parsed.validate_only && !tenant.take_place(self.intake.outstanding(id)).await {
            let limit = tenant.limits.max_pending;
            let text = format!("limits.max_pending of {} is {limit}, and as many wait", id.name());
            let resource = Some(("tenant", id.name()));
            let refusal = Refusal { resource, ..Refusal::new(Reason::QuotaExceeded, text) };
            return Err(refusal.retry_after(WAIT));
        }
        Ok(snapshot.revision())
    }

    /// Checks an event against one snapshot, and counts it against its tenant's rate.
    fn check(&self, snapshot: &Snapshot, parsed: &Parsed) -> Result<(), Denied> {
        let event = &parsed.event;
        if event.min_revision > snapshot.revision() {
            return Err(Denied::Unknown(Unknown::Revision(event.min_revision)));
        }
        let missing =
            |kind, name| Denied::Unknown(Unknown::Resource(Refusal::not_found(kind, name)));
        let tenant =
            snapshot.tenant(&event.tenant).ok_or_else(|| missing("tenant", event.tenant.name()))?;
        let event_type = snapshot
            .event_type(&event.event_type)
            .ok_or_else(|| missing("event type", event.event_type.name()))?;
        if let Some(schema) = &event_type.schema {
            check_schema(schema, &event.data).map_err(|wrong| {
                Denied::Final(Refusal::field(parsed.data_field, wrong.rule, wrong.description))
            })?;
        }
        if let Some(terms) = &event.terms {
            check_chosen(tenant, event, terms)?;
        }
        if tenant.suspended {
            let name = event.tenant.name();
            let text = format!("{name} is suspended: nothing can be published for it");
            let mut refusal = Refusal::new(Reason::TenantSuspended, text);
            refusal.resource = Some(("tenant", name));
            return Err(Denied::Final(refusal));
        }
        if parsed.validate_only {
            return Ok(());
        }
        tenant.take_share(self.clock.now()).map_err(|wait| {
            let limit = tenant.limits.publish_per_second;
            let text = format!("limits.publish_per_second of {} is {limit}", event.tenant.name());
            Denied::Final(Refusal::new(Reason::RateLimited, text).retry_after(wait))
        })
    }
}

/// Whether the subscriptions that an event names exist.
fn check_chosen(tenant: &TenantEntry, event: &NewEvent, terms: &Terms) -> Result<(), Denied> {
    if terms.subscriptions.is_empty() {
        return Ok(());
    }
    let lanes = tenant.lanes().iter().map(|lane| &lane.name.subscription);
    let known: HashSet<_> = lanes.filter(|id| terms.subscriptions.contains(id)).collect();
    let Some(missing) = terms.subscriptions.iter().find(|id| !known.contains(id)) else {
        return Ok(());
    };
    let (tenant, subscription) = (event.tenant.clone(), missing.clone());
    let name = SubscriptionName { tenant, subscription }.to_string();
    let text = format!("{name} does not exist");
    let refusal = Refusal::field("event.subscriptions", Rule::OutOfRange, text);
    Err(Denied::Unknown(Unknown::Resource(refusal.about("subscription", name))))
}

impl Denied {
    /// What to say when the snapshot was up to date.
    fn refusal(self) -> Refusal {
        match self {
            Denied::Final(refusal) | Denied::Unknown(Unknown::Resource(refusal)) => refusal,
            Denied::Unknown(Unknown::Revision(wanted)) => {
                let text = format!("configuration revision {wanted} was never committed");
                Refusal::new(Reason::RevisionUnknown, text)
            }
        }
    }
}

impl Unknown {
    /// What to say when the node could not catch up.
    fn nobody_knows(self, late: Late) -> Refusal {
        let refusal = match self {
            Unknown::Resource(refusal) => {
                let name = refusal.resource.map_or_else(String::new, |(_, name)| name);
                let text =
                    format!("the store does not say whether {name} exists; nothing was stored");
                Refusal::new(Reason::StoreUnavailable, text)
            }
            Unknown::Revision(wanted) => {
                let served = late.served;
                let text = format!("the node serves configuration revision {served}, not {wanted}");
                Refusal::new(Reason::RevisionNotServed, text)
            }
        };
        refusal.retry_after(WAIT)
    }
}
