//! Requests that may come twice.
//!
//! A write with a `request_id` is known by a hash of caller, method and that id, and its content
//! by a digest; the store remembers both with the answer, in the commit itself. Maps have no order
//! on the wire, so a digest takes them apart from the rest, sorted.
//!
//! Replays and cancels are no commits of configuration. What makes their repeats harmless is the
//! queue (a replay's tag, the state of a delivery); that the same id is not used for something
//! else is watched here in memory, for as many as [`RECENT`] requests. Of a run over many deliveries
//! the store remembers when it began and what it came to, by commits of nothing else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_core::limits;
use pregon_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

mod runs;

/// Request ids of replays and cancels that are remembered: some 100 bytes each.
const RECENT: usize = 100_000;

/// A request message whose content can be hashed.
pub(crate) trait Canonical: Message + Clone {
    /// Its map, if it has one; labels or attributes as a rule.
    fn labels_mut(&mut self) -> Option<&mut HashMap<String, String>> {
        None
    }
}

macro_rules! with_labels {
    ($($request:ident: |$it:ident| $labels:expr;)*) => {$(
        impl Canonical for v1::$request {
            fn labels_mut(&mut self) -> Option<&mut HashMap<String, String>> {
                let $it = self;
                $labels
            }
        }
    )*};
}

with_labels! {
    CreateTenantRequest: |it| it.tenant.as_mut().map(|it| &mut it.labels);
    CreateEventTypeRequest: |it| it.event_type.as_mut().map(|it| &mut it.labels);
    CreateSubscriptionRequest: |it| it.subscription.as_mut().map(|it| &mut it.labels);
    CreateContractRequest: |it| it.contract.as_mut().map(|it| &mut it.labels);
    CreateCallbackRequest: |it| it.callback.as_mut().map(|it| &mut it.labels);
    ListSubscriptionsRequest: |it| Some(&mut it.labels);
    ListCallbacksRequest: |it| Some(&mut it.labels);
    ReplayDeliveriesRequest: |it| Some(&mut it.attributes);
    RetryNowRequest: |it| Some(&mut it.attributes);
    DeliverMissingRequest: |it| Some(&mut it.attributes);
}

impl Canonical for v1::TestSubscriptionRequest {
    /// The one map of a test is of attributes.
    fn labels_mut(&mut self) -> Option<&mut HashMap<String, String>> {
        match self.sample.as_mut()? {
            v1::test_subscription_request::Sample::Event(event) => Some(&mut event.attributes),
            v1::test_subscription_request::Sample::EventType(_) => None,
        }
    }
}

impl Canonical for v1::CreateApiKeyRequest {}
impl Canonical for v1::ListApiKeysRequest {}
impl Canonical for v1::ListAuditEntriesRequest {}
impl Canonical for v1::CreateSecretRequest {}
impl Canonical for v1::RotateSecretRequest {}
impl Canonical for v1::ReplayDeliveryRequest {}
impl Canonical for v1::EraseEventsRequest {}
impl Canonical for v1::WatchDeliveriesRequest {}
impl Canonical for v1::CancelDeliveryRequest {}
impl Canonical for v1::CancelEventRequest {}
impl Canonical for v1::ListTenantsRequest {}
impl Canonical for v1::ListEventTypesRequest {}
impl Canonical for v1::ListSecretsRequest {}
impl Canonical for v1::ListContractsRequest {}
impl Canonical for v1::ListEventsRequest {}
impl Canonical for v1::ListDeliveriesRequest {}
impl Canonical for v1::ListAttemptsRequest {}
impl Canonical for v1::ListNodesRequest {}
impl Canonical for v1::ResealDocumentsRequest {}

/// A hash of a message: equal for equal content, whatever the order of its labels.
pub(crate) fn content<M: Canonical>(message: &M) -> [u8; 32] {
    let mut message = message.clone();
    let labels = message.labels_mut().map(std::mem::take).unwrap_or_default();
    let mut hash = Sha256::new();
    add(&mut hash, &message.encode_to_vec());
    for (key, value) in labels.into_iter().collect::<BTreeMap<_, _>>() {
        add(&mut hash, key.as_bytes());
        add(&mut hash, value.as_bytes());
    }
    hash.finalize().into()
}

/// A request with a `request_id`, as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// Names the request.
    pub id: [u8; 16],
    /// Tells what was asked.
    pub digest: [u8; 16],
}

impl Repeat {
    /// None where the caller gave no `request_id`.
    pub(crate) fn of<M: Canonical>(
        caller: &str,
        method: &str,
        request_id: &str,
        message: &M,
    ) -> Option<Self> {
        if request_id.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        for part in [caller, method, request_id] {
            add(&mut hash, part.as_bytes());
        }
        Some(Self { id: half(hash.finalize().into()), digest: half(content(message)) })
    }
}

/// The refusal of an id that was used for something else.
pub(crate) fn reused() -> Refusal {
    Refusal::new(
        Reason::RequestIdReused,
        "the request_id was used for another request within the last 24 hours",
    )
}

fn add(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    hash.first_chunk().copied().unwrap_or_default()
}

/// Request ids of replays and cancels, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Digests by id.
    known: HashMap<[u8; 16], [u8; 16]>,
    order: VecDeque<([u8; 16], Timestamp)>,
}

impl Recent {
    /// Remembers a request, or refuses it where its id was used for another one.
    pub(crate) fn note(&self, repeat: &Repeat, now: Timestamp) -> Result<(), Refusal> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((id, noted)) = memory.order.front().copied()
            && (memory.order.len() >= RECENT || now.since(noted) >= limits::REQUEST_ID_KEPT)
        {
            memory.order.pop_front();
            memory.known.remove(&id);
        }
        match memory.known.get(&repeat.id) {
            Some(digest) if *digest == repeat.digest => Ok(()),
            Some(_) => Err(reused()),
            None => {
                memory.known.insert(repeat.id, repeat.digest);
                memory.order.push_back((repeat.id, now));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(labels: &[(&str, &str)], request_id: &str) -> v1::CreateTenantRequest {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let tenant = v1::Tenant { labels, ..Default::default() };
        v1::CreateTenantRequest {
            tenant: Some(tenant),
            request_id: request_id.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn the_order_of_labels_does_not_count() {
        let names: Vec<_> = (0..20).map(|i| i.to_string()).collect();
        let there: Vec<_> = names.iter().map(|n| (n.as_str(), "x")).collect();
        let back: Vec<_> = there.iter().rev().copied().collect();
        assert_eq!(content(&request(&there, "a")), content(&request(&back, "a")));
        assert_ne!(content(&request(&[("a", "bc")], "")), content(&request(&[("ab", "c")], "")));
    }

    #[test]
    fn a_request_is_known_by_caller_method_and_id() {
        let repeat = |caller, method, id| Repeat::of(caller, method, id, &request(&[], "x"));
        assert_eq!(repeat("me", "CreateTenant", ""), None);
        let one = repeat("me", "CreateTenant", "x").unwrap();
        assert_eq!(repeat("me", "CreateTenant", "x"), Some(one));
        for other in [("you", "CreateTenant", "x"), ("me", "Create", "Tenantx")] {
            assert_ne!(repeat(other.0, other.1, other.2).unwrap().id, one.id);
        }
    }

    #[test]
    fn recent_ids_are_watched_for_a_day() {
        let recent = Recent::default();
        let now = Timestamp::from_millis(0);
        let one = Repeat { id: [1; 16], digest: [1; 16] };
        let other = Repeat { id: [1; 16], digest: [2; 16] };
        assert!(recent.note(&one, now).is_ok());
        assert!(recent.note(&one, Timestamp::from_millis(5)).is_ok());
        assert_eq!(recent.note(&other, now).unwrap_err().reason, Reason::RequestIdReused);
        assert!(recent.note(&other, now.plus(limits::REQUEST_ID_KEPT)).is_ok());
    }
}
