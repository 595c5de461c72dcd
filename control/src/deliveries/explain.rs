//! ExplainEvent: where an event is, in one answer.
//!
//! Three kinds of truth stand beside each other. That an event went to a subscription is a fact: a
//! delivery is recorded. Why it did not go to another is found out anew, by the checks of
//! PreviewDelivery, against today's configuration, for what refused then is kept nowhere. What comes
//! next is the contract's schedule from where the delivery stands, as far as nothing intervenes.
//!
//! The answer is bounded whatever the tenant has: subscriptions that the event did not go to are
//! listed up to [`LISTED`] and counted beyond, deliveries up to [`SHOWN`], attempts up to
//! [`ATTEMPTS`] in all. The work is bounded by what a tenant may have: its subscriptions
//! (10,000 at most) are read and held against it each time, so that the answer takes longer for a
//! tenant with thousands. Filters are compiled once ([`crate::filters`]). Every [`AT_ONCE`]
//! subscriptions others have a turn, and there the call's deadline ends it, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::error::Refusal;
use pregon_core::event::Event;
use pregon_core::id::{
    AttemptName, ContractId, DeliveryKey, EventName, LaneNo, NodeId, Position, SubscriptionName,
};
use pregon_core::model::{Subscription, SubscriptionState, Tenant};
use pregon_core::outcome::{DeliveryState, PendingReason};
use pregon_proto::v1;
use pregon_rpc::time;
use pregon_store::log::{DeliveryQuery, DeliveryRecord, EventStage};
use prost::Message as _;

use super::attempt::{self, is_attempt};
use super::show;
use crate::listing::PAGE_BYTES;
use crate::service::environment;
use crate::subscriptions::{contract_of, preview};
use crate::{Control, map, parse};

/// Subscriptions that an event did not go to, of which each check is shown.
const LISTED: usize = 200;
/// Deliveries that are shown.
const SHOWN: usize = 100;
/// Attempts that are shown, of all deliveries together.
const ATTEMPTS: usize = 500;
/// Deliveries of one event that are looked at for whom it went to: one for each subscription that
/// a tenant may have, and some replays.
const LOOKED_AT: usize = 12_000;

/// Subscriptions that are held against an event before others have a turn: some 100 µs as filters
/// usually are, and few, because each may do as much work as any [filter](pregon_core::filter).
const AT_ONCE: usize = 16;

/// Closed lanes.
type Closed = HashMap<LaneNo, (Timestamp, PendingReason)>;

/// What a tenant has today.
struct Today {
    tenant: Tenant,
    subscriptions: Vec<Subscription>,
    /// Places in `subscriptions`.
    lanes: HashMap<LaneNo, usize>,
    contracts: HashMap<ContractId, Arc<Contract>>,
}

impl Today {
    fn by_lane(&self, lane: LaneNo) -> Option<&Subscription> {
        self.lanes.get(&lane).and_then(|at| self.subscriptions.get(*at))
    }

    /// The contract of a subscription, with what it says in its place.
    fn contract_of(&self, subscription: &Subscription) -> Option<Arc<Contract>> {
        let contract = self.contracts.get(&subscription.contract)?;
        Some(contract_of(subscription, contract))
    }

    fn contract(&self, subscription: &Subscription) -> Option<&Contract> {
        self.contracts.get(&subscription.contract).map(Arc::as_ref)
    }
}

impl Control {
    pub(crate) async fn explain_event(
        &self,
        request: v1::ExplainEventRequest,
    ) -> Result<v1::ExplainEventResponse, Refusal> {
        let name = parse::only("name", EventName::parse(&request.name))?;
        let (event, stage) = self.event(&name).await?;
        let position = event.position;
        let query = DeliveryQuery { event: Some(position), ..DeliveryQuery::default() };
        let mut records = self.store.log.deliveries(&query, None, LOOKED_AT).await?.items;
        let went_to: HashSet<LaneNo> = records.iter().map(|record| record.key.lane).collect();
        let more_deliveries = records.len() > SHOWN;
        records.truncate(SHOWN);
        let lanes = went_to.iter().map(|lane| (name.tenant.clone(), *lane));
        let (today, owners, attempts, closed) = futures::try_join!(
            self.today(&name),
            self.lane_owners(lanes),
            async { Ok(self.store.log.event_attempts(position).await?) },
            self.closed(position, &records),
        )?;
        let shown = self.redacted(event.clone()).await?;
        let mut answer = v1::ExplainEventResponse {
            event: Some(show::event(shown)),
            stage: wire_stage(&stage).into(),
            node: match &stage {
                EventStage::Claimed(node) => node.name(),
                EventStage::Waiting
                | EventStage::Scheduled
                | EventStage::Matched
                | EventStage::Cancelled => String::new(),
            },
            more_deliveries,
            as_of: map::moment(self.clock.now()),
            ..Default::default()
        };
        self.subscriptions(&event, &stage, &today, &went_to, &owners, &mut answer).await;
        self.deliveries_of(&records, &today, &owners, attempts, &closed, &mut answer);
        Ok(answer)
    }

    /// The tenant's subscriptions, and the contracts that they name.
    async fn today(&self, name: &EventName) -> Result<Today, Refusal> {
        let (tenant, prefix) =
            (name.tenant.name(), format!("{}/subscriptions/", name.tenant.name()));
        let (tenant, stored) = futures::try_join!(
            self.fetch::<Tenant>(&tenant),
            self.all_below::<Subscription>(&prefix, |it| it.name().to_string()),
        )?;
        let all = stored.into_iter().map(|it| it.value);
        let own = |it: &Subscription| environment().is_none_or(|own| own == it.environment);
        let subscriptions: Vec<Subscription> = all.filter(own).collect();
        let lanes = subscriptions.iter().enumerate().map(|(at, it)| (it.lane, at)).collect();
        let named = subscriptions.iter().map(|it| &it.contract).collect();
        let contracts = self.find_contracts(named).await?;
        Ok(Today { tenant: tenant.value, subscriptions, lanes, contracts })
    }

    /// Which lanes of pending deliveries are closed, until when and why.
    async fn closed(
        &self,
        position: Position,
        records: &[DeliveryRecord],
    ) -> Result<Closed, Refusal> {
        let pending = records.iter().filter(|it| it.state == DeliveryState::Pending);
        let lanes: Vec<LaneNo> = pending.map(|it| it.key.lane).collect();
        match lanes.is_empty() {
            true => Ok(Closed::new()),
            false => Ok(self.store.lanes.closed(position.partition, &lanes).await?),
        }
    }

    /// Adds deliveries with their attempts and what comes next.
    fn deliveries_of(
        &self,
        records: &[DeliveryRecord],
        today: &Today,
        owners: &HashMap<LaneNo, SubscriptionName>,
        mut attempts: BTreeMap<DeliveryKey, Vec<AttemptRecord>>,
        closed: &Closed,
        answer: &mut v1::ExplainEventResponse,
    ) {
        // Of a subscription that is gone, the last attempt tells.
        let last = |(key, logged): (&DeliveryKey, &Vec<AttemptRecord>)| {
            logged.last().map(|last| (key.lane, last.contract.clone()))
        };
        let used: HashMap<LaneNo, ContractId> = attempts.iter().filter_map(last).collect();
        let mut room = Room { attempts: ATTEMPTS, bytes: PAGE_BYTES / 2 };
        for record in records {
            let lane = record.key.lane;
            let contract = today.by_lane(lane).map(|it| &it.contract).or_else(|| used.get(&lane));
            let delivery = show::delivery(record, owners.get(&lane), contract);
            let mut it = v1::ExplainedDelivery::default();
            fill_attempts(&mut it, record, &delivery.name, &mut attempts, &mut room);
            it.delivery = Some(delivery);
            if record.state == DeliveryState::Pending {
                self.what_comes(&mut it, record, closed.get(&lane).copied(), today);
            }
            answer.deliveries.push(it);
        }
    }

    /// Tells of each subscription whether the event went to it.
    async fn subscriptions(
        &self,
        event: &Event,
        stage: &EventStage,
        today: &Today,
        went_to: &HashSet<LaneNo>,
        owners: &HashMap<LaneNo, SubscriptionName>,
        answer: &mut v1::ExplainEventResponse,
    ) {
        let filters = &self.filters;
        let (mut listed, mut others) = (0, BTreeMap::new());
        for (i, subscription) in today.subscriptions.iter().enumerate() {
            if i % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let name = subscription.name().to_string();
            if went_to.contains(&subscription.lane) {
                let it = v1::ExplainedSubscription { name, matched: true, ..Default::default() };
                answer.subscriptions.push(it);
                continue;
            }
            if event.erased.is_some() {
                // Filters have nothing to go by any more.
                *others.entry("erased").or_insert(0) += 1;
                continue;
            }
            let Some(contract) = today.contract(subscription) else { continue };
            if listed == LISTED {
                let check =
                    preview::refused_by(filters, subscription, &today.tenant, event, contract);
                *others.entry(check.unwrap_or("")).or_insert(0) += 1;
                continue;
            }
            listed += 1;
            let match_steps = preview::steps(filters, subscription, &today.tenant, event, contract);
            let would = match_steps.iter().all(|step| step.passed);
            let detail = detail(would, event, stage, subscription).to_owned();
            let it = v1::ExplainedSubscription { name, matched: false, match_steps, detail };
            answer.subscriptions.push(it);
        }
        let gone = owners.iter().filter(|(lane, _)| today.by_lane(**lane).is_none());
        answer.subscriptions.extend(gone.map(|(_, name)| v1::ExplainedSubscription {
            name: name.to_string(),
            matched: true,
            detail: "it was deleted since".to_owned(),
            ..Default::default()
        }));
        answer.subscriptions.sort_by(|a, b| a.name.cmp(&b.name));
        let others = others.into_iter();
        answer.others = others
            .map(|(check, count)| v1::OtherSubscriptions { check: check.to_owned(), count })
            .collect();
    }

    /// What a pending delivery waits for, and what comes next.
    fn what_comes(
        &self,
        it: &mut v1::ExplainedDelivery,
        record: &DeliveryRecord,
        closed: Option<(Timestamp, PendingReason)>,
        today: &Today,
    ) {
        let subscription = today.by_lane(record.key.lane);
        it.waits_for = waits_for(record, closed, subscription, &today.tenant);
        it.lane_closed_until = closed.and_then(|(until, _)| map::moment(until));
        let contract = subscription.and_then(|it| today.contract_of(it));
        let Some(contract) = contract.as_deref() else {
            it.ends = "its subscription is gone: it will be CANCELLED".to_owned();
            return;
        };
        let now = self.clock.now();
        let flies = record.pending_reason == Some(PendingReason::InFlight);
        let due = record.next_attempt.filter(|_| !flies).unwrap_or(now).max(now);
        let due = closed.map_or(due, |(until, _)| due.max(until));
        let first = record.attempts.saturating_add(1);
        let sends = preview::sends(contract, first, since(record.create_time, due));
        let last = sends.last().map_or(first, |send| send.attempt);
        let expires = record.event.expire_time();
        let in_time =
            |send: &preview::Send| expires.is_none_or(|end| due.plus(send.earliest) < end);
        // The attempt under way is no longer planned.
        let planned = sends.into_iter().skip(usize::from(flies)).filter(in_time);
        let planned = planned.map(|send| v1::PlannedSend {
            attempt: map::small(send.attempt),
            earliest: map::moment(due.plus(send.earliest)),
            latest: map::moment(due.plus(send.latest)),
            timeout: Some(time::duration(contract.timeout(send.attempt))),
        });
        it.planned = planned.collect();
        it.ends = ends(contract, last);
        if let Some(end) = expires {
            it.ends
                .push_str(&format!("; or the event's deliver_within, at {end}: FAILED, EXPIRED"));
        }
    }
}

/// From one moment to a later one.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.millis() - from.millis()).unwrap_or(0))
}

pub(super) fn wire_stage(stage: &EventStage) -> v1::EventStage {
    match stage {
        EventStage::Waiting => v1::EventStage::Waiting,
        EventStage::Claimed(_) => v1::EventStage::Claimed,
        EventStage::Scheduled => v1::EventStage::Scheduled,
        EventStage::Matched => v1::EventStage::Matched,
        EventStage::Cancelled => v1::EventStage::Cancelled,
    }
}

/// What there is to say of a subscription without a delivery.
fn detail(
    would: bool,
    event: &Event,
    stage: &EventStage,
    subscription: &Subscription,
) -> &'static str {
    match (stage, would) {
        (_, false) => "no delivery; checked against today's configuration",
        (EventStage::Waiting, true) => "not matched yet: it will match if nothing changes",
        (EventStage::Scheduled, true) => "it will match at its deliver_time if nothing changes",
        (EventStage::Cancelled, true) => "it would match, and was called off before its time",
        (EventStage::Claimed(_), true) => "a node is matching or sending it just now",
        (EventStage::Matched, true) if subscription.common.create_time > event.ripe_time() => {
            "it would match today; the subscription was made after the event was matched"
        }
        (EventStage::Matched, true) => {
            "it would match today, and did not then: the configuration has changed since, or the \
             delivery is past its retention"
        }
    }
}

/// What is left of the bounds of an answer.
struct Room {
    attempts: usize,
    bytes: usize,
}

/// Adds a delivery's attempts, as many as there is room for.
fn fill_attempts(
    it: &mut v1::ExplainedDelivery,
    record: &DeliveryRecord,
    name: &str,
    attempts: &mut BTreeMap<DeliveryKey, Vec<AttemptRecord>>,
    room: &mut Room,
) {
    let logged = attempts.remove(&record.key).unwrap_or_default();
    for logged in logged.iter().filter(|logged| is_attempt(logged)) {
        let delivery = show::name(record);
        let attempt = AttemptName { delivery, number: logged.number };
        let attempt =
            v1::Attempt { name: attempt.to_string(), ..attempt::of_event(&record.event, logged) };
        let size = attempt.encoded_len() + name.len();
        if room.attempts == 0 || room.bytes < size {
            it.more_attempts += 1;
            continue;
        }
        room.attempts -= 1;
        room.bytes -= size;
        it.attempts.push(attempt);
    }
}

/// What a pending delivery waits for, in words.
fn waits_for(
    record: &DeliveryRecord,
    closed: Option<(Timestamp, PendingReason)>,
    subscription: Option<&Subscription>,
    tenant: &Tenant,
) -> String {
    let number = record.attempts.saturating_add(1);
    let mut text = match record.pending_reason {
        Some(PendingReason::InFlight) => {
            let node = record.node.as_ref().map_or("a node".to_owned(), NodeId::name);
            format!("the answer to attempt {number}, which {node} has in hand")
        }
        Some(PendingReason::RetryScheduled) => format!("the time of attempt {number}"),
        Some(PendingReason::LaneFull) => {
            "a free slot: its subscription has as many attempts in flight as it may".to_owned()
        }
        Some(PendingReason::RateLimited) => {
            "a rate: its subscription's, its tenant's or its host's".to_owned()
        }
        Some(PendingReason::Paused) => {
            "its subscription to be resumed, or its tenant's suspension to end".to_owned()
        }
        Some(PendingReason::AwaitingRevision) => {
            "a node that serves the configuration it needs".to_owned()
        }
        Some(PendingReason::Suspect) => {
            "ten minutes to pass, since node after node went down with it in hand".to_owned()
        }
        Some(PendingReason::BreakerOpen) => {
            "its receiver to answer again: attempts failed, and only probes go out".to_owned()
        }
        Some(PendingReason::Queued) | None => "a node to take it".to_owned(),
    };
    if let Some((_, why)) = closed {
        text.push_str(&format!("; its lane is closed ({why})"));
    }
    if record.pending_reason != Some(PendingReason::Paused) {
        if subscription.is_some_and(|it| it.state == SubscriptionState::Paused) {
            text.push_str("; its subscription is PAUSED");
        }
        if tenant.suspended {
            text.push_str("; its tenant is suspended");
        }
    }
    text
}

/// What ends a pending delivery beside a success.
fn ends(contract: &Contract, last: u32) -> String {
    let id = contract.id().name();
    let why = match last < contract.retry().sends() {
        true => " (the contract's max_age allows none later)",
        false => "",
    };
    format!(
        "the failure of attempt {last}, the last that {id} allows{why}: FAILED, \
         ATTEMPTS_EXHAUSTED; or an answer that {id} takes as a refusal: FAILED, REFUSED"
    )
}
