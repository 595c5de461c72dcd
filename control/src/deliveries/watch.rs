//! WatchDeliveries: what happens to deliveries, as the log tells it.
//!
//! A watch reads on where it stands, a stretch of one partition at a time, and shows what was
//! wanted of it. Its tokens are places in the log, authenticated and bound to the request as page
//! tokens are. A message within a stretch carries the place before it, the last one the place
//! behind it: whoever resumes may see some of a stretch again, and misses nothing.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::id::{AttemptName, DeliveryName, Position, SubscriptionName};
use pregon_core::model::Subscription;
use pregon_core::outcome::DeliveryState;
use pregon_proto::v1;
use pregon_proto::v1::watch_deliveries_response::Happened;
use pregon_rpc::page::{self, Resume};
use pregon_store::log::DeliveryRecord;
use pregon_store::watch::{Place, Seen, Stretch, WatchQuery};
use tokio::time::Instant;

use super::attempt;
use crate::catalog::Kind;
use crate::parse::Scope;
use crate::service::{Call, standing};
use crate::watches::{BEHIND, HEARTBEAT, Messages, Watch, Watcher, expired, stream};
use crate::{Control, map, parse, repeat};

/// States that a filter may name: there are no more.
const STATES: usize = DeliveryState::ALL.len();

/// The stream of answers of a watch.
pub(super) type Answers = Messages<v1::WatchDeliveriesResponse>;

/// A watch at work.
struct Deliveries {
    control: Arc<Control>,
    call: Arc<Call>,
    query: WatchQuery,
    scope: [u8; 32],
    place: Place,
    /// Messages of the last stretch that did not go out yet.
    ready: VecDeque<v1::WatchDeliveriesResponse>,
    /// The partition whose turn it is.
    turn: u16,
    /// When there was a message last.
    said: Instant,
    _place: Watcher,
}

/// Parses a request and begins its watch.
pub(super) async fn begin(
    control: Arc<Control>,
    mut request: v1::WatchDeliveriesRequest,
    call: Arc<Call>,
) -> Result<Answers, Refusal> {
    let mut wrong = Violations::new();
    let token = std::mem::take(&mut request.resume_token);
    let scope = page::scope("WatchDeliveries", [repeat::content(&request).as_slice()]);
    let resumed = control.page_key.resume(&scope, &token, control.clock.now());
    let (resumed, too_old) = match resumed {
        Ok(position) => (position, false),
        Err(Resume::Expired) => (None, true),
        Err(Resume::Wrong(bad)) => (wrong.check("resume_token", Err(bad)), false),
    };
    let parent = wrong.check("parent", Scope::parse(&request.parent));
    let states = states(&request.states, &mut wrong);
    let subscription = match request.subscription.is_empty() {
        true => None,
        false => wrong.check("subscription", SubscriptionName::parse(&request.subscription)),
    };
    let parent = parse::done(wrong, parent)?;
    control.check_scope(&parent).await?;
    let mut query = WatchQuery {
        tenant: parent.tenant().cloned(),
        lane: None,
        states,
        attempts: request.include_attempts,
    };
    if let Some(name) = &subscription {
        let own = query.tenant.as_ref().is_none_or(|tenant| *tenant == name.tenant);
        let lane = if own { control.lane_of(name).await? } else { None };
        let gone = || Refusal::not_found(Subscription::WORD, name.to_string());
        query.lane = Some(lane.ok_or_else(gone)?);
    }
    if too_old {
        return Err(expired("the resume token is more than 24 h old"));
    }
    let permit = control.watchers.enter(&call.caller)?;
    let place = match resumed {
        // Our own words, authenticated: what cannot be read was written by another release.
        Some(text) => {
            text.parse().map_err(|_| expired("the resume token is of another release"))?
        }
        None => control.store.watch.tip().await?,
    };
    let drain = control.drain.clone();
    let mut watch = Deliveries {
        control,
        call,
        query,
        scope,
        place,
        ready: VecDeque::new(),
        turn: 0,
        said: Instant::now(),
        _place: permit,
    };
    // At once: where it begins, and that it has begun.
    watch.beat();
    Ok(stream(watch, drain))
}

fn states(given: &[i32], wrong: &mut Violations) -> Vec<DeliveryState> {
    if given.len() > STATES {
        wrong.add("states", Rule::TooMany, format!("must be {STATES} at most, as there are"));
        return Vec::new();
    }
    let mut states = Vec::new();
    for (index, state) in given.iter().enumerate() {
        let field = format!("states[{index}]");
        let Some(state) = parse::known::<v1::DeliveryState>(&field, *state, wrong) else {
            continue;
        };
        match map::from_state(state) {
            Some(state) => states.push(state),
            None => wrong.add(&field, Rule::OutOfRange, "must be a state: leave out what is not"),
        }
    }
    states
}

impl Watch for Deliveries {
    type Message = v1::WatchDeliveriesResponse;

    async fn next(&mut self) -> Result<v1::WatchDeliveriesResponse, Refusal> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.said = Instant::now();
                return Ok(message);
            }
            let tip = self.control.store.watch.tip().await?;
            match self.place.behind(&tip) {
                None => return Err(expired("the log is another since the store was set back")),
                Some(behind) if behind > BEHIND => {
                    return Err(expired(&format!("the watch is {behind} entries behind")));
                }
                Some(0) => {
                    let rest = (self.said + HEARTBEAT).saturating_duration_since(Instant::now());
                    self.control.store.watch.wait_past(&self.place, rest).await;
                }
                Some(_) => self.read_on(&tip).await?,
            }
            if self.ready.is_empty() && self.said.elapsed() >= HEARTBEAT {
                self.beat();
            }
        }
    }
}

fn message(happened: Happened, token: &str) -> v1::WatchDeliveriesResponse {
    v1::WatchDeliveriesResponse { happened: Some(happened), resume_token: token.to_owned() }
}

impl Deliveries {
    fn token(&self) -> String {
        let (control, place) = (&self.control, self.place.to_string());
        control.page_key.seal(&self.scope, &place, control.clock.now())
    }

    /// Makes a heartbeat ready.
    fn beat(&mut self) {
        let time = map::moment(self.control.clock.now());
        let heartbeat = Happened::Heartbeat(v1::WatchHeartbeat { time });
        self.ready.push_back(message(heartbeat, &self.token()));
    }

    /// Reads a stretch of the next partition that has something, and makes its messages ready.
    async fn read_on(&mut self, tip: &Place) -> Result<(), Refusal> {
        let count = tip.partitions();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        let Some(partition) = turns.into_iter().find(|no| self.place.lags_in(*no, tip)) else {
            return Ok(());
        };
        self.turn = (partition + 1) % count;
        let watch = &self.control.store.watch;
        let stretch = watch.read_on(&self.query, &self.place, tip, partition).await?;
        let Stretch::Read { seen, place } = stretch else {
            return Err(expired("what came after the resume token is no longer kept"));
        };
        // What was read may be of another tenant, made anew under the same id.
        standing(&self.control, &self.call).await?;
        let seen = self.of_present_tenants(seen).await?;
        let before = self.token();
        self.place = place;
        for happened in self.shown(seen).await? {
            self.ready.push_back(message(happened, &before));
        }
        let after = self.token();
        if let Some(last) = self.ready.back_mut() {
            last.resume_token = after;
        }
        Ok(())
    }

    /// Without what a tenant was told of before the present one of its id was made.
    async fn of_present_tenants(&self, mut seen: Vec<Seen>) -> Result<Vec<Seen>, Refusal> {
        let of = |seen: &Seen| match seen {
            Seen::Attempt(record) => (record.tenant.clone(), record.key.position.ms),
            Seen::Delivery(record) => (record.event.tenant.clone(), record.key.position.ms),
        };
        let since = self.control.since_of(seen.iter().map(|it| of(it).0)).await?;
        seen.retain(|it| {
            let (tenant, ms) = of(it);
            let accepted = Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
            // Of one that is gone its own watchers are told how its deliveries ended.
            since.get(&tenant).copied().flatten().is_none_or(|since| accepted >= since)
        });
        Ok(seen)
    }

    /// The events that were erased before the answer to an attempt came whose lease was lost.
    async fn erased_before(&self, seen: &[Seen]) -> Result<HashSet<Position>, Refusal> {
        let mut erased = HashSet::new();
        for seen in seen {
            if let Seen::Attempt(record) = seen
                && record.late
                && let Some((event, _)) = self.control.store.log.event(record.key.position).await?
                && event.erased.is_some()
            {
                erased.insert(record.key.position);
            }
        }
        Ok(erased)
    }

    async fn shown(&self, mut seen: Vec<Seen>) -> Result<Vec<Happened>, Refusal> {
        if let Some(environment) = self.call.caller.environment() {
            seen.retain(|seen| seen.environment() == environment);
        }
        let erased = self.erased_before(&seen).await?;
        let records: Vec<DeliveryRecord> = seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Attempt(_) => None,
                Seen::Delivery(record) => Some((**record).clone()),
            })
            .collect();
        let mut deliveries = self.control.shown(&records).await?.into_iter();
        let happened = seen.into_iter().filter_map(|seen| match seen {
            Seen::Delivery(_) => deliveries.next().map(Happened::Delivery),
            Seen::Attempt(record) if attempt::is_attempt(&record) => {
                let delivery = DeliveryName { tenant: record.tenant.clone(), delivery: record.key };
                let name = AttemptName { delivery, number: record.number }.to_string();
                let shown = match erased.contains(&record.key.position) {
                    true => attempt::to_wire(&record.stripped()),
                    false => attempt::to_wire(&record),
                };
                Some(Happened::Attempt(v1::Attempt { name, ..shown }))
            }
            Seen::Attempt(_) => None, // an end without one
        });
        Ok(happened.collect())
    }
}
