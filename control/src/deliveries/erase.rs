//! EraseEvent and EraseEvents: what was published goes, and a tombstone stays.
//!
//! An event is erased in three steps, each of which may be repeated: what is pending of it is called
//! off, a tombstone takes its place, and its attempts lose what was answered. A delivery that is
//! being attempted ends as it does, and an event that is not matched yet is matched first; until
//! then the event stays as it is. So that nobody has to come back for it, a document below
//! `eventErasures/` says before anything else what is to be erased: any control plane goes on with
//! it, also after a restart, until it is done.
//!
//! A run over many events walks all of a tenant's, a bounded step at a time, with a pause as long as
//! the step.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::event::{Erasure, Event};
use pregon_core::id::{EventName, Position, TenantId};
use pregon_core::model::Tenant;
use pregon_core::redact::{SensitivePath, SensitiveRoot, holds};
use pregon_proto::v1;
use pregon_rpc::page;
use pregon_store::audit::WhenFull;
use pregon_store::log::{EventQuery, Most};
use serde_json::json;
use tokio::time::Instant;

use super::{Scope, show};
use crate::audit::Begun;
use crate::catalog::Kind as _;
use crate::listing::PAGE_BYTES;
use crate::service::{Call, draining, standing};
use crate::{Control, map, parse, repeat};
use put_off::Got;

mod put_off;

/// The stream of answers of a run.
pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<v1::EraseEventsResponse, tonic::Status>> + Send>>;

/// Events that one step of a run looks at.
const STEP: usize = 100;
/// Events of one run that may be put off.
const PUT_OFF: i64 = 1000;
/// Characters of the value that is looked for.
const VALUE_LEN: usize = 1024;
/// The shortest and the longest pause between two steps.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

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
        // It makes room, so it passes where there is none.
        let does = json!({ "reason": erasure.reason });
        let text = name.to_string();
        let begun = self.begin_step_that(&text, WhenFull::Written, Some(does)).await?;
        let got = self.erase_one(event.position, &erasure).await;
        self.end_step(begun, &got).await;
        let got = got?;
        let (event, _) = self.event(&name).await?;
        let event = Some(show::event(self.redacted(event).await?));
        Ok(v1::EraseEventResponse { event, pending: got == Got::PutOff })
    }

    /// Erases an event, also where this is cut off.
    async fn erase_one(&self, position: Position, why: &Erasure) -> Result<Got, Refusal> {
        let intent = self.intend(&[position], why).await?;
        if !intent.is_open(position) {
            return self.erase_now(position, intent.erasure()).await;
        }
        let (sums, failed) = self.carry_out(intent).await;
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        Ok(if sums.pending > 0 { Got::PutOff } else { Got::Done })
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
    call: Arc<Call>,
    tenant: TenantId,
    /// From when on what there is is the tenant's own.
    since: Option<Timestamp>,
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
    call: Arc<Call>,
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
        false => {
            let (name, does) = (tenant.name(), Some(json!({ "reason": reason })));
            Some(control.begin_step_that(&name, WhenFull::Written, does).await?)
        }
    };
    let run = Run {
        call,
        since,
        query: EventQuery {
            tenant: Some(tenant.clone()),
            from: from.max(since),
            to,
            ..EventQuery::default()
        },
        tenant,
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
            && let Some(mut begun) = run.begun.take()
        {
            begun.did(&run.told());
            run.control.end_step(begun, &answer).await;
        }
        Ok(Some((answer.map_err(pregon_rpc::status::status)?, run)))
    })))
}

impl Run {
    /// Refuses to go on where the tenant is no longer the one that the run is for.
    async fn check(&self) -> Result<(), Refusal> {
        standing(&self.control, &self.call).await?;
        let since = self.control.check_scope(&Scope::Tenant(self.tenant.clone())).await?;
        match since == self.since {
            true => Ok(()),
            false => Err(Refusal::not_found(Tenant::WORD, self.tenant.name())),
        }
    }

    /// What the audit log tells of it: not the value, which is a person's.
    fn told(&self) -> serde_json::Value {
        let v1::EraseEventsResponse { seen, matched, erased, pending, cursor: _ } = self.sums;
        let reason = &self.erasure.reason;
        json!({
            "reason": reason,
            "seen": seen,
            "matched": matched,
            "erased": erased,
            "pending": pending,
        })
    }

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
        self.check().await?;
        let most = Most { items: STEP, bytes: PAGE_BYTES };
        let page = control.store.log.events(&self.query, self.place.as_deref(), most).await?;
        self.sums.seen += map::count(page.items.len() as u64);
        let found = page.items.iter().filter(|it| self.at.finds(it, &self.value));
        let found: Vec<_> = found.map(|event| event.position).collect();
        self.sums.matched += map::count(found.len() as u64);
        if !self.validate_only && !found.is_empty() {
            let intent = control.intend(&found, &self.erasure).await?;
            // What failed is written down, and tried again with what is under way.
            let (done, _) = control.carry_out(intent).await;
            self.sums.erased += map::count(done.erased);
            self.sums.pending += map::count(done.pending);
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
