//! Replays of all deliveries that filters choose.
//!
//! A run goes page by page through the log, each page one atomic step. Its cursor holds what the run
//! started with (its salt and its moment, so that it never replays its own replays) and where the
//! next page begins. With a `request_id` the store remembers both, and what the run came to: a
//! repeat goes over the same deliveries under the same tags, or is answered as the first was.
//!
//! A run repeats what was not served: the store leaves out an event that has another delivery to the
//! lane that is pending, or that succeeded since. So the same run may be made again and again.

use std::collections::HashSet;
use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{LaneNo, SubscriptionName};
use pregon_core::outcome::DeliveryState;
use pregon_proto::v1;
use pregon_rpc::page;
use pregon_store::log::{DeliveryQuery, DeliveryRecord};
use pregon_store::operate::{Replay, Replayed, STEP_MAX};
use serde_json::json;

use super::super::chosen::Chosen;
use super::super::course::{self, Answers, Bounds, Course, Run, accepted_from};
use super::super::event_type;
use super::{Salt, no_room, tag};
use crate::commit::How;
use crate::repeat::Repeat;
use crate::service::Call;
use crate::{Control, map, parse, repeat};

/// What a run started with; its cursor carries it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    salt: Salt,
    time: Timestamp,
}

impl Start {
    fn cursor(&self, place: &str) -> String {
        let salt = u128::from_be_bytes(self.salt);
        format!("{salt:032x}.{}.{place}", self.time.millis())
    }

    fn read(cursor: &str) -> Option<(Self, String)> {
        let mut parts = cursor.splitn(3, '.');
        let salt = u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes();
        let time = Timestamp::from_millis(parts.next()?.parse().ok()?);
        Some((Self { salt, time }, parts.next()?.to_owned()))
    }
}

/// Parses a request and begins its run.
pub(in crate::deliveries) async fn begin(
    control: Arc<Control>,
    mut request: v1::ReplayDeliveriesRequest,
    call: Arc<Call>,
) -> Result<Answers<v1::ReplayDeliveriesResponse>, Refusal> {
    let mut wrong = Violations::new();
    let cursor = std::mem::take(&mut request.cursor);
    let scope = page::scope("ReplayDeliveries", [repeat::content(&request).as_slice()]);
    let opened = control.page_key.open(&scope, &cursor, control.clock.now());
    let cursor = wrong.check("cursor", opened).flatten();
    let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
    let options = (request.validate_only, request.request_id.as_str());
    let how = How::parse(&call.caller, "ReplayDeliveries", &request, options, &mut wrong);
    let (mut query, subscription) = filters(&request, &mut wrong);
    let bounds =
        Bounds::parse(request.limit, request.per_second, request.validate_only, &mut wrong);
    let chosen = Chosen::parse(request.attributes, request.last_answer, &mut wrong);
    let (tenant, bounds) = parse::done(wrong, tenant.zip(bounds))?;
    let began = cursor.as_deref().and_then(Start::read);
    let began = began.map(|(start, place)| (start, Some(place)));
    let now = control.clock.now();
    let repeat = how.repeat.filter(|_| began.is_none());
    if let Some(repeat) = &repeat
        && let Some(answer) = control.first_answer::<v1::ReplayDeliveriesResponse>(repeat).await?
    {
        return Ok(Box::pin(futures::stream::iter([Ok(answer)])));
    }
    control.room(&tenant).await?;
    if let Some(name) = &subscription {
        query.lane = Some(control.own_lane(name, &tenant).await?);
    }
    // What is refused until here is not remembered: its repeat begins anew.
    let time = match &repeat {
        Some(repeat) => control.first_time(repeat, now).await?,
        None => now,
    };
    query.tenant = Some(tenant.clone());
    let (start, place) = began.unwrap_or_else(|| (Start { salt: control.salt(&how), time }, None));
    let course = Course::begin(control, call, tenant, scope, bounds).await?;
    let from = query.from;
    query.from = accepted_from(from, course.since());
    let environment = crate::service::environment();
    let sums = v1::ReplayDeliveriesResponse::default();
    let run = Replays { course, query, from, environment, chosen, start, place, repeat, sums };
    Ok(course::answers(run))
}

/// Which deliveries a request chooses, at least one filter being set.
fn filters(
    request: &v1::ReplayDeliveriesRequest,
    wrong: &mut Violations,
) -> (DeliveryQuery, Option<SubscriptionName>) {
    let (from, to) = parse::time_range(request.time_range.as_ref(), wrong);
    let state = parse::known("state", request.state, wrong);
    let end_reason = parse::known("end_reason", request.end_reason, wrong);
    if state == Some(v1::DeliveryState::Pending) {
        wrong.add("state", Rule::OutOfRange, "must be an end state: what is PENDING goes on");
    }
    let query = DeliveryQuery {
        event_type: event_type(&request.event_type, wrong),
        state: state.and_then(map::from_state),
        end_reason: end_reason.and_then(map::from_end_reason),
        from,
        to,
        ..DeliveryQuery::default()
    };
    let subscription = match request.subscription.is_empty() {
        true => None,
        false => wrong.check("subscription", SubscriptionName::parse(&request.subscription)),
    };
    let set = !request.subscription.is_empty()
        || !request.event_type.is_empty()
        || request.state != 0
        || request.end_reason != 0
        || request.time_range.is_some()
        || !request.attributes.is_empty()
        || request.last_answer != 0;
    if !set {
        let text = "at least one of subscription, event_type, state, end_reason, time_range, \
                    attributes and last_answer must be set";
        wrong.add("subscription", Rule::Required, text);
    }
    (query, subscription)
}

/// A run over many deliveries.
struct Replays {
    course: Course,
    query: DeliveryQuery,
    /// Deliveries that were created before are not meant.
    from: Option<Timestamp>,
    /// The only one that the caller may see.
    environment: Option<Environment>,
    chosen: Chosen,
    start: Start,
    place: Option<String>,
    /// The request, where its answer as a whole is to be remembered.
    repeat: Option<Repeat>,
    sums: v1::ReplayDeliveriesResponse,
}

impl Run for Replays {
    type Answer = v1::ReplayDeliveriesResponse;

    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn told(&self) -> serde_json::Value {
        let v1::ReplayDeliveriesResponse { matched, done, skipped, cursor: _ } = self.sums;
        json!({ "matched": matched, "done": done, "skipped": skipped })
    }

    /// One page: chosen, replayed, summed up.
    async fn step(&mut self) -> Result<v1::ReplayDeliveriesResponse, Refusal> {
        self.course.wait().await?;
        let control = Arc::clone(&self.course.control);
        let counts = self.course.bounds.validate_only;
        let room = if counts { usize::MAX } else { self.course.room().await? };
        let most = self.course.most(STEP_MAX).min(room.max(1));
        let page = control.store.log.deliveries(&self.query, self.place.as_deref(), most).await?;
        let wanted = page.items.into_iter().filter(|it| self.wants(it)).collect();
        let chosen = self.chosen.of(&control, wanted).await?;
        let replays = self.replays(&chosen).await?;
        let mut skipped = chosen.len() - replays.len();
        if counts {
            self.course.did(replays.len());
        } else if !replays.is_empty() {
            if room == 0 {
                return Err(no_room(&self.course.tenant));
            }
            let answers = control.store.operate.replay(&replays).await?;
            // Two deliveries of one event to one lane make one.
            let made = answers.iter().filter_map(|it| match it {
                Replayed::Created(key) | Replayed::Existed(key) => Some(key),
                Replayed::EventGone | Replayed::Needless => None,
            });
            let done = made.collect::<HashSet<_>>().len();
            skipped += answers.len() - done;
            self.course.did(done);
            self.sums.done += map::count(done as u64);
        }
        self.sums.matched += map::count(chosen.len() as u64);
        self.sums.skipped += map::count(skipped as u64);
        self.place = page.next;
        self.sums.cursor = match &self.place {
            Some(place) => self.course.cursor(&self.start.cursor(place)),
            None => String::new(),
        };
        if self.place.is_none() || self.course.is_full() {
            self.course.end();
            if let Some(repeat) = &self.repeat {
                control.remember_answer(repeat, &self.sums).await;
            }
        }
        Ok(self.sums.clone())
    }
}

impl Replays {
    /// The replays of those that somebody receives today, and that do not end without an attempt.
    async fn replays(&self, chosen: &[DeliveryRecord]) -> Result<Vec<Replay>, Refusal> {
        let lanes: Vec<_> = chosen.iter().map(|it| it.key.lane).collect();
        let receivers = self.course.control.receivers(&self.course.tenant, lanes).await?;
        let receives = |lane: &LaneNo| {
            let subscription = receivers.get(lane).and_then(|it| it.subscription.as_ref());
            subscription.is_some_and(|it| it.state.matches())
        };
        let now = self.course.control.clock.now();
        let lives = |event: &Event| {
            event.erased.is_none() && event.expire_time().is_none_or(|end| now < end)
        };
        let wanted = chosen.iter().filter(|it| lives(&it.event) && receives(&it.key.lane));
        let replay = |it: &DeliveryRecord| Replay {
            key: it.key,
            tag: tag(&self.start.salt, it.key),
            where_needed: true,
        };
        Ok(wanted.map(replay).collect())
    }

    /// Whether a delivery that the log's filters chose is to be replayed: it has ended, was there
    /// before the run, and is not of this run itself.
    fn wants(&self, record: &DeliveryRecord) -> bool {
        record.state != DeliveryState::Pending
            && record.create_time <= self.start.time
            && record.key.replay != Some(tag(&self.start.salt, record.key))
            && self.from.is_none_or(|from| record.create_time >= from)
            && self.query.to.is_none_or(|to| record.create_time < to)
            && self.environment.is_none_or(|own| record.event.environment == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_carries_what_the_run_started_with() {
        let start = Start { salt: [7; 16], time: Timestamp::from_millis(-5) };
        let read = Start::read(&start.cursor("a.b.c")).unwrap();
        assert_eq!(read, (start, "a.b.c".to_owned()));
        assert_eq!(Start::read("x"), None);
    }
}
