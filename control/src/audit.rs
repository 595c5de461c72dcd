//! AuditLogService, and the entries of calls that were let in.
//!
//! A write's entry travels with its commit ([`written`](crate::commit)), so it is there if and only
//! if the commit is. A step that is no commit of configuration, as a replay is, is written down as
//! begun before it is made and completed after it ([`Control::with_entry`]): of what was done there
//! is always an entry, and one that says DONE only of what was. A secret is shown once its entry is
//! on disk. Calls that are refused are noted by the layer around the services
//! ([`pregon_rpc::audit`]).

use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Violations};
use pregon_core::id::TenantId;
use pregon_core::model::{AuditActor, AuditEntry, AuditOutcome};
use pregon_proto::v1;
use pregon_proto::v1::audit_log_service_server::AuditLogService;
use pregon_rpc::caller::Caller;
use pregon_store::audit::{AuditId, AuditRange, AuditRecord};
use prost::Message as _;

use crate::Control;
use crate::listing::PAGE_BYTES;
use crate::service::service;
use crate::{map, parse};

pub(crate) mod entry;
pub(crate) mod shown;
mod sight;

pub(crate) use entry::Begun;
use sight::Sight;

service! {
    /// The service of the audit log.
    AuditLogs: AuditLogService {
        list_audit_entries(ListAuditEntriesRequest by caller) -> ListAuditEntriesResponse;
    }
}

/// Entries that one page looks at, at most: filters are applied while reading.
const SCAN: usize = 2000;
/// Entries that one call to the store reads: of the largest a few MiB.
const CHUNK: usize = 64;

/// Bytes of entries that one page looks at, about: those of an answer, whatever filters leave of them.
const READ_BYTES: usize = 4 << 20;

/// Which entries a request wants.
#[derive(Debug)]
struct Filter {
    actor: String,
    resource: String,
    tenant: Option<TenantId>,
    method: String,
    outcome: Option<AuditOutcome>,
}

impl Filter {
    fn wants(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let below = |wanted: &str, found: &str| {
            let rest = found.strip_prefix(wanted);
            is(wanted, found) || rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let names = || entry.changes.iter().map(|it| &it.resource).chain([&entry.resource]);
        is(&self.actor, &entry.actor.id)
            && below(&self.method, &entry.method)
            && self.outcome.is_none_or(|outcome| outcome == entry.outcome)
            && self.tenant.as_ref().is_none_or(|tenant| entry.tenants.contains(tenant))
            && names().any(|name| below(&self.resource, name))
    }
}

impl Control {
    pub(crate) async fn list_audit_entries(
        &self,
        mut request: v1::ListAuditEntriesRequest,
        caller: &Caller,
    ) -> Result<v1::ListAuditEntriesResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
        let outcome = parse::known("outcome", request.outcome, &mut wrong);
        let tenant = match request.tenant.as_str() {
            "" => None,
            name => wrong.check("tenant", parse::tenant_name(name)),
        };
        let before = paging.from.as_deref().and_then(AuditId::parse);
        wrong.finish()?;
        let filter = Filter {
            actor: request.actor,
            resource: request.resource,
            tenant,
            method: request.method,
            outcome: outcome.and_then(map::from_audit_outcome),
        };
        let mut range = AuditRange {
            since: from.unwrap_or(Timestamp::MIN),
            until: to.unwrap_or(Timestamp::MAX),
            before,
            limit: CHUNK,
        };
        let (mut audit_entries, mut bytes) = (Vec::new(), 0);
        let (mut seen, mut read_bytes) = (0, 0);
        let mut sight = Sight::of(caller);
        loop {
            let chunk = self.store.audit.entries(range.clone()).await?;
            let last = chunk.len() < CHUNK;
            let wanted = |it: &AuditEntry| filter.wants(it) && sight.reaches(it);
            let found: Vec<_> = chunk.iter().map(|it| read(it).filter(wanted)).collect();
            sight.look(self, found.iter().flatten()).await?;
            for (record, entry) in chunk.into_iter().zip(found) {
                let full = audit_entries.len() == paging.size || bytes > PAGE_BYTES;
                if full || seen == SCAN || read_bytes >= READ_BYTES {
                    let place = range.before.as_ref().map(AuditId::as_str);
                    let next_page_token = self.next_page(&paging, place);
                    return Ok(v1::ListAuditEntriesResponse { audit_entries, next_page_token });
                }
                seen += 1;
                read_bytes += record.bytes.len();
                if let Some(entry) = entry.filter(|it| sight.sees(it)) {
                    let shown = to_wire(&record, entry);
                    bytes += shown.encoded_len();
                    audit_entries.push(shown);
                }
                range.before = Some(record.id);
            }
            if last {
                let next_page_token = String::new();
                return Ok(v1::ListAuditEntriesResponse { audit_entries, next_page_token });
            }
        }
    }
}

/// What an entry says; one that cannot be read is logged and shown to nobody.
fn read(record: &AuditRecord) -> Option<AuditEntry> {
    let entry = AuditEntry::decode(&record.bytes);
    if entry.is_none() {
        tracing::error!(id = %record.id, "an entry of the audit log cannot be read");
    }
    entry
}

fn to_wire(record: &AuditRecord, entry: AuditEntry) -> v1::AuditEntry {
    let change = |it: pregon_core::model::AuditChange| v1::AuditChange {
        resource: it.resource,
        before: it.before,
        after: it.after,
        truncated: it.truncated,
    };
    v1::AuditEntry {
        name: format!("auditEntries/{}", record.id),
        time: map::moment(entry.time),
        actor: Some(actor(entry.actor)),
        peer: entry.peer,
        method: entry.method,
        resource: entry.resource,
        tenants: entry.tenants.iter().map(TenantId::name).collect(),
        outcome: map::audit_outcome(entry.outcome).into(),
        code: entry.code,
        reason: entry.reason,
        revision: record.revision,
        request_id: entry.request_id,
        trace_id: entry.trace_id,
        changes: entry.changes.into_iter().map(change).collect(),
        changes_omitted: map::count(entry.changes_omitted),
        suppressed: map::count(entry.suppressed),
    }
}

fn actor(actor: AuditActor) -> v1::AuditActor {
    let kind = map::actor_kind(actor.kind).into();
    v1::AuditActor { kind, id: actor.id, display_name: actor.display_name }
}
