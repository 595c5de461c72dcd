//! Records of what is no exchange: nothing is filled in but what every record has.

use std::sync::Arc;

use pregon_core::attempt::{AttemptRecord, RecordKind, Timing};
use pregon_core::clock::Timestamp;
use pregon_core::event::Event;
use pregon_core::id::{ContractId, DeliveryKey, NodeId};

/// A record of this node under this revision, to be completed.
pub(super) fn blank(
    node: &NodeId,
    revision: i64,
    key: DeliveryKey,
    event: &Event,
) -> AttemptRecord {
    AttemptRecord {
        key,
        kind: RecordKind::Ended,
        number: 1,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        environment: event.environment,
        node: node.clone(),
        start: Timestamp::default(),
        timing: Timing::default(),
        outcome: None,
        end: None,
        error_class: None,
        reason: String::new(),
        status: 0,
        url: Arc::default(),
        remote: None,
        next_attempt: None,
        configuration_revision: revision,
        contract: ContractId::standard_webhooks(),
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    }
}
