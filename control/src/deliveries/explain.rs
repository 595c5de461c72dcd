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
//! (10,000 at most) are read and held against it each time, and their filters compiled, so that the
//! answer takes longer for a tenant with thousands.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::error::{Refusal, Violations};
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

use super::attempt::{is_attempt, told};
use super::show;
use crate::listing::PAGE_BYTES;
use crate::subscriptions::preview;
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

/// What a tenant has today.
struct Today {
    tenant: Tenant,
    subscriptions: Vec<Subscription>,
    contracts: HashMap<ContractId, Arc<Contract>>,
}

impl Today {
    fn by_lane(&self, lane: LaneNo) -> Option<&Subscription> {
        self.subscriptions.iter().find(|it| it.lane == lane)
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
        let mut wrong = Violations::new();
        let name = wrong.check("name", EventName::parse(&request.name));
        let name = parse::done(wrong, name)?;
        let gone = || Refusal::not_found("event", name.to_string());
        let position = self.store.log.find(&name).await?.ok_or_else(gone)?;
        let found = self.store.log.event(position).await?;
        let found = found.filter(|(event, _)| event.tenant == name.tenant);
        let (event, stage) = found.ok_or_else(gone)?;
        let query = DeliveryQuery { event: Some(position), ..DeliveryQuery::default() };
        let mut records = self.store.log.deliveries(&query, None, LOOKED_AT).await?.items;
        let went_to: HashSet<LaneNo> = records.iter().map(|record| record.key.lane).collect();
        let today = self.today(&name).await?;
        let mut answer = v1::ExplainEventResponse {
            event: Some(show::event(&event)),
            stage: wire_stage(&stage).into(),
            node: match &stage {
                EventStage::Claimed(node) => node.name(),
                EventStage::Waiting | EventStage::Matched => String::new(),
            },
            more_deliveries: records.len() > SHOWN,
            as_of: map::moment(self.clock.now()),
            ..Default::default()
        };
        let lanes = went_to.iter().map(|lane| (name.tenant.clone(), *lane));
        let owners = self.lane_owners(lanes).await?;
        subscriptions(&event, &stage, &today, &went_to, &owners, &mut answer);
        records.truncate(SHOWN);
        self.deliveries_of(position, &records, &today, &mut answer).await?;
        Ok(answer)
    }

    /// The tenant's subscriptions, and the contracts that they name.
    async fn today(&self, name: &EventName) -> Result<Today, Refusal> {
        let tenant = self.fetch::<Tenant>(&name.tenant.name()).await?.value;
        let prefix = format!("{}/subscriptions/", name.tenant.name());
        let stored = self.all_below::<Subscription>(&prefix, |it| it.name().to_string()).await?;
        let subscriptions: Vec<Subscription> = stored.into_iter().map(|it| it.value).collect();
        let mut contracts = HashMap::new();
        for id in subscriptions.iter().map(|it| &it.contract) {
            if !contracts.contains_key(id)
                && let Some(contract) = self.find_contract(id).await?
            {
                contracts.insert(id.clone(), contract);
            }
        }
        Ok(Today { tenant, subscriptions, contracts })
    }

    /// Adds deliveries with their attempts and what comes next.
    async fn deliveries_of(
        &self,
        position: Position,
        records: &[DeliveryRecord],
        today: &Today,
        answer: &mut v1::ExplainEventResponse,
    ) -> Result<(), Refusal> {
        let shown = self.shown(records).await?;
        let mut attempts = self.store.log.event_attempts(position).await?;
        let pending = records.iter().filter(|it| it.state == DeliveryState::Pending);
        let lanes: Vec<LaneNo> = pending.map(|it| it.key.lane).collect();
        let closed = match lanes.is_empty() {
            true => HashMap::new(),
            false => self.store.lanes.closed(position.partition, &lanes).await?,
        };
        let mut room = Room { attempts: ATTEMPTS, bytes: PAGE_BYTES / 2 };
        for (record, delivery) in records.iter().zip(shown) {
            let mut it = v1::ExplainedDelivery::default();
            fill_attempts(&mut it, record, &delivery.name, &mut attempts, &mut room);
            it.delivery = Some(delivery);
            if record.state == DeliveryState::Pending {
                let closed = closed.get(&record.key.lane).copied();
                self.what_comes(&mut it, record, closed, today);
            }
            answer.deliveries.push(it);
        }
        Ok(())
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
        let contract = subscription.and_then(|it| today.contract(it));
        let Some(contract) = contract else {
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
        // The attempt under way is no longer planned.
        let planned = sends.into_iter().skip(usize::from(flies)).map(|send| v1::PlannedSend {
            attempt: map::small(send.attempt),
            earliest: map::moment(due.plus(send.earliest)),
            latest: map::moment(due.plus(send.latest)),
            timeout: Some(time::duration(contract.timeout(send.attempt))),
        });
        it.planned = planned.collect();
        it.ends = ends(contract, last);
    }
}

/// From one moment to a later one.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.millis() - from.millis()).unwrap_or(0))
}

fn wire_stage(stage: &EventStage) -> v1::EventStage {
    match stage {
        EventStage::Waiting => v1::EventStage::Waiting,
        EventStage::Claimed(_) => v1::EventStage::Claimed,
        EventStage::Matched => v1::EventStage::Matched,
    }
}

/// Tells of each subscription whether the event went to it.
fn subscriptions(
    event: &Event,
    stage: &EventStage,
    today: &Today,
    went_to: &HashSet<LaneNo>,
    owners: &HashMap<LaneNo, SubscriptionName>,
    answer: &mut v1::ExplainEventResponse,
) {
    let (mut listed, mut others) = (0, BTreeMap::new());
    for subscription in &today.subscriptions {
        let name = subscription.name().to_string();
        if went_to.contains(&subscription.lane) {
            let it = v1::ExplainedSubscription { name, matched: true, ..Default::default() };
            answer.subscriptions.push(it);
            continue;
        }
        let Some(contract) = today.contract(subscription) else { continue };
        if listed == LISTED {
            let check = preview::refused_by(subscription, &today.tenant, event, contract);
            *others.entry(check.unwrap_or("")).or_insert(0) += 1;
            continue;
        }
        listed += 1;
        let match_steps = preview::steps(subscription, &today.tenant, event, contract);
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
        (EventStage::Claimed(_), true) => "a node is matching or sending it just now",
        (EventStage::Matched, true) if subscription.common.create_time > event.accept_time() => {
            "it would match today; the subscription was made after the event was accepted"
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
        let attempt = v1::Attempt { name: attempt.to_string(), ..told(logged) };
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
        Some(PendingReason::RateLimited) => "its subscription's rate".to_owned(),
        Some(PendingReason::Paused) => {
            "its subscription to be resumed, or its tenant's suspension to end".to_owned()
        }
        Some(PendingReason::AwaitingRevision) => {
            "a node that serves the configuration it needs".to_owned()
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
