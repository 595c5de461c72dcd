//! Replays: one delivery, or all that filters choose.
//!
//! A replay is named by a tag made from the request, the event and the lane, so that a request makes
//! at most one of each, however often its steps are repeated. A run over many goes page by page
//! through the log, each page one atomic step. Its cursor holds what the run started with (its
//! salt and its moment, so that it never replays its own replays) and where the next page begins.
//!
//! A run repeats what was not served: the store leaves out an event that has another delivery to the
//! lane that is pending, or that succeeded since. So the same run may be made again and again.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::id::{DeliveryKey, DeliveryName, LaneNo, ReplayTag, SubscriptionName, TenantId};
use pregon_core::limits;
use pregon_core::model::{Subscription, Tenant};
use pregon_core::outcome::{DeliveryState, PendingReason};
use pregon_proto::v1;
use pregon_rpc::caller::Caller;
use pregon_rpc::page;
use pregon_store::audit::WhenFull;
use pregon_store::log::{DeliveryQuery, DeliveryRecord};
use pregon_store::operate::{Replay, Replayed, STEP_MAX};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Scope, event_type};
use crate::audit::Begun;
use crate::catalog::{self, Kind};
use crate::commit::How;
use crate::repeat::{First, Repeat};
use crate::service::draining;
use crate::{Control, map, parse, repeat};

/// The stream of answers of a run.
pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<v1::ReplayDeliveriesResponse, tonic::Status>> + Send>>;

/// Tells the replays of one request from those of all others.
type Salt = [u8; 16];

fn tag(salt: &Salt, key: DeliveryKey) -> ReplayTag {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(DeliveryKey { replay: None, ..key }.to_string());
    let hash: [u8; 32] = hash.finalize().into();
    ReplayTag::from_bits(hash.first_chunk().copied().unwrap_or_default())
}

impl Control {
    fn salt(&self, how: &How) -> Salt {
        how.repeat.map_or_else(
            || {
                let mut salt = [0; 16];
                (self.random)(&mut salt);
                salt
            },
            |repeat| repeat.id,
        )
    }

    pub(crate) async fn replay_delivery(
        &self,
        request: v1::ReplayDeliveryRequest,
        caller: &Caller,
    ) -> Result<v1::ReplayDeliveryResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", DeliveryName::parse(&request.name));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "ReplayDelivery", &request, options, &mut wrong);
        let name = parse::done(wrong, name)?;
        if let Some(repeat) = &how.repeat {
            self.recent.note(repeat, self.clock.now())?;
        }
        let old = self.delivery(&name).await?;
        let tag = tag(&self.salt(&how), old.key);
        let key = DeliveryKey { replay: Some(tag), ..old.key };
        if how.repeat.is_some()
            && let Some(first) = self.store.log.delivery(key).await?
        {
            return Ok(v1::ReplayDeliveryResponse { delivery: self.shown_one(&first).await? });
        }
        self.check_replay(&name, &old).await?;
        let new = DeliveryRecord {
            key,
            state: DeliveryState::Pending,
            pending_reason: Some(PendingReason::Queued),
            end_reason: None,
            attempts: 0,
            next_attempt: None,
            create_time: self.clock.now(),
            end_time: None,
            node: None,
            event: old.event.clone(),
        };
        let mut shown = self.shown_one(&new).await?;
        if how.validate_only {
            if let Some(delivery) = &mut shown {
                delivery.name.clear();
            }
            return Ok(v1::ReplayDeliveryResponse { delivery: shown });
        }
        let replay = Replay { key: old.key, tag, where_needed: false };
        let replayed = async {
            match self.store.operate.replay(&[replay]).await?.first() {
                Some(Replayed::Created(_) | Replayed::Existed(_)) => {
                    Ok(v1::ReplayDeliveryResponse { delivery: shown })
                }
                Some(Replayed::EventGone | Replayed::Needless) | None => {
                    Err(Refusal::not_found("event", old.event.name().to_string()))
                }
            }
        };
        self.with_entry(&name.to_string(), WhenFull::Refused, replayed).await
    }

    /// Refuses a replay that could not be delivered now.
    async fn check_replay(&self, name: &DeliveryName, old: &DeliveryRecord) -> Result<(), Refusal> {
        if old.event.erased.is_some() {
            let message = format!("the event of {name} was erased; nothing can be sent of it");
            return Err(Refusal::new(Reason::StateConflict, message).about("delivery", name));
        }
        if old.state == DeliveryState::Pending {
            let message = format!("{name} has not ended yet; it needs no replay");
            return Err(Refusal::new(Reason::StateConflict, message).about("delivery", name));
        }
        self.room_for_replays(&name.tenant).await.and_then(|room| match room {
            0 => Err(no_room(&name.tenant)),
            _ => Ok(()),
        })?;
        let receivers = self.receivers(&name.tenant, [old.key.lane]).await?;
        match receivers.get(&old.key.lane) {
            Some(Receiver { subscription: Some(it), .. }) if it.state.matches() => Ok(()),
            Some(Receiver { subscription: Some(it), name }) => {
                let message = format!("{name} is {} and receives nothing", it.state);
                Err(Refusal::new(Reason::StateConflict, message).about(Subscription::WORD, name))
            }
            Some(Receiver { subscription: None, name }) => {
                Err(Refusal::not_found(Subscription::WORD, name.to_string()))
            }
            None => Err(Refusal::not_found(Subscription::WORD, format!("of {name}"))),
        }
    }

    /// How many more deliveries of a tenant may wait; refuses where it is suspended.
    async fn room_for_replays(&self, tenant: &TenantId) -> Result<u64, Refusal> {
        let stored = self.fetch::<Tenant>(&tenant.name()).await?;
        if stored.value.suspended {
            let message = format!("{} is suspended", tenant.name());
            return Err(
                Refusal::new(Reason::TenantSuspended, message).about(Tenant::WORD, tenant.name())
            );
        }
        let outstanding = self.store.intake.outstanding(tenant).await?;
        Ok(u64::from(stored.value.limits.max_pending).saturating_sub(outstanding))
    }

    /// Who is behind lanes today.
    async fn receivers(
        &self,
        tenant: &TenantId,
        lanes: impl IntoIterator<Item = LaneNo>,
    ) -> Result<HashMap<LaneNo, Receiver>, Refusal> {
        let owners = self.lane_owners(lanes.into_iter().map(|lane| (tenant.clone(), lane))).await?;
        let (lanes, names): (Vec<_>, Vec<_>) = owners.into_iter().unzip();
        let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
        let found = self.store.config.get(&texts).await?;
        let mut receivers = HashMap::new();
        for ((lane, name), document) in lanes.into_iter().zip(names).zip(found) {
            let subscription = document.as_ref().map(catalog::read::<Subscription>).transpose()?;
            // Another subscription of the same id has another lane.
            let subscription = subscription.map(|it| it.value).filter(|it| it.lane == lane);
            receivers.insert(lane, Receiver { name, subscription });
        }
        Ok(receivers)
    }
}

fn no_room(tenant: &TenantId) -> Refusal {
    let message = format!("{} has as many waiting deliveries as it may", tenant.name());
    Refusal::new(Reason::QuotaExceeded, message)
        .about(Tenant::WORD, tenant.name())
        .retry_after(Duration::from_secs(10))
}

/// The subscription behind a lane.
struct Receiver {
    name: SubscriptionName,
    /// None: it was deleted.
    subscription: Option<Subscription>,
}

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

/// A run over many deliveries.
struct Run {
    control: Arc<Control>,
    tenant: TenantId,
    query: DeliveryQuery,
    scope: [u8; 32],
    start: Start,
    place: Option<String>,
    /// Deliveries still to be replayed at most.
    left: usize,
    /// Deliveries of the tenant that may still come to wait.
    room: u64,
    per_second: u32,
    next_step: Instant,
    validate_only: bool,
    /// The request, where its answer as a whole is to be remembered.
    repeat: Option<Repeat>,
    /// Its entry in the audit log, until its end is written there.
    begun: Option<Begun>,
    ended: bool,
    sums: v1::ReplayDeliveriesResponse,
}

/// Parses a request and begins its run.
pub(super) async fn begin(
    control: Arc<Control>,
    mut request: v1::ReplayDeliveriesRequest,
    caller: &Caller,
) -> Result<Answers, Refusal> {
    let mut wrong = Violations::new();
    let cursor = std::mem::take(&mut request.cursor);
    let scope = page::scope("ReplayDeliveries", [repeat::content(&request).as_slice()]);
    let opened = control.page_key.open(&scope, &cursor, control.clock.now());
    let cursor = wrong.check("cursor", opened).flatten();
    let tenant = wrong.check("parent", parse::tenant_name(&request.parent));
    let options = (request.validate_only, request.request_id.as_str());
    let how = How::parse(caller, "ReplayDeliveries", &request, options, &mut wrong);
    let (mut query, subscription) = filters(&request, &mut wrong);
    let limit = match request.limit {
        0 => Some(limits::REPLAY_DEFAULT),
        _ => wrong
            .check(
                "limit",
                parse::within(i64::from(request.limit), 1, i64::from(limits::REPLAY_MAX)),
            )
            .and_then(|limit| u32::try_from(limit).ok()),
    };
    let per_second = u32::try_from(request.per_second).ok();
    if per_second.is_none() {
        wrong.add("per_second", Rule::OutOfRange, "must not be negative");
    }
    let (tenant, (limit, per_second)) = parse::done(wrong, tenant.zip(limit.zip(per_second)))?;
    let now = control.clock.now();
    let first = match &how.repeat {
        Some(repeat) => control.recent.note(repeat, now)?,
        None => First { time: now, answer: None },
    };
    if let (Some(answer), None) = (first.answer, &cursor) {
        return Ok(Box::pin(futures::stream::iter([Ok(answer)])));
    }
    let since = control.check_scope(&Scope::Tenant(tenant.clone())).await?;
    query.from = query.from.max(since);
    let room = control.room_for_replays(&tenant).await?;
    if let Some(name) = &subscription {
        let lane = match name.tenant == tenant {
            true => control.lane_of(name).await?,
            false => None,
        };
        let gone = || Refusal::not_found(Subscription::WORD, name.to_string());
        query.lane = Some(lane.ok_or_else(gone)?);
    }
    query.tenant = Some(tenant.clone());
    let fresh = || Start { salt: control.salt(&how), time: first.time };
    let (start, place) = match cursor.as_deref().and_then(Start::read) {
        Some((start, place)) => (start, Some(place)),
        None => (fresh(), None),
    };
    let repeat = how.repeat.filter(|_| place.is_none());
    let begun = match request.validate_only {
        true => None,
        false => Some(control.begin_step(&tenant.name(), WhenFull::Refused).await?),
    };
    let run = Run {
        tenant,
        query,
        scope,
        start,
        place,
        left: usize::try_from(limit).unwrap_or(usize::MAX),
        room,
        per_second,
        next_step: Instant::now(),
        validate_only: request.validate_only,
        repeat,
        begun,
        ended: false,
        sums: v1::ReplayDeliveriesResponse::default(),
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
        || request.time_range.is_some();
    if !set {
        let text = "at least one of subscription, event_type, state, end_reason and time_range \
                    must be set";
        wrong.add("subscription", Rule::Required, text);
    }
    (query, subscription)
}

impl Run {
    /// One page: chosen, replayed, summed up.
    async fn step(&mut self) -> Result<v1::ReplayDeliveriesResponse, Refusal> {
        let control = Arc::clone(&self.control);
        tokio::select! {
            biased;
            () = control.drain.cancelled() => return Err(draining()),
            () = tokio::time::sleep_until(self.next_step) => {}
        }
        let pace = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        let room = usize::try_from(self.room.max(1)).unwrap_or(usize::MAX);
        let most = STEP_MAX.min(self.left).min(room).min(if pace == 0 { STEP_MAX } else { pace });
        let page = control.store.log.deliveries(&self.query, self.place.as_deref(), most).await?;
        let chosen: Vec<_> = page.items.into_iter().filter(|it| self.wants(it)).collect();
        let lanes: Vec<_> = chosen.iter().map(|it| it.key.lane).collect();
        let receivers = control.receivers(&self.tenant, lanes).await?;
        let receives = |lane: &LaneNo| {
            let subscription = receivers.get(lane).and_then(|it| it.subscription.as_ref());
            subscription.is_some_and(|it| it.state.matches())
        };
        let replays: Vec<_> = chosen
            .iter()
            .filter(|it| it.event.erased.is_none() && receives(&it.key.lane))
            .map(|it| Replay {
                key: it.key,
                tag: tag(&self.start.salt, it.key),
                where_needed: true,
            })
            .collect();
        let mut skipped = chosen.len() - replays.len();
        let mut done = 0;
        if self.validate_only {
            self.left -= replays.len();
        } else if !replays.is_empty() {
            if self.room == 0 {
                return Err(no_room(&self.tenant));
            }
            let answers = control.store.operate.replay(&replays).await?;
            // Two deliveries of one event to one lane make one.
            let made = answers.iter().filter_map(|it| match it {
                Replayed::Created(key) | Replayed::Existed(key) => Some(key),
                Replayed::EventGone | Replayed::Needless => None,
            });
            done = made.collect::<HashSet<_>>().len();
            skipped += answers.len() - done;
            self.left -= done;
            self.room = self.room.saturating_sub(done as u64);
        }
        self.sums.matched += map::count(chosen.len() as u64);
        self.sums.done += map::count(done as u64);
        self.sums.skipped += map::count(skipped as u64);
        if self.per_second > 0 {
            let seconds = done as f64 / f64::from(self.per_second);
            self.next_step = Instant::now() + Duration::from_secs_f64(seconds);
        }
        self.place = page.next.filter(|_| self.left > 0);
        self.ended = self.place.is_none();
        self.sums.cursor = self.cursor();
        if let Some(repeat) = self.repeat.filter(|_| self.ended) {
            control.recent.answered(&repeat, self.sums.clone());
        }
        Ok(self.sums.clone())
    }

    /// Whether a delivery that the log's filters chose is to be replayed: it has ended, was there
    /// before the run, and is not of this run itself.
    fn wants(&self, record: &DeliveryRecord) -> bool {
        record.state != DeliveryState::Pending
            && record.create_time <= self.start.time
            && record.key.replay != Some(tag(&self.start.salt, record.key))
            && self.query.to.is_none_or(|to| record.create_time < to)
    }

    fn cursor(&self) -> String {
        let now = self.control.clock.now();
        let seal =
            |place: &str| self.control.page_key.seal(&self.scope, &self.start.cursor(place), now);
        self.place.as_deref().map(seal).unwrap_or_default()
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

    #[test]
    fn a_tag_is_of_one_request_event_and_lane() {
        let key: DeliveryKey = "00000000000000000001-1".parse().unwrap();
        let other: DeliveryKey = "00000000000000000001-2".parse().unwrap();
        assert_eq!(tag(&[1; 16], key), tag(&[1; 16], key));
        assert_ne!(tag(&[1; 16], key), tag(&[2; 16], key));
        assert_ne!(tag(&[1; 16], key), tag(&[1; 16], other));
        let replay = DeliveryKey { replay: Some(tag(&[3; 16], key)), ..key };
        assert_eq!(
            tag(&[1; 16], replay),
            tag(&[1; 16], key),
            "of a replay it is that of its event"
        );
    }
}
