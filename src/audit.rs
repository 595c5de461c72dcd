//! Writes calls that are refused into the audit log, whichever plane refuses them.
//!
//! While the store does not answer, entries wait: a bounded number of them, and what comes beyond is
//! counted in one. At the end of the process what is left is written, for a few seconds at most.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::model::{ActorKind, AuditActor, AuditChange, AuditEntry, AuditOutcome};
use pregon_rpc::audit::Refusals;
use pregon_store::audit::{AuditClass, AuditId, NewAudit, WhenFull};
use pregon_store::{AuditLog, StoreError};
use pregon_telemetry::Telemetry;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How soon a store that failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the last entries may take.
const LAST: Duration = Duration::from_secs(3);
/// Entries in one call to the store: some 100 KiB.
const AT_ONCE: usize = 200;

/// Who writes refused calls down.
pub struct Auditing {
    refusals: Refusals,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Auditing {
    /// Begins to write into a log.
    pub fn start(log: Arc<dyn AuditLog>, clock: &SharedClock, telemetry: Telemetry) -> Self {
        let refusals = Refusals::new(Arc::clone(clock));
        let stop = CancellationToken::new();
        let writer = Writer { log, telemetry, waiting: Vec::new(), told: 0 };
        let task = tokio::spawn(writer.run(refusals.clone(), stop.clone()));
        Self { refusals, stop, task }
    }

    /// Where servers note what they refuse.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Writes what is left, once no server refuses anything any more.
    pub async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the audit log's writer ended badly");
        }
    }
}

struct Writer {
    log: Arc<dyn AuditLog>,
    telemetry: Telemetry,
    waiting: Vec<NewAudit>,
    /// Entries so far.
    told: u32,
}

impl Writer {
    async fn run(mut self, refusals: Refusals, stop: CancellationToken) {
        loop {
            let idle = self.waiting.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                more = refusals.next(), if idle => self.take(more),
                () = sleep(AGAIN), if !idle => {}
            }
            if let Err(error) = self.write().await {
                let entries = self.waiting.len();
                tracing::warn!(%error, entries, "refused calls are not in the audit log yet");
            }
        }
        self.take(refusals.rest());
        if !matches!(timeout(LAST, self.write()).await, Ok(Ok(()))) {
            let entries = self.waiting.len();
            tracing::error!(entries, "the last refused calls are not in the audit log");
        }
    }

    /// Tells of entries, and keeps them until they are written.
    fn take(&mut self, entries: Vec<AuditEntry>) {
        for entry in entries {
            let id = id(entry.time, self.told);
            self.told = self.told.wrapping_add(1);
            self.telemetry.audited(id.as_str(), 0, &entry);
            let bytes = entry.encode().into();
            self.waiting.push(NewAudit { id, class: AuditClass::Refusal, bytes });
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        while !self.waiting.is_empty() {
            let many = self.waiting.len().min(AT_ONCE);
            self.log.record(&self.waiting[..many], WhenFull::Refused).await?;
            self.waiting.drain(..many);
        }
        Ok(())
    }
}

/// An entry of a resource that the process makes by itself, without a call, under this name.
pub fn own(time: Timestamp, actor: &str, resource: &str) -> NewAudit {
    let entry = AuditEntry {
        time,
        actor: AuditActor {
            kind: ActorKind::None,
            id: actor.to_owned(),
            display_name: String::new(),
        },
        peer: String::new(),
        method: String::new(),
        resource: resource.to_owned(),
        tenants: Vec::new(),
        outcome: AuditOutcome::Done,
        code: "OK".to_owned(),
        reason: String::new(),
        request_id: String::new(),
        trace_id: String::new(),
        changes: vec![AuditChange { resource: resource.to_owned(), ..AuditChange::default() }],
        changes_omitted: 0,
        suppressed: 0,
    };
    NewAudit { id: id(time, 0), class: AuditClass::Call, bytes: entry.encode().into() }
}

fn id(time: Timestamp, sequence: u32) -> AuditId {
    let mut random = [0; 6];
    crate::random::fill(&mut random);
    AuditId::new(time, sequence, random)
}
