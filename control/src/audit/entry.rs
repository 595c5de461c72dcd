//! What is written down of a call that was let in.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use pregon_core::error::{Reason, Refusal};
use pregon_core::id::TenantId;
use pregon_core::model::{AuditChange, AuditEntry, AuditOutcome, Resource, ResourceName};
use pregon_rpc::call::{current_trace, word};
use pregon_rpc::status::grpc_code;
use pregon_store::audit::{AuditClass, AuditId, NewAudit, WhenFull};
use pregon_store::config::{Commit, Document, Expect};

use crate::Control;
use crate::service::{self, Call};

/// Resources that an entry shows.
const CHANGES: usize = 16;
/// Bytes of what an entry shows of them: a subscription is a kibibyte, the largest contract is cut.
const CHANGES_LEN: usize = 48 * 1024;

/// An entry that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    id: AuditId,
    class: AuditClass,
    pub(crate) entry: Box<AuditEntry>,
}

impl Told {
    /// As the store takes it.
    pub(crate) fn stored(&self) -> NewAudit {
        let bytes = self.entry.encode().into();
        NewAudit { id: self.id.clone(), class: self.class, bytes }
    }

    /// Tells what is done, in the place of what was told before.
    fn does(&mut self, does: &serde_json::Value) {
        let (resource, after) = (self.entry.resource.clone(), does.to_string());
        self.entry.changes = vec![AuditChange { resource, after, ..AuditChange::default() }];
    }

    /// The id of the entry.
    pub(crate) fn id(&self) -> &str {
        self.id.as_str()
    }
}

/// What became of a commit's grounds while its entry was made.
#[derive(Debug)]
pub(crate) enum Before {
    /// They are as the commit relies on them.
    Held(Option<Told>),
    /// Somebody else wrote first.
    Changed,
}

/// A step that was written down as begun.
#[derive(Debug)]
pub(crate) struct Begun(Option<Told>);

impl Begun {
    /// Tells what was done, as a JSON object, once the step's end is written down.
    pub(crate) fn did(&mut self, did: &serde_json::Value) {
        if let Some(told) = &mut self.0 {
            told.does(did);
        }
    }
}

/// The tenant that a resource name is of.
fn tenant_of(name: &str) -> Option<TenantId> {
    let id = name.strip_prefix("tenants/")?.split('/').next()?;
    TenantId::parse(id).ok()
}

impl Control {
    /// An entry of the present call; none where the work is no call of anybody's.
    fn told(&self, outcome: AuditOutcome, resource: &str) -> Option<Told> {
        let call = service::current()?;
        let mut random = [0; 6];
        (self.random)(&mut random);
        let time = self.clock.now();
        let sequence = self.told.fetch_add(1, Ordering::Relaxed);
        let id = AuditId::new(time, sequence, random);
        let class = if call.caller.is_bound() { AuditClass::Bound } else { AuditClass::Call };
        Some(Told { id, class, entry: Box::new(entry(&call, time, outcome, resource)) })
    }

    /// The entry of a commit, with what its resources were and become.
    pub(crate) async fn of_commit(&self, commit: &Commit) -> Result<Before, Refusal> {
        let resources: Vec<_> = commit
            .write
            .iter()
            .filter_map(|(name, bytes)| Some((name, ResourceName::parse(name)?, bytes)))
            .collect();
        let first = resources.first().map_or("", |(name, ..)| name.as_str());
        let Some(mut told) = self.told(AuditOutcome::Done, first) else {
            return Ok(Before::Held(None));
        };
        told.entry.code = word(tonic::Code::Ok).to_owned();
        let names: Vec<String> =
            resources.iter().take(CHANGES).map(|(name, ..)| (*name).clone()).collect();
        let found = self.store.config.get(&names).await?;
        let relied: HashMap<_, _> = commit.expect.iter().map(|(name, it)| (name, it)).collect();
        let mut tenants: BTreeSet<_> =
            resources.iter().filter_map(|(name, ..)| tenant_of(name)).collect();
        let mut room = CHANGES_LEN;
        for ((name, parsed, after), before) in resources.iter().zip(&found) {
            let revision = before.as_ref().map(|it| it.revision);
            let holds = match relied.get(name) {
                Some(Expect::Absent) => revision.is_none(),
                Some(Expect::Revision(wanted)) => revision == Some(*wanted),
                Some(Expect::Present) | None => true,
            };
            if !holds {
                return Ok(Before::Changed);
            }
            let before = before.as_ref().and_then(|it| decoded(parsed, it));
            let after = after.as_deref().and_then(|it| Resource::decode(parsed, it).ok());
            for key in [before.as_ref().map(|(it, _)| it), after.as_ref()].into_iter().flatten() {
                if let Resource::ApiKey(key) = key {
                    tenants.extend(key.tenants.iter().flatten().cloned());
                }
            }
            let change = self.change(name, before, after);
            let Some(left) = room.checked_sub(change.before.len() + change.after.len()) else {
                break;
            };
            room = left;
            told.entry.changes.push(change);
        }
        told.entry.changes_omitted = (resources.len() - told.entry.changes.len()) as u64;
        told.entry.tenants = tenants.into_iter().collect();
        Ok(Before::Held(Some(told)))
    }

    fn change(
        &self,
        name: &str,
        before: Option<(Resource, i64)>,
        after: Option<Resource>,
    ) -> AuditChange {
        let now = self.clock.now();
        let show = |it: Option<(Resource, i64)>| match it {
            Some((resource, revision)) => (self.show)(resource, revision, now),
            None => (String::new(), false),
        };
        let (before, cut_before) = show(before);
        let (after, cut_after) = show(after.map(|after| (after, 0)));
        AuditChange { resource: name.to_owned(), before, after, truncated: cut_before || cut_after }
    }

    /// Writes down that a step is begun which is no commit.
    pub(crate) async fn begin_step(
        &self,
        resource: &str,
        full: WhenFull,
    ) -> Result<Begun, Refusal> {
        self.begin_step_that(resource, full, None).await
    }

    /// The same, of a step of which there is something to tell, as a JSON object.
    pub(crate) async fn begin_step_that(
        &self,
        resource: &str,
        full: WhenFull,
        does: Option<serde_json::Value>,
    ) -> Result<Begun, Refusal> {
        let mut told = self.told(AuditOutcome::Unknown, resource);
        if let (Some(told), Some(does)) = (&mut told, does) {
            told.does(&does);
        }
        if let Some(told) = &told {
            self.store.audit.record(&[told.stored()], full).await?;
        }
        Ok(Begun(told))
    }

    /// Writes down how such a step ended. Where that cannot be written, the entry says that its end is not
    /// known.
    pub(crate) async fn end_step<T>(&self, begun: Begun, ended: &Result<T, Refusal>) {
        let Some(mut told) = begun.0 else { return };
        match ended {
            Ok(_) => {
                told.entry.outcome = AuditOutcome::Done;
                told.entry.code = word(tonic::Code::Ok).to_owned();
            }
            Err(refusal) => {
                let unsure = [Reason::StoreUnavailable, Reason::Internal].contains(&refusal.reason);
                told.entry.outcome =
                    if unsure { AuditOutcome::Unknown } else { AuditOutcome::Failed };
                told.entry.code = word(grpc_code(refusal.code())).to_owned();
                refusal.reason.word().clone_into(&mut told.entry.reason);
            }
        }
        self.telemetry.audited(told.id(), 0, &told.entry);
        if let Err(error) = self.store.audit.record(&[told.stored()], WhenFull::Written).await {
            tracing::warn!(id = told.id(), %error, "the end of a call is not in the audit log");
        }
    }

    /// Makes a step that is no commit of configuration, with its entry.
    pub(crate) async fn with_entry<T>(
        &self,
        resource: &str,
        full: WhenFull,
        step: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let begun = self.begin_step(resource, full).await?;
        let ended = step.await;
        self.end_step(begun, &ended).await;
        ended
    }

    /// Writes down that the present call is about to be shown a secret.
    pub(crate) async fn revealed(&self, resource: &str) -> Result<(), Refusal> {
        self.handed_over(resource, Vec::new()).await
    }

    /// Writes down that the present call is about to be given a credential, and as JSON what that may do.
    pub(crate) async fn lent(&self, resource: &str, lent: String) -> Result<(), Refusal> {
        let resource_name = resource.to_owned();
        let change = AuditChange { resource: resource_name, after: lent, ..AuditChange::default() };
        self.handed_over(resource, vec![change]).await
    }

    async fn handed_over(&self, resource: &str, changes: Vec<AuditChange>) -> Result<(), Refusal> {
        let Some(mut told) = self.told(AuditOutcome::Done, resource) else { return Ok(()) };
        told.entry.code = word(tonic::Code::Ok).to_owned();
        told.entry.changes = changes;
        self.store.audit.record(&[told.stored()], WhenFull::Refused).await?;
        self.telemetry.audited(told.id(), 0, &told.entry);
        Ok(())
    }
}

fn decoded(name: &ResourceName, document: &Document) -> Option<(Resource, i64)> {
    Some((Resource::decode(name, &document.bytes).ok()?, document.revision))
}

fn entry(
    call: &Call,
    time: pregon_core::clock::Timestamp,
    outcome: AuditOutcome,
    resource: &str,
) -> AuditEntry {
    AuditEntry {
        time,
        actor: call.caller.audited(),
        peer: call.origin.peer().map(|peer| peer.to_string()).unwrap_or_default(),
        method: call.method(),
        resource: resource.to_owned(),
        tenants: tenant_of(resource).into_iter().collect(),
        outcome,
        code: String::new(),
        reason: String::new(),
        request_id: call.request_id.get().cloned().unwrap_or_default(),
        trace_id: current_trace().map(|it| it.trace.to_string()).unwrap_or_default(),
        changes: Vec::new(),
        changes_omitted: 0,
        suppressed: 0,
    }
}
