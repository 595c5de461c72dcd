//! What a node answers to a test send: bytes to the store, written by nodes and read by the control
//! plane.

use std::fmt;

use pregon_core::attempt::AttemptRecord;
use serde::{Deserialize, Serialize};

/// How a test send came out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReply {
    /// As for any attempt; the response is kept also where it acknowledged, with up to 64 KiB of
    /// its body.
    pub record: AttemptRecord,
    /// Where it went.
    pub url: String,
    /// The request's headers as sent, in order, but for credentials, which are `[masked]`.
    pub headers: Vec<(String, String)>,
    /// The request's body exactly as sent; its beginning where all of it would not fit into an
    /// answer ([`TEST_RESULT_MAX`](crate::test_send::TEST_RESULT_MAX)).
    pub body: Vec<u8>,
    /// Why no request could be made; none where one was.
    pub error: Option<String>,
}

impl TestReply {
    /// The bytes for the store.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and lists: none of them can fail to be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote; none for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl fmt::Debug for TestReply {
    /// Not what was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestReply")
            .field("status", &self.record.status)
            .field("error_class", &self.record.error_class)
            .field("body_len", &self.body.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use pregon_core::attempt::{RecordKind, ResponseHead, Timing};
    use pregon_core::clock::Timestamp;
    use pregon_core::event::Environment;
    use pregon_core::id::{
        ContractId, DeliveryKey, EventTypeId, LaneNo, NodeId, Position, SecretId, TenantId,
    };
    use pregon_core::outcome::AttemptOutcome;

    use super::*;

    /// A record with something in every field but the last.
    pub(crate) fn record(number: u32) -> AttemptRecord {
        let position = Position { ms: 1_700_000_000_000, partition: 0, n: 0 };
        AttemptRecord {
            key: DeliveryKey { position, lane: LaneNo(7), replay: None },
            kind: RecordKind::Attempt,
            number,
            tenant: TenantId::parse("acme").unwrap(),
            event_type: EventTypeId::parse("order.captured").unwrap(),
            environment: Environment::Test,
            node: NodeId::parse("n1").unwrap(),
            start: Timestamp::from_millis(1_700_000_000_001),
            timing: Timing { total: 5, ..Timing::default() },
            outcome: Some(AttemptOutcome::Succeeded),
            end: None,
            error_class: None,
            reason: String::new(),
            status: 200,
            url: Arc::from("https://acme.example/hook"),
            remote: Some(([127, 0, 0, 1], 9000).into()),
            next_attempt: None,
            configuration_revision: 101,
            contract: ContractId::parse("preauth").unwrap(),
            contract_revision: 0,
            secrets: vec![SecretId::parse("k").unwrap()],
            response: Some(ResponseHead { body: b"ok".to_vec(), ..ResponseHead::default() }),
            late: false,
            resent: false,
            headers: Default::default(),
        }
    }

    #[test]
    fn replies_come_back_from_their_bytes() {
        let record = record(1);
        let reply = TestReply {
            record,
            url: "https://acme.example/hook".into(),
            headers: vec![("authorization".into(), "[masked]".into())],
            body: b"{}".to_vec(),
            error: None,
        };
        let bytes = reply.encode();
        assert_eq!(TestReply::decode(&bytes), Some(reply));
        assert_eq!(TestReply::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(TestReply::decode(b""), None);
    }
}
