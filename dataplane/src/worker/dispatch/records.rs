//! Records of ends and losses: of what was no attempt of this node's.

use std::sync::Arc;

use pregon_core::attempt::{AttemptRecord, End, RecordKind};
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, NodeId};
use pregon_core::outcome::DeliveryState;
use pregon_store::settlement::Transition;
use pregon_telemetry::AttemptSeen;

use super::Dispatcher;
use crate::snapshot::Lane;
use crate::worker::record;

impl Dispatcher {
    /// Tells of what was no attempt of this node's.
    pub(super) fn tell_end(&self, record: &AttemptRecord, event: &Event, lane: Option<&Lane>) {
        self.telemetry.attempt(AttemptSeen {
            record,
            event,
            subscription: lane.map(|lane| &lane.name),
            parent: None,
            render: 0,
            ended: self.telemetry.now(),
        });
    }

    /// A record of an attempt that another node may have made before it lost its lease.
    pub(super) fn lost_record(
        &self,
        key: DeliveryKey,
        event: &Event,
        lane: &Lane,
        number: u32,
        node: &NodeId,
        wall: Timestamp,
    ) -> Arc<AttemptRecord> {
        Arc::new(AttemptRecord {
            node: node.clone(),
            url: Arc::clone(lane.url.shared()),
            reason: "may have been sent: the node lost its lease".to_owned(),
            ..self.record(key, event, RecordKind::Lost, number, wall)
        })
    }

    /// A record of an end without an attempt.
    pub(super) fn end_record(
        &self,
        key: DeliveryKey,
        event: &Event,
        number: u32,
        to: Transition,
        wall: Timestamp,
    ) -> Arc<AttemptRecord> {
        let record = self.record(key, event, RecordKind::Ended, number, wall);
        Arc::new(AttemptRecord { end: to.end(), ..record })
    }

    fn record(
        &self,
        key: DeliveryKey,
        event: &Event,
        kind: RecordKind,
        number: u32,
        start: Timestamp,
    ) -> AttemptRecord {
        let blank = record::blank(&self.node, self.snapshot.revision(), key, event);
        let record = AttemptRecord { kind, number, start, ..blank };
        match self.snapshot.lane(key.lane).map(|lane| &lane.contract) {
            None => record,
            Some(contract) => AttemptRecord {
                contract: contract.id().clone(),
                contract_revision: contract.revision(),
                ..record
            },
        }
    }
}

/// What a move means for the log.
pub(super) trait Ends {
    /// Whether the delivery ends with it.
    fn ends(&self) -> bool {
        self.end().is_some()
    }
    /// How it ends.
    fn end(&self) -> Option<End>;
}

impl Ends for Transition {
    fn end(&self) -> Option<End> {
        let (state, reason) = match self {
            Transition::Succeeded => (DeliveryState::Succeeded, None),
            Transition::Failed(reason) => (DeliveryState::Failed, Some(*reason)),
            Transition::Cancelled(reason) => (DeliveryState::Cancelled, Some(*reason)),
            Transition::Retry(_)
            | Transition::Waiting(_)
            | Transition::Later(..)
            | Transition::Held => return None,
        };
        Some(End { state, reason })
    }
}
