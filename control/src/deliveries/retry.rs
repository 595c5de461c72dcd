//! RetryNow: what waits for the time of its next attempt is tried at once.
//!
//! Nothing is made here: a delivery keeps its name, and its attempts are counted on. So the run may
//! be repeated without a second thought. How fast what is due goes out is its lane's to say.

use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{DeliveryKey, DeliveryName, SubscriptionName};
use pregon_core::outcome::{DeliveryState, PendingReason};
use pregon_proto::v1;
use pregon_rpc::page;
use pregon_store::log::{DeliveryQuery, DeliveryRecord};
use pregon_store::operate::{Forwarded, STEP_MAX};
use serde_json::json;

use super::chosen::Chosen;
use super::course::{self, Answers, Bounds, Course, Pages, Run, accepted_from};
use super::event_type;
use crate::service::Call;
use crate::{Control, map, parse, repeat};

/// Parses a request and begins its run.
pub(super) async fn begin(
    control: Arc<Control>,
    mut request: v1::RetryNowRequest,
    call: Arc<Call>,
) -> Result<Answers<v1::RetryNowResponse>, Refusal> {
    let mut wrong = Violations::new();
    let cursor = std::mem::take(&mut request.cursor);
    let scope = page::scope("RetryNow", [repeat::content(&request).as_slice()]);
    let opened = control.page_key.open(&scope, &cursor, control.clock.now());
    let place = wrong.check("cursor", opened).flatten();
    let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
    let bounds =
        Bounds::parse(request.limit, request.per_second, request.validate_only, &mut wrong);
    let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
    let mut query = DeliveryQuery {
        state: Some(DeliveryState::Pending),
        event_type: event_type(&request.event_type, &mut wrong),
        from,
        to,
        ..DeliveryQuery::default()
    };
    let one = (!request.delivery.is_empty())
        .then(|| wrong.check("delivery", DeliveryName::parse(&request.delivery)))
        .flatten();
    let subscription = (!request.subscription.is_empty())
        .then(|| wrong.check("subscription", SubscriptionName::parse(&request.subscription)))
        .flatten();
    let any = !request.delivery.is_empty()
        || !request.subscription.is_empty()
        || !request.event_type.is_empty()
        || !request.attributes.is_empty()
        || request.last_answer != 0
        || request.time_range.is_some();
    if !any {
        let text = "at least one of delivery, subscription, event_type, attributes, last_answer \
                    and time_range must be set";
        wrong.add("subscription", Rule::Required, text);
    }
    let chosen = Chosen::parse(request.attributes, request.last_answer, &mut wrong);
    let (tenant, bounds) = parse::done(wrong, tenant.zip(bounds))?;
    query.tenant = Some(tenant.clone());
    if let Some(name) = &subscription {
        query.lane = Some(control.own_lane(name, &tenant).await?);
    }
    if let Some(name) = &one {
        let gone = || Refusal::not_found("delivery", name.to_string());
        let record = match name.tenant == tenant {
            true => control.delivery(name).await?,
            false => return Err(gone()),
        };
        check(name, &record)?;
        query.event = Some(record.key.position);
        query.lane = query.lane.or(Some(record.key.lane));
    }
    let course = Course::begin(control, call, tenant, scope, bounds).await?;
    query.from = accepted_from(from, course.since());
    let environment = crate::service::environment();
    let sums = v1::RetryNowResponse::default();
    let pages = Pages::from(place);
    Ok(course::answers(Retry { course, query, from, environment, one, chosen, pages, sums }))
}

/// Refuses to bring forward what has ended.
fn check(name: &DeliveryName, record: &DeliveryRecord) -> Result<(), Refusal> {
    if record.state == DeliveryState::Pending {
        return Ok(());
    }
    let message = format!("{name} has ended: it is {}; replay it", record.state);
    Err(Refusal::new(Reason::StateConflict, message).about("delivery", name))
}

struct Retry {
    course: Course,
    query: DeliveryQuery,
    /// Deliveries that were created before are not meant.
    from: Option<Timestamp>,
    /// The only one that the caller may see.
    environment: Option<Environment>,
    /// The only delivery that is meant.
    one: Option<DeliveryName>,
    chosen: Chosen,
    pages: Pages<DeliveryKey>,
    sums: v1::RetryNowResponse,
}

impl Run for Retry {
    type Answer = v1::RetryNowResponse;

    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn told(&self) -> serde_json::Value {
        let v1::RetryNowResponse { matched, done, skipped, cursor: _ } = self.sums;
        json!({ "matched": matched, "done": done, "skipped": skipped })
    }

    /// Those of a page that wait for their time, or as many as the pace allows.
    async fn step(&mut self) -> Result<v1::RetryNowResponse, Refusal> {
        self.course.wait().await?;
        if let Some(place) = self.pages.wanted().map(|place| place.map(str::to_owned)) {
            self.turn_page(place.as_deref()).await?;
        }
        let some = self.pages.some(self.course.most(STEP_MAX));
        if self.course.bounds.validate_only {
            self.course.did(some.len());
            self.sums.matched += map::count(some.len() as u64);
        } else if !some.is_empty() {
            let answers = self.course.control.store.operate.bring_forward(&some).await?;
            let count = |wanted| answers.iter().filter(|it| **it == wanted).count();
            let (done, ended) = (count(Forwarded::Done), count(Forwarded::NotPending));
            self.course.did(done);
            self.sums.matched += map::count((answers.len() - ended) as u64);
            self.sums.done += map::count(done as u64);
            self.sums.skipped += map::count((answers.len() - ended - done) as u64);
        }
        self.sums.cursor = self.pages.did(some.len(), &mut self.course);
        Ok(self.sums.clone())
    }
}

impl Retry {
    /// Reads a page. What does not wait for its time is done with at once.
    async fn turn_page(&mut self, place: Option<&str>) -> Result<(), Refusal> {
        let control = Arc::clone(&self.course.control);
        // No page is larger than a step: the cursor never leads back to what was brought forward, and
        // may wait for its time again.
        let most = self.course.most(STEP_MAX);
        let page = control.store.log.deliveries(&self.query, place, most).await?;
        let wanted = page.items.into_iter().filter(|it| self.wants(it)).collect();
        let found = self.chosen.of(&control, wanted).await?;
        let now = control.store.operate.now().await?;
        let (waiting, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| {
            it.pending_reason != Some(PendingReason::Suspect)
                && it.next_attempt.is_some_and(|time| time > now)
        });
        self.sums.matched += map::count(others.len() as u64);
        self.sums.skipped += map::count(others.len() as u64);
        self.pages.turn(waiting.into_iter().map(|it| it.key), page.next);
        Ok(())
    }

    fn wants(&self, record: &DeliveryRecord) -> bool {
        self.one.as_ref().is_none_or(|one| one.delivery == record.key)
            && self.from.is_none_or(|from| record.create_time >= from)
            && self.query.to.is_none_or(|to| record.create_time < to)
            && self.environment.is_none_or(|own| record.event.environment == own)
    }
}
