//! What deleted tenants left behind, and its erasing.
//!
//! The commit that deletes a tenant writes `erasures/{tenant}`: a tenant of that name is gone, and
//! its events, deliveries and attempts are still to be erased. The document is there until that is
//! done, so a control plane that dies leaves the rest to the next one, or to itself when it is
//! back. Any number may be at it, for a step may be repeated.
//!
//! While no tenant of that name exists, all that was accepted for it is erased. Whoever creates one
//! again writes into the document, in the same commit, that only what was accepted before the new
//! one is to go. A pass takes the time, and then reads the document before each of its steps: a
//! tenant that is created after that read accepts nothing older than that time.
//!
//! A pass walks everything in small steps, with pauses that are longer than the steps. The erasing
//! ends with a pass that left nothing, begun when every node served the deletion: until then one of
//! them may have accepted an event.

use std::time::{Duration, Instant};

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::TenantId;
use pregon_store::config::ListRange;
use pregon_store::erase::{Erase, ErasePlace};
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::commit::Plan;

/// Where the documents lie.
const COLLECTION: &str = "erasures";
/// How often is looked for documents.
const EVERY: Duration = Duration::from_secs(2);
/// Documents that one look takes; the next takes the next ones.
const AT_ONCE: usize = 100;
/// A pause between two steps is so many times as long as the step: others have four fifths.
const PAUSES: u32 = 4;
/// The shortest and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The document's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    /// In milliseconds: only what was accepted before this, for since then there is another tenant
    /// of the name.
    before: Option<i64>,
}

/// What a tenant's name left behind, as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    document: Document,
    revision: i64,
}

fn name(tenant: &TenantId) -> String {
    format!("{COLLECTION}/{tenant}")
}

fn write(plan: Plan, tenant: &TenantId, document: Document) -> Plan {
    // A struct of numbers cannot fail to be written.
    plan.write(name(tenant), serde_json::to_vec(&document).unwrap_or_default())
}

/// Adds to a plan that deletes a tenant that what it left is to be erased.
pub(crate) fn left(plan: Plan, tenant: &TenantId) -> Plan {
    write(plan, tenant, Document { before: None })
}

/// Adds to a plan that creates a tenant that what is accepted for it from `since` on stays.
pub(crate) fn spare(
    plan: Plan,
    tenant: &TenantId,
    remains: Option<Remains>,
    since: Option<Timestamp>,
) -> Plan {
    let plan = plan.relies_on(name(tenant), remains.map(|it| it.revision));
    match (remains, since) {
        (Some(_), Some(since)) => write(plan, tenant, Document { before: Some(since.millis()) }),
        (Some(_), None) | (None, _) => plan,
    }
}

fn said(done: Result<(), Refusal>) {
    if let Err(refusal) = done {
        tracing::warn!(%refusal, "what is to be erased is not yet");
    }
}

impl Control {
    /// What is still to be erased of a tenant's name.
    pub(crate) async fn remains(&self, tenant: &TenantId) -> Result<Option<Remains>, Refusal> {
        let name = name(tenant);
        let found = self.store.config.get(std::slice::from_ref(&name)).await?.pop().flatten();
        let Some(found) = found else { return Ok(None) };
        let document = serde_json::from_slice(&found.bytes).map_err(|error| {
            tracing::error!(name, %error, "a stored document cannot be read");
            Refusal::new(Reason::Internal, format!("{name} cannot be read"))
        })?;
        Ok(Some(Remains { document, revision: found.revision }))
    }

    /// Erases what deleted tenants left, and events of which something was under way, until the
    /// server is to end. Neither waits for the other. A store that does not answer is asked again.
    pub async fn erase(&self) {
        let (mut after, mut behind) = (String::new(), String::new());
        let tenants = async {
            loop {
                said(self.erase_remains(&mut after).await);
                tokio::time::sleep(EVERY).await;
            }
        };
        let events = async {
            loop {
                said(self.erase_put_off(&mut behind).await);
                // A look that found as many as it takes is followed by the next at once.
                let pause = if behind.is_empty() { EVERY } else { PAUSE.0 };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = tenants => {}
            () = events => {}
        }
    }

    /// One pass for each of the names behind `after`, or again from the first.
    pub async fn erase_remains(&self, after: &mut String) -> Result<(), Refusal> {
        let prefix = format!("{COLLECTION}/");
        let range = ListRange {
            collections: COLLECTION,
            prefix: prefix.clone(),
            after: std::mem::take(after),
            limit: AT_ONCE,
        };
        let found = self.store.config.list(range).await?;
        for document in &found {
            let id = document.name.strip_prefix(&prefix).unwrap_or_default();
            let Ok(tenant) = TenantId::parse(id) else { continue };
            // One that makes trouble keeps back no other.
            if let Err(refusal) = self.erase_tenant(&tenant).await {
                tracing::warn!(%tenant, %refusal, "what a deleted tenant left has to wait");
            }
        }
        if found.len() == AT_ONCE {
            *after = found.last().map(|last| last.name.clone()).unwrap_or_default();
        }
        Ok(())
    }

    /// A pass over all that a name left, and the end of the erasing if nothing stayed.
    async fn erase_tenant(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let Some(first) = self.remains(tenant).await? else { return Ok(()) };
        let served = self.all_serve(first.revision).await?;
        let moment = self.store.operate.now().await?;
        let (mut place, mut left, mut erased) = (ErasePlace::default(), 0, 0);
        loop {
            match self.remains(tenant).await? {
                Some(now) if now.revision == first.revision => {}
                // Created again or deleted again: the next pass knows.
                Some(_) | None => return Ok(()),
            }
            let before = first.document.before.map_or(moment, Timestamp::from_millis);
            let begun = Instant::now();
            let erase = Erase { tenant: tenant.clone(), before };
            let step = self.store.operate.erase(&erase, place).await?;
            (left, erased) = (left + step.left, erased + step.erased);
            let Some(next) = step.next else { break };
            place = next;
            tokio::time::sleep((begun.elapsed() * PAUSES).clamp(PAUSE.0, PAUSE.1)).await;
        }
        if left > 0 || !served {
            tracing::debug!(%tenant, erased, left, "some of what a tenant left stays for a while");
            return Ok(());
        }
        let mut plan = Plan::new().remove(name(tenant), first.revision);
        if first.document.before.is_none() {
            plan = self.without_lanes(tenant, plan).await?;
        }
        if self.note(plan).await?.is_some() {
            tracing::info!(%tenant, "what a deleted tenant left is erased");
        }
        Ok(())
    }

    /// Whether every node that is there serves a revision.
    async fn all_serve(&self, revision: i64) -> Result<bool, Refusal> {
        let (nodes, now) = self.store.nodes.nodes().await?;
        let alive = nodes.iter().filter(|node| node.is_node() && node.is_alive(now));
        Ok(alive.into_iter().all(|node| node.served_revision >= revision))
    }
}
