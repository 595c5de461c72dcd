//! DeliverMissing: deliveries of stored events to a subscription that they match now and never went
//! to.
//!
//! The run holds the tenant's events against the subscription as it is at each step, by the checks
//! of PreviewDelivery. Whether an event has a delivery is the store's to say, in the step that makes
//! it: so two runs make none twice, nor does a run that begins again. What failed or was called off
//! is not missing, and an event that is still to be matched may yet get its own.

use std::sync::Arc;

use pregon_core::contract::Contract;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::event::Event;
use pregon_core::id::SubscriptionName;
use pregon_core::model::{Subscription, Tenant};
use pregon_proto::v1;
use pregon_rpc::page;
use pregon_store::log::{EventQuery, Most};
use pregon_store::operate::{Filled, Missing};
use serde_json::json;

use super::chosen::Chosen;
use super::course::{self, Answers, Bounds, Course, Pages, Run};
use super::event_type;
use super::replay::no_room;
use crate::catalog::Kind as _;
use crate::listing::PAGE_BYTES;
use crate::service::Call;
use crate::subscriptions::preview;
use crate::{Control, map, parse, repeat};

/// Events that one step looks at.
const STEP: usize = 100;
/// Events that are held against a filter before others have a turn: each may be as much work as any
/// [filter](pregon_core::filter).
const AT_ONCE: usize = 16;

/// Parses a request and begins its run.
pub(super) async fn begin(
    control: Arc<Control>,
    mut request: v1::DeliverMissingRequest,
    call: Arc<Call>,
) -> Result<Answers<v1::DeliverMissingResponse>, Refusal> {
    let mut wrong = Violations::new();
    let cursor = std::mem::take(&mut request.cursor);
    let scope = page::scope("DeliverMissing", [repeat::content(&request).as_slice()]);
    let opened = control.page_key.open(&scope, &cursor, control.clock.now());
    let place = wrong.check("cursor", opened).flatten();
    let name = wrong.check("subscription", SubscriptionName::parse(&request.subscription));
    let bounds =
        Bounds::parse(request.limit, request.per_second, request.validate_only, &mut wrong);
    let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
    let event_type = event_type(&request.event_type, &mut wrong);
    let chosen = Chosen::parse(request.attributes, 0, &mut wrong);
    let (name, bounds) = parse::done(wrong, name.zip(bounds))?;
    let receiver = control.fetch::<Subscription>(&name.to_string()).await?.value;
    check(&name, &receiver)?;
    control.room(&name.tenant).await?;
    let course = Course::begin(control, call, name.tenant.clone(), scope, bounds).await?;
    let query = EventQuery {
        tenant: Some(name.tenant.clone()),
        event_type,
        environment: Some(receiver.environment),
        from: from.max(course.since()),
        to,
        unmatched_only: false,
        scheduled_only: false,
    };
    Ok(course::answers(Backfill {
        course,
        name,
        receiver,
        query,
        chosen,
        pages: Pages::from(place),
        sums: v1::DeliverMissingResponse::default(),
    }))
}

/// Refuses to make deliveries that nobody receives.
fn check(name: &SubscriptionName, subscription: &Subscription) -> Result<(), Refusal> {
    if subscription.state.matches() {
        return Ok(());
    }
    let message = format!("{name} is {} and receives nothing", subscription.state);
    Err(Refusal::new(Reason::StateConflict, message).about(Subscription::WORD, name))
}

struct Backfill {
    course: Course,
    name: SubscriptionName,
    /// As it was when the run began.
    receiver: Subscription,
    query: EventQuery,
    chosen: Chosen,
    /// What matches.
    pages: Pages<Missing>,
    sums: v1::DeliverMissingResponse,
}

impl Run for Backfill {
    type Answer = v1::DeliverMissingResponse;

    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn told(&self) -> serde_json::Value {
        let v1::DeliverMissingResponse { seen, matched, missing, done, skipped, cursor: _ } =
            self.sums;
        json!({
            "subscription": self.name.to_string(),
            "seen": seen,
            "matched": matched,
            "missing": missing,
            "done": done,
            "skipped": skipped,
        })
    }

    /// One stretch of the events that match: those of a page, or as many as the pace allows.
    async fn step(&mut self) -> Result<v1::DeliverMissingResponse, Refusal> {
        self.course.wait().await?;
        let today = self.today().await?;
        if let Some(place) = self.pages.wanted().map(|place| place.map(str::to_owned)) {
            self.turn_page(place.as_deref(), &today).await?;
        }
        let make = !self.course.bounds.validate_only;
        let room = if make { self.course.room().await? } else { usize::MAX };
        let some = self.pages.some(self.course.most(STEP).min(room.max(1)));
        if !some.is_empty() {
            // Where there is no room, there may be no need of any.
            self.fill(&some, make, room > 0).await?;
        }
        self.sums.cursor = self.pages.did(some.len(), &mut self.course);
        Ok(self.sums.clone())
    }
}

impl Backfill {
    /// Reads the next page, and holds its events against the subscription.
    async fn turn_page(
        &mut self,
        place: Option<&str>,
        (subscription, tenant): &(Subscription, Tenant),
    ) -> Result<(), Refusal> {
        let control = Arc::clone(&self.course.control);
        let contract = control.contract(&subscription.contract).await?;
        // What is only counted is still missing: no cursor leads back to it.
        let counts = self.course.bounds.validate_only;
        let items = if counts { self.course.most(STEP) } else { STEP };
        let most = Most { items, bytes: PAGE_BYTES };
        let page = control.store.log.events(&self.query, place, most).await?;
        let mut matched = Vec::new();
        let chosen = page.items.into_iter().filter(|event| self.chosen.has(event));
        for (i, event) in chosen.enumerate() {
            if i % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            self.sums.seen += 1;
            if matches(&control, subscription, tenant, &event, &contract) {
                self.sums.matched += 1;
                let missing = Missing { position: event.position, lane: subscription.lane };
                matched.push(missing);
            }
        }
        self.pages.turn(matched, page.next);
        Ok(())
    }

    /// The subscription and its tenant as they are now.
    async fn today(&self) -> Result<(Subscription, Tenant), Refusal> {
        let control = &self.course.control;
        let text = self.name.to_string();
        let subscription = control.fetch::<Subscription>(&text).await?.value;
        if subscription.lane != self.receiver.lane {
            return Err(Refusal::not_found(Subscription::WORD, text));
        }
        check(&self.name, &subscription)?;
        let tenant = control.fetch::<Tenant>(&self.name.tenant.name()).await?.value;
        Ok((subscription, tenant))
    }

    /// Has the store make what is missing of some that match, where it may.
    async fn fill(&mut self, some: &[Missing], make: bool, room: bool) -> Result<(), Refusal> {
        let answers = self.course.control.store.operate.fill(some, make && room).await?;
        let count = |wanted: fn(&Filled) -> bool| answers.iter().filter(|it| wanted(it)).count();
        let missing = count(|it| matches!(it, Filled::Created(_)));
        if missing > 0 && !room {
            return Err(no_room(&self.course.tenant));
        }
        let skipped = count(|it| matches!(it, Filled::NotMatched | Filled::EventGone));
        self.course.did(missing);
        self.sums.missing += map::count(missing as u64);
        self.sums.skipped += map::count(skipped as u64);
        if make {
            self.sums.done += map::count(missing as u64);
        }
        Ok(())
    }
}

/// Whether it is to have a delivery: what ends without an attempt is not made.
fn matches(
    control: &Control,
    subscription: &Subscription,
    tenant: &Tenant,
    event: &Event,
    contract: &Contract,
) -> bool {
    event.erased.is_none()
        && event.expire_time().is_none_or(|end| control.clock.now() < end)
        && preview::refused_by(&control.filters, subscription, tenant, event, contract).is_none()
}
