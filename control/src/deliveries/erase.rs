//! EraseEvent and EraseEvents: what was published goes, and a tombstone stays.
//!
//! An event is erased in three steps, each of which may be repeated: what is pending of it is called
//! off, a tombstone takes its place, and its attempts lose what was answered. A delivery that is
//! being attempted ends as it does, and an event that is not matched yet is matched first; until
//! then the event stays as it is. So that nobody has to come back for it, a document
//! `eventErasures/{position}` says what is to be erased: any control plane goes on with it, also
//! after a restart, until it is done.
//!
//! A run over many events walks all of a tenant's, a bounded step at a time, with a pause as long as
//! the step.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::event::{Erasure, Event};
use pregon_core::id::{EventName, Position};
use pregon_core::outcome::{DeliveryState, EndReason};
use pregon_core::redact::{SensitivePath, SensitiveRoot, holds};
use pregon_proto::v1;
use pregon_rpc::page;
use pregon_store::audit::WhenFull;
use pregon_store::config::{Committed, ListRange};
use pregon_store::erase::EventErased;
use pregon_store::log::{DeliveryQuery, EventQuery, Most};
use pregon_store::operate::STEP_MAX;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Scope, show};
use crate::audit::Begun;
use crate::commit::Plan;
use crate::listing::PAGE_BYTES;
use crate::service::draining;
use crate::{Control, map, parse, repeat};

/// The stream of answers of a run.
pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<v1::EraseEventsResponse, tonic::Status>> + Send>>;

/// Where the documents lie.
const COLLECTION: &str = "eventErasures";
/// Documents that one look takes; the next takes the next ones.
const AT_ONCE: usize = 100;
/// Events that one step of a run looks at.
const STEP: usize = 100;
/// Events of one run that may be put off: each is a document.
const PUT_OFF: i64 = 1000;
/// Characters of the value that is looked for.
const VALUE_LEN: usize = 1024;
/// The shortest and the longest pause between two steps.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The document's contents: an event that is to be erased.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PutOff {
    ms: u64,
    partition: u16,
    n: u64,
    erasure: Erasure,
}

/// How far an erasing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// To its end.
    Done,
    /// Something of the event is under way.
    PutOff,
    /// There is no such event.
    Gone,
}

fn document(position: Position) -> String {
    format!("{COLLECTION}/{position}")
}

impl Control {
    pub(crate) async fn erase_event(
        &self,
        request: v1::EraseEventRequest,
    ) -> Result<v1::EraseEventResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", EventName::parse(&request.name));
        let reason = wrong.check("reason", parse::erasure_reason(&request.reason));
        let (name, reason) = parse::done(wrong, name.zip(reason))?;
        let (event, _) = self.event(&name).await?;
        if request.validate_only {
            let event = Some(show::event(self.redacted(event).await?));
            return Ok(v1::EraseEventResponse { event, pending: false });
        }
        // Once more, it takes what an attempt may have left since, and the first reason stays.
        let now = self.clock.now();
        let erasure = event.erased.clone().unwrap_or(Erasure { time: now, reason });
        let erased = self.erase_or_put_off(event.position, &erasure);
        // It makes room, so it passes where there is none.
        let got = self.with_entry(&name.to_string(), WhenFull::Written, erased).await?;
        let (event, _) = self.event(&name).await?;
        let event = Some(show::event(self.redacted(event).await?));
        Ok(v1::EraseEventResponse { event, pending: got == Got::PutOff })
    }

    /// Erases an event, or leaves a document that says so.
    async fn erase_or_put_off(&self, position: Position, why: &Erasure) -> Result<Got, Refusal> {
        let got = self.erase_now(position, why).await?;
        if got == Got::PutOff {
            let Position { ms, partition, n } = position;
            let put_off = PutOff { ms, partition, n, erasure: why.clone() };
            // A struct of numbers and texts cannot fail to be written.
            let bytes = serde_json::to_vec(&put_off).unwrap_or_default();
            self.note(Plan::new().write(document(position), bytes)).await?;
        }
        Ok(got)
    }

    /// Commits what is no call's own.
    async fn note(&self, plan: Plan) -> Result<(), Refusal> {
        if let Committed::Done { revision } = self.store.config.commit(plan.into_commit()).await? {
            self.heads.saw(revision, self.clock.now());
        }
        Ok(())
    }

    /// Erases an event, as far as nothing of it is under way.
    async fn erase_now(&self, position: Position, why: &Erasure) -> Result<Got, Refusal> {
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

    /// Goes on with events that were put off, behind `after` or again from the first.
    pub async fn erase_put_off(&self, after: &mut String) -> Result<(), Refusal> {
        let range = ListRange {
            collections: COLLECTION,
            prefix: format!("{COLLECTION}/"),
            after: std::mem::take(after),
            limit: AT_ONCE,
        };
        let found = self.store.config.list(range).await?;
        for document in &found {
            let put_off: PutOff = match serde_json::from_slice(&document.bytes) {
                Ok(put_off) => put_off,
                Err(error) => {
                    tracing::error!(name = document.name, %error, "a document cannot be read");
                    continue;
                }
            };
            let PutOff { ms, partition, n, erasure } = put_off;
            match self.erase_now(Position { ms, partition, n }, &erasure).await? {
                Got::PutOff => {}
                Got::Done | Got::Gone => {
                    self.note(Plan::new().delete(document.name.clone())).await?;
                }
            }
        }
        if found.len() == AT_ONCE {
            *after = found.last().map(|last| last.name.clone()).unwrap_or_default();
        }
        Ok(())
    }
}

/// Where a value is looked for.
#[derive(Debug)]
enum At {
    Attribute(String),
    Path(SensitivePath),
}

impl At {
    fn parse(
        place: Option<&v1::erase_events_request::Place>,
        wrong: &mut Violations,
    ) -> Option<Self> {
        use v1::erase_events_request::Place;
        match place {
            Some(Place::Attribute(key)) if key.is_empty() => {
                wrong.add("attribute", Rule::Required, "must be the key of an attribute");
                None
            }
            Some(Place::Attribute(key)) => Some(Self::Attribute(key.clone())),
            Some(Place::DataPath(path)) => {
                let parsed = SensitivePath::parse(path).and_then(|path| match path.root() {
                    SensitiveRoot::Event => Ok(path),
                    SensitiveRoot::Check => {
                        Err(Wrong::new(Rule::Malformed, "must begin with event.data"))
                    }
                });
                wrong.check("data_path", parsed).map(Self::Path)
            }
            None => {
                wrong.add("attribute", Rule::Required, "attribute or data_path must be set");
                None
            }
        }
    }

    /// Whether an event has a value there.
    fn finds(&self, event: &Event, value: &str) -> bool {
        event.erased.is_none()
            && match self {
                At::Attribute(key) => event.attributes.get(key).is_some_and(|it| it == value),
                At::Path(path) => holds(&event.data, path, value),
            }
    }
}

fn value(given: &str) -> Result<String, Wrong> {
    match given.chars().count() {
        0 => Err(Wrong::new(Rule::Required, "must be set")),
        1..=VALUE_LEN => Ok(given.to_owned()),
        _ => Err(Wrong::new(Rule::TooLong, format!("must have {VALUE_LEN} characters at most"))),
    }
}

/// A run over many events.
struct Run {
    control: Arc<Control>,
    query: EventQuery,
    at: At,
    value: String,
    erasure: Erasure,
    scope: [u8; 32],
    place: Option<String>,
    next_step: Instant,
    validate_only: bool,
    /// Its entry in the audit log, until its end is written there.
    begun: Option<Begun>,
    ended: bool,
    sums: v1::EraseEventsResponse,
}

/// Parses a request and begins its run.
pub(super) async fn begin(
    control: Arc<Control>,
    mut request: v1::EraseEventsRequest,
) -> Result<Answers, Refusal> {
    let mut wrong = Violations::new();
    let cursor = std::mem::take(&mut request.cursor);
    let scope = page::scope("EraseEvents", [repeat::content(&request).as_slice()]);
    let opened = control.page_key.open(&scope, &cursor, control.clock.now());
    let place = wrong.check("cursor", opened).flatten();
    let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
    let reason = wrong.check("reason", parse::erasure_reason(&request.reason));
    let at = At::parse(request.place.as_ref(), &mut wrong);
    let value = wrong.check("value", value(&request.value));
    let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
    let parsed = tenant.zip(reason).zip(at.zip(value));
    let ((tenant, reason), (at, value)) = parse::done(wrong, parsed)?;
    let since = control.check_scope(&Scope::Tenant(tenant.clone())).await?;
    let begun = match request.validate_only {
        true => None,
        false => Some(control.begin_step(&tenant.name(), WhenFull::Written).await?),
    };
    let run = Run {
        query: EventQuery {
            tenant: Some(tenant),
            from: from.max(since),
            to,
            ..EventQuery::default()
        },
        at,
        value,
        erasure: Erasure { time: control.clock.now(), reason },
        scope,
        place,
        next_step: Instant::now(),
        validate_only: request.validate_only,
        begun,
        ended: false,
        sums: v1::EraseEventsResponse::default(),
        control,
    };
    Ok(Box::pin(try_unfold(run, |mut run| async move {
        if run.ended {
            return Ok(None);
        }
        let answer = run.step().await;
        if (run.ended || answer.is_err())
            && let Some(begun) = run.begun.take()
        {
            run.control.end_step(begun, &answer).await;
        }
        Ok(Some((answer.map_err(pregon_rpc::status::status)?, run)))
    })))
}

impl Run {
    /// One stretch of the tenant's events.
    async fn step(&mut self) -> Result<v1::EraseEventsResponse, Refusal> {
        let control = Arc::clone(&self.control);
        tokio::select! {
            biased;
            () = control.drain.cancelled() => return Err(draining()),
            () = tokio::time::sleep_until(self.next_step) => {}
        }
        if self.sums.pending >= PUT_OFF {
            let text = format!("{PUT_OFF} events are still to be erased; go on with the cursor");
            return Err(Refusal::new(Reason::LoadShed, text).retry_after(Duration::from_secs(10)));
        }
        let begun = Instant::now();
        let most = Most { items: STEP, bytes: PAGE_BYTES };
        let page = control.store.log.events(&self.query, self.place.as_deref(), most).await?;
        self.sums.seen += map::count(page.items.len() as u64);
        for event in page.items.iter().filter(|it| self.at.finds(it, &self.value)) {
            self.sums.matched += 1;
            if self.validate_only {
                continue;
            }
            match control.erase_or_put_off(event.position, &self.erasure).await? {
                Got::Done => self.sums.erased += 1,
                Got::PutOff => self.sums.pending += 1,
                Got::Gone => {}
            }
        }
        self.next_step = Instant::now() + begun.elapsed().clamp(PAUSE.0, PAUSE.1);
        self.place = page.next;
        self.ended = self.place.is_none();
        let now = control.clock.now();
        let seal = |place: &str| control.page_key.seal(&self.scope, place, now);
        self.sums.cursor = self.place.as_deref().map(seal).unwrap_or_default();
        Ok(self.sums.clone())
    }
}
