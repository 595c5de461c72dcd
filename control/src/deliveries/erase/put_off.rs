//! What is to be erased, as it is written down before anything is.
//!
//! A document lists events: those that are still to be erased, and those that are. It is there
//! before the first tombstone is, so that whatever cuts a call off, a control plane finishes what it
//! began. Where the lease of an attempt was lost, its answer may come after the erasing; so the
//! document stays until none can come any more, and what came is taken away then.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::event::Erasure;
use pregon_core::id::Position;
use pregon_core::outcome::{DeliveryState, EndReason};
use pregon_store::config::{Document, ListRange};
use pregon_store::erase::EventErased;
use pregon_store::log::DeliveryQuery;
use pregon_store::operate::STEP_MAX;
use serde::{Deserialize, Serialize};

use crate::Control;
use crate::commit::Plan;

/// Where the documents lie.
const COLLECTION: &str = "eventErasures";
/// Documents that one look takes; the next takes the next ones.
const AT_ONCE: usize = 100;
/// Times that a document is looked for which others write and delete.
const TRIES: usize = 10;
/// How long after an erasing the answer to an attempt may come whose lease was lost: longer than a
/// lease (20 s) and the longest timeout (30 s) together.
const LATE: Duration = Duration::from_secs(60);

/// How far an erasing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// To its end.
    Done,
    /// Something of the event is under way.
    PutOff,
    /// There is no such event.
    Gone,
}

/// An event's position: its time, its partition and its number.
type Place = (u64, u16, u64);

fn place(position: &Position) -> Place {
    (position.ms, position.partition, position.n)
}

/// The document's contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    erasure: Erasure,
    /// Events that are still to be erased.
    open: Vec<Place>,
    /// Events that are erased.
    done: Vec<Place>,
    /// In milliseconds: from when on no answer to an attempt of those comes any more.
    last: i64,
}

/// Events that are to be erased, as they are written down.
#[derive(Debug)]
pub(super) struct Intent {
    name: String,
    revision: i64,
    listed: Listed,
}

/// What became of the events of an intent.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Events that were erased.
    pub(super) erased: u64,
    /// Events that are erased later: something of them is under way, or it failed.
    pub(super) pending: u64,
}

impl Intent {
    fn read(document: &Document) -> Result<Self, Refusal> {
        let name = document.name.clone();
        let listed = serde_json::from_slice(&document.bytes).map_err(|error| {
            tracing::error!(name, %error, "a stored document cannot be read");
            Refusal::new(Reason::Internal, format!("{name} cannot be read"))
        })?;
        Ok(Self { name, revision: document.revision, listed })
    }

    /// Why its events are erased.
    pub(super) fn erasure(&self) -> &Erasure {
        &self.listed.erasure
    }

    /// Whether an event of it is still to be erased.
    pub(super) fn is_open(&self, position: Position) -> bool {
        self.listed.open.contains(&place(&position))
    }

    /// A plan that leaves the document as it is to be now.
    fn plan(&self) -> Plan {
        let plan = Plan::new().relies_on(self.name.clone(), Some(self.revision));
        match self.listed.open.is_empty() && self.listed.done.is_empty() {
            true => plan.delete(self.name.clone()),
            false => plan.write(self.name.clone(), bytes(&self.listed)),
        }
    }
}

fn bytes(listed: &Listed) -> Vec<u8> {
    // A struct of numbers and texts cannot fail to be written.
    serde_json::to_vec(listed).unwrap_or_default()
}

impl Control {
    /// Writes down that events are to be erased. An event by itself that is written down already
    /// stays so, with the first reason.
    pub(super) async fn intend(
        &self,
        positions: &[Position],
        why: &Erasure,
    ) -> Result<Intent, Refusal> {
        let name = match positions {
            [one] => format!("{COLLECTION}/{one}"),
            _ => format!("{COLLECTION}/{}", self.assign("many-")),
        };
        let open = positions.iter().map(place).collect();
        let listed = Listed { erasure: why.clone(), open, done: Vec::new(), last: 0 };
        for _ in 0..TRIES {
            let plan =
                Plan::new().relies_on(name.clone(), None).write(name.clone(), bytes(&listed));
            if let Some(revision) = self.note(plan).await? {
                return Ok(Intent { name, revision, listed });
            }
            let found = self.store.config.get(std::slice::from_ref(&name)).await?.pop().flatten();
            if let Some(found) = found {
                return Intent::read(&found);
            }
        }
        let text = "others are erasing the event just now; call again";
        Err(Refusal::new(Reason::StateConflict, text).retry_after(Duration::from_secs(1)))
    }

    /// Erases what an intent lists as far as nothing of it is under way, and writes down how far it
    /// got. One event that cannot be erased keeps back no other, and is tried again with those of
    /// which something is under way.
    ///
    /// Answers what became of the events, and why the last of those that failed did.
    pub(super) async fn carry_out(&self, mut intent: Intent) -> (Sums, Option<Refusal>) {
        let (mut sums, mut failed) = (Sums::default(), None);
        let open = std::mem::take(&mut intent.listed.open);
        let before = open.len();
        for at in open {
            match self.erase_listed(at, &intent, &mut failed).await {
                Some(Got::Done) => {
                    sums.erased += 1;
                    intent.listed.done.push(at);
                }
                Some(Got::Gone) => {}
                Some(Got::PutOff) | None => {
                    sums.pending += 1;
                    intent.listed.open.push(at);
                }
            }
        }
        if intent.listed.open.len() < before {
            intent.listed.last = self.clock.now().plus(LATE).millis();
            if let Err(refusal) = self.note(intent.plan()).await {
                tracing::warn!(name = intent.name, %refusal, "an erasing will be done again");
            }
        }
        (sums, failed)
    }

    /// Erases one of an intent's events; none: it failed. Where the store is away, the others are
    /// not tried.
    async fn erase_listed(
        &self,
        (ms, partition, n): Place,
        intent: &Intent,
        failed: &mut Option<Refusal>,
    ) -> Option<Got> {
        if failed.as_ref().is_some_and(|it| it.reason == Reason::StoreUnavailable) {
            return None;
        }
        let position = Position { ms, partition, n };
        match self.erase_now(position, intent.erasure()).await {
            Ok(got) => Some(got),
            Err(refusal) => {
                tracing::warn!(%position, %refusal, "an event is not erased yet");
                *failed = Some(refusal);
                None
            }
        }
    }

    /// Takes away what attempts of erased events left since, once no more can come, and forgets the
    /// events then.
    async fn take_late(&self, mut intent: Intent) -> Result<(), Refusal> {
        if self.clock.now() < Timestamp::from_millis(intent.listed.last) {
            return Ok(());
        }
        let (mut failed, before) = (None, intent.listed.done.len());
        for at in std::mem::take(&mut intent.listed.done) {
            match self.erase_listed(at, &intent, &mut failed).await {
                Some(Got::Done | Got::Gone) => {}
                Some(Got::PutOff) | None => intent.listed.done.push(at),
            }
        }
        // Each write is a revision that everybody follows.
        if intent.listed.done.len() < before {
            self.note(intent.plan()).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Erases an event, as far as nothing of it is under way.
    pub(super) async fn erase_now(
        &self,
        position: Position,
        why: &Erasure,
    ) -> Result<Got, Refusal> {
        let state = Some(DeliveryState::Pending);
        let query = DeliveryQuery { event: Some(position), state, ..DeliveryQuery::default() };
        let mut place = None;
        loop {
            let log = &self.store.log;
            let page = log.deliveries(&query, place.as_deref(), STEP_MAX).await?;
            for record in &page.items {
                self.store.operate.cancel(record.key, EndReason::Erased).await?;
            }
            place = page.next;
            if place.is_none() {
                break;
            }
        }
        // One whose time has not come has no deliveries yet, and is to have none.
        self.store.operate.cancel_event(position).await?;
        match self.store.operate.erase_event(position, why).await? {
            EventErased::Unknown => return Ok(Got::Gone),
            EventErased::Open => return Ok(Got::PutOff),
            EventErased::Done => {}
        }
        let (mut from, mut left) = (0, 0);
        loop {
            let step = self.store.operate.strip_attempts(position, from).await?;
            left += step.left;
            let Some(next) = step.next else { break };
            from = next;
        }
        Ok(if left > 0 { Got::PutOff } else { Got::Done })
    }

    /// Goes on with what is written down, behind `after` or again from the first. A document that
    /// makes trouble keeps back no other.
    ///
    /// # Errors
    ///
    /// The documents cannot be listed.
    pub async fn erase_put_off(&self, after: &mut String) -> Result<(), Refusal> {
        let range = ListRange {
            collections: COLLECTION,
            prefix: format!("{COLLECTION}/"),
            after: std::mem::take(after),
            limit: AT_ONCE,
        };
        let found = self.store.config.list(range).await?;
        for document in &found {
            let Ok(intent) = Intent::read(document) else { continue };
            let done = match intent.listed.open.is_empty() {
                true => self.take_late(intent).await,
                false => self.carry_out(intent).await.1.map_or(Ok(()), Err),
            };
            if let Err(refusal) = done {
                tracing::warn!(name = document.name, %refusal, "an erasing has to wait");
            }
        }
        if found.len() == AT_ONCE {
            *after = found.last().map(|last| last.name.clone()).unwrap_or_default();
        }
        Ok(())
    }
}
