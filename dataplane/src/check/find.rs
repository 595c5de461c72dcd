//! The callback that is asked, as the node serves it.
//!
//! What a snapshot does not know may have been created a moment ago. So before a callback or a
//! revision is said not to exist, the node catches up with the store once; where that fails, the
//! answer is that nobody knows, not that it does not exist.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::error::{Reason, Refusal};
use pregon_core::model::CallbackState;

use super::parse::Question;
use crate::snapshot::{CallbackEntry, Configuration, Snapshot, TenantEntry};

/// When to repeat what failed because the node or the store is not there yet.
const WAIT: Duration = Duration::from_secs(1);

/// A callback that may be asked, and whose it is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tenant: Arc<TenantEntry>,
    pub(super) callback: Arc<CallbackEntry>,
}

/// What a snapshot does not have.
enum Missing {
    Callback,
    Revision,
}

/// Finds the callback, unless it may not be asked.
pub(super) async fn find(
    configuration: &Configuration,
    question: &Question,
) -> Result<Found, Refusal> {
    let snapshot = configuration.whole().map_err(|refusal| refusal.retry_after(WAIT))?;
    let missing = match look(&snapshot, question) {
        Ok(found) => return permitted(found),
        Err(missing) => missing,
    };
    let Ok(fresh) = configuration.catch_up().await else {
        return Err(nobody_knows(&missing, question, configuration).retry_after(WAIT));
    };
    look(&fresh, question).map_err(|missing| not_there(&missing, question)).and_then(permitted)
}

fn look(snapshot: &Snapshot, question: &Question) -> Result<Found, Missing> {
    if question.min_revision > snapshot.revision() {
        return Err(Missing::Revision);
    }
    let tenant = snapshot.tenant(&question.callback.tenant);
    let found = tenant.zip(snapshot.callback(&question.callback));
    let (tenant, callback) = found.ok_or(Missing::Callback)?;
    Ok(Found { tenant: Arc::clone(tenant), callback: Arc::clone(callback) })
}

fn permitted(found: Found) -> Result<Found, Refusal> {
    if found.tenant.suspended {
        let name = found.tenant.id.name();
        let text = format!("{name} is suspended: none of its callbacks is asked");
        let mut refusal = Refusal::new(Reason::TenantSuspended, text);
        refusal.resource = Some(("tenant", name));
        return Err(refusal);
    }
    match found.callback.state {
        CallbackState::Active => Ok(found),
        CallbackState::Paused => {
            let name = found.callback.name.to_string();
            let mut refusal = Refusal::new(Reason::StateConflict, format!("{name} is paused"));
            refusal.resource = Some(("callback", name));
            Err(refusal)
        }
    }
}

fn not_there(missing: &Missing, question: &Question) -> Refusal {
    match missing {
        Missing::Callback => Refusal::not_found("callback", question.callback.to_string()),
        Missing::Revision => {
            let wanted = question.min_revision;
            let text = format!("configuration revision {wanted} was never committed");
            Refusal::new(Reason::RevisionUnknown, text)
        }
    }
}

fn nobody_knows(missing: &Missing, question: &Question, configuration: &Configuration) -> Refusal {
    match missing {
        Missing::Callback => {
            let name = &question.callback;
            let text = format!("the store does not say whether {name} exists");
            Refusal::new(Reason::StoreUnavailable, text)
        }
        Missing::Revision => {
            let (served, wanted) = (configuration.served_revision(), question.min_revision);
            let text = format!("the node serves configuration revision {served}, not {wanted}");
            Refusal::new(Reason::RevisionNotServed, text)
        }
    }
}
