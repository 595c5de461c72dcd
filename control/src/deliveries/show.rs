//! Events and deliveries, from the log to the wire.

use pregon_core::event::Event;
use pregon_core::id::{
    ContractId, DeliveryKey, DeliveryName, NodeId, SubscriptionId, SubscriptionName,
};
use pregon_core::outcome::{DeliveryState, PendingReason};
use pregon_proto::v1;
use pregon_rpc::time;
use pregon_store::log::DeliveryRecord;

use crate::map;

/// An event with its data, which is not there twice where nobody else holds it.
pub(crate) fn event(mut event: Event) -> v1::Event {
    let erased = event.erased.take();
    let terms = event.terms.take();
    let terms = terms.as_deref();
    let tenant = event.tenant.clone();
    let chosen = terms.map_or(&[][..], |terms| &terms.subscriptions);
    let name =
        |id: &SubscriptionId| SubscriptionName { tenant: tenant.clone(), subscription: id.clone() };
    let json = String::from_utf8(std::mem::take(&mut event.data).into())
        .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned());
    v1::Event {
        name: event.name().to_string(),
        id: event.id.to_string(),
        version: map::small(event.version),
        r#type: event.event_type.to_string(),
        environment: map::environment(event.environment).into(),
        data: erased.is_none().then_some(v1::event::Data::Json(json)),
        occur_time: map::moment(event.occur_time()),
        accept_time: map::moment(event.accept_time()),
        attributes: event.attributes.into_iter().collect(),
        deliver_time: terms.and_then(|it| it.deliver_time).and_then(map::moment),
        deliver_within: terms.and_then(|it| it.deliver_within).map(time::duration),
        subscriptions: chosen.iter().map(|id| name(id).to_string()).collect(),
        erasure: erased.map(|it| v1::Erasure { time: map::moment(it.time), reason: it.reason }),
        ..Default::default()
    }
}

/// The name of a delivery that is logged.
pub(super) fn name(record: &DeliveryRecord) -> DeliveryName {
    DeliveryName { tenant: record.event.tenant.clone(), delivery: record.key }
}

fn name_of(record: &DeliveryRecord, key: DeliveryKey) -> String {
    DeliveryName { delivery: key, ..name(record) }.to_string()
}

/// A delivery; its subscription is whoever the lane belongs to.
pub(crate) fn delivery(
    record: &DeliveryRecord,
    owner: Option<&SubscriptionName>,
    contract: Option<&ContractId>,
) -> v1::Delivery {
    let pending = record.state == DeliveryState::Pending;
    let waits = record.pending_reason == Some(PendingReason::RetryScheduled);
    let flies = record.pending_reason == Some(PendingReason::InFlight);
    v1::Delivery {
        name: name(record).to_string(),
        event: record.event.name().to_string(),
        event_version: map::small(record.event.version),
        event_type: record.event.event_type.name(),
        subscription: owner.map(ToString::to_string).unwrap_or_default(),
        environment: map::environment(record.event.environment).into(),
        contract: contract.map(ContractId::name).unwrap_or_default(),
        state: map::state(record.state).into(),
        pending_reason: record
            .pending_reason
            .filter(|_| pending)
            .map_or(0, |reason| map::pending_reason(reason).into()),
        end_reason: record
            .end_reason
            .filter(|_| !pending)
            .map_or(0, |reason| map::end_reason(reason).into()),
        attempt_count: map::small(record.attempts),
        next_attempt_time: record.next_attempt.filter(|_| waits).and_then(map::moment),
        create_time: map::moment(record.create_time),
        end_time: record.end_time.filter(|_| !pending).and_then(map::moment),
        replay_of: record
            .key
            .replay
            .map(|_| name_of(record, record.key.original()))
            .unwrap_or_default(),
        test: false,
        replayed_by: record
            .replays
            .iter()
            .map(|tag| name_of(record, DeliveryKey { replay: Some(*tag), ..record.key }))
            .collect(),
        node: record.node.as_ref().filter(|_| flies).map(NodeId::name).unwrap_or_default(),
    }
}
