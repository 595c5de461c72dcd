//! What the log tells, whichever engine keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pregon_core::attempt::{AttemptRecord, End, RecordKind, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::id::{ContractId, DeliveryKey, NodeId};

use crate::batch::HeldDelivery;

/// What is logged of a delivery, oldest first. A settle that was repeated logged its attempts
/// twice, the second time as late: one of them is left.
pub(crate) fn of_delivery(
    mut records: Vec<AttemptRecord>,
    key: &DeliveryKey,
) -> Vec<AttemptRecord> {
    records.retain(|record| record.key == *key);
    records.sort_by_key(|record| (record.number, record.start, record.late));
    records.dedup_by(|later, earlier| {
        (later.number, later.start, later.kind) == (earlier.number, earlier.start, earlier.kind)
            && later.node == earlier.node
    });
    records
}

/// What is logged of an event, by delivery, each oldest first.
pub(crate) fn by_delivery(
    records: Vec<AttemptRecord>,
) -> BTreeMap<DeliveryKey, Vec<AttemptRecord>> {
    let mut all: BTreeMap<DeliveryKey, Vec<AttemptRecord>> = BTreeMap::new();
    for record in records {
        all.entry(record.key).or_default().push(record);
    }
    all.into_iter().map(|(key, records)| (key, of_delivery(records, &key))).collect()
}

/// How a delivery ended, if its records tell. What a late record says of the end was not settled
/// and does not count.
pub(crate) fn end(records: &[AttemptRecord]) -> Option<End> {
    records.iter().rev().filter(|record| !record.late).find_map(|record| record.end)
}

/// The record of an attempt whose end nobody saw, found out at `now`.
pub(crate) fn lost(held: &HeldDelivery, node: NodeId, now: Timestamp) -> Option<AttemptRecord> {
    let event = &held.event;
    let contract = ContractId::parse("unknown").ok()?; // the queue knows of none
    Some(AttemptRecord {
        key: held.key,
        kind: RecordKind::Lost,
        number: held.attempts.saturating_add(1),
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        environment: event.environment,
        node,
        start: now,
        timing: Timing::default(),
        outcome: None,
        end: None,
        error_class: None,
        reason: "the lease ran out; it may have been sent".to_owned(),
        status: 0,
        url: Arc::from(""),
        remote: None,
        next_attempt: None,
        configuration_revision: 0,
        contract,
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    })
}
