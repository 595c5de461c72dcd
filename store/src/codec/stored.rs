//! How values of the vocabulary are written down, in every engine.
//!
//! Numbers of states and reasons are part of what is stored: they are never given anew.

use std::sync::Arc;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Attributes, Environment, Erasure, Event, NewEvent, Terms};
use pregon_core::id::{EventId, EventTypeId, Position, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason, PendingReason};
use pregon_core::trace::TraceContext;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// First byte of an event's head: what follows is the head alone. What has no attributes is
/// written so, as it was before there were any, and costs nothing more.
const HEAD_PLAIN: u8 = 1;
/// First byte of an event's head: behind it come the attributes, and behind those how it is to be
/// delivered, where that is said.
const HEAD_WITH_ATTRIBUTES: u8 = 2;
/// The revision in the head of an event of which it is said how it is to be delivered; its own is
/// behind that. A release that does not know of terms reads no further than the attributes, and
/// waits for this revision for ever: it leaves the event to nodes that heed them.
const NOT_FOR_ALL: i64 = i64::MAX;
/// First byte of an erased event's head: behind it comes why and when. Scripts know the number.
pub(crate) const HEAD_ERASED: u8 = 3;

/// Number of a delivery that waits or is attempted.
pub(crate) const PENDING: i64 = 0;
/// Number of a delivery that was acknowledged.
pub(crate) const SUCCEEDED: i64 = 1;
/// Number of a delivery that was given up.
pub(crate) const FAILED: i64 = 2;
/// Number of a delivery that was called off.
pub(crate) const CANCELLED: i64 = 3;

/// What an event waits for whose time has not come, in the place of a pending reason's number.
/// Scripts know it.
pub(crate) const SCHEDULED: i64 = 100;

/// A state's number.
pub(crate) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => PENDING,
        DeliveryState::Succeeded => SUCCEEDED,
        DeliveryState::Failed => FAILED,
        DeliveryState::Cancelled => CANCELLED,
    }
}

/// The state of a number.
pub(crate) fn state_of(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.iter().copied().find(|state| state_code(*state) == code)
}

/// A pending reason's number.
pub(crate) fn pending_code(reason: PendingReason) -> i64 {
    match reason {
        PendingReason::Queued => 0,
        PendingReason::InFlight => 1,
        PendingReason::RetryScheduled => 2,
        PendingReason::LaneFull => 3,
        PendingReason::RateLimited => 4,
        PendingReason::Paused => 5,
        PendingReason::AwaitingRevision => 6,
        PendingReason::Suspect => 7,
        PendingReason::BreakerOpen => 8,
    }
}

/// The pending reason of a number.
pub(crate) fn pending_of(code: i64) -> Option<PendingReason> {
    PendingReason::ALL.iter().copied().find(|reason| pending_code(*reason) == code)
}

/// An end reason's number.
pub(crate) fn end_code(reason: EndReason) -> i64 {
    match reason {
        EndReason::AttemptsExhausted => 1,
        EndReason::Refused => 2,
        EndReason::RenderFailed => 3,
        EndReason::Expired => 4,
        EndReason::Poison => 5,
        EndReason::ByCaller => 6,
        EndReason::SubscriptionDisabled => 7,
        EndReason::SubscriptionDeleted => 8,
        EndReason::TenantDeleted => 9,
        EndReason::Erased => 10,
    }
}

/// The end reason of a number.
pub(crate) fn end_of(code: i64) -> Option<EndReason> {
    EndReason::ALL.iter().copied().find(|reason| end_code(*reason) == code)
}

/// What is stored of an event beside its number, accept time, tenant and data.
#[derive(Deserialize)]
pub(crate) struct Head {
    /// The given id; none: it follows from the position.
    pub id: Option<EventId>,
    pub version: u32,
    pub event_type: EventTypeId,
    pub environment: Environment,
    pub occur_time: Option<Timestamp>,
    pub min_revision: i64,
    pub trace: Option<String>,
    /// Written behind the rest, where there are any.
    #[serde(skip)]
    pub attributes: Attributes,
    /// Written behind those, where there are any.
    #[serde(skip)]
    pub terms: Option<Arc<Terms>>,
    /// Written behind the rest, of an erased event.
    #[serde(skip)]
    pub erased: Option<Erasure>,
}

/// [`Head`] as it is written, without copies.
#[derive(Serialize)]
struct HeadRef<'a> {
    id: Option<&'a EventId>,
    version: u32,
    event_type: &'a EventTypeId,
    environment: Environment,
    occur_time: Option<Timestamp>,
    min_revision: i64,
    trace: Option<&'a str>,
}

/// The head of a new event.
pub(crate) fn head_of(event: &NewEvent) -> Result<Vec<u8>, postcard::Error> {
    let trace = event.trace.as_ref().map(TraceContext::to_text);
    let head = HeadRef {
        id: event.id.as_ref(),
        version: event.version,
        event_type: &event.event_type,
        environment: event.environment,
        occur_time: event.occur_time,
        min_revision: if event.terms.is_some() { NOT_FOR_ALL } else { event.min_revision },
        trace: trace.as_deref(),
    };
    if event.attributes.is_empty() && event.terms.is_none() {
        return postcard::to_extend(&head, vec![HEAD_PLAIN]);
    }
    let bytes = postcard::to_extend(&head, vec![HEAD_WITH_ATTRIBUTES])?;
    let bytes = postcard::to_extend(&event.attributes, bytes)?;
    match &event.terms {
        Some(terms) => postcard::to_extend(&(event.min_revision, &**terms), bytes),
        None => Ok(bytes),
    }
}

/// The head of what is left of an event: its id, type, environment and times, and why it was erased.
pub(crate) fn erased_head(event: &Event, erasure: &Erasure) -> Result<Vec<u8>, postcard::Error> {
    let given = event.id != EventId::assigned(event.position);
    let head = HeadRef {
        id: given.then_some(&event.id),
        version: event.version,
        event_type: &event.event_type,
        environment: event.environment,
        occur_time: event.given_occur_time,
        min_revision: event.min_revision,
        trace: None,
    };
    let bytes = postcard::to_extend(&head, vec![HEAD_ERASED])?;
    postcard::to_extend(erasure, bytes)
}

/// Reads a head; none: it cannot be read.
pub(crate) fn read_head(bytes: &[u8]) -> Option<Head> {
    let (format, rest) = bytes.split_first()?;
    match *format {
        HEAD_PLAIN => postcard::from_bytes(rest).ok(),
        HEAD_WITH_ATTRIBUTES => {
            let (head, rest) = postcard::take_from_bytes::<Head>(rest).ok()?;
            let (attributes, rest) = postcard::take_from_bytes(rest).ok()?;
            if rest.is_empty() {
                return Some(Head { attributes, ..head });
            }
            let (min_revision, terms): (i64, Terms) = postcard::from_bytes(rest).ok()?;
            let terms = Some(Arc::new(terms));
            Some(Head { attributes, min_revision, terms, ..head })
        }
        HEAD_ERASED => {
            let (head, rest) = postcard::take_from_bytes::<Head>(rest).ok()?;
            Some(Head { erased: Some(postcard::from_bytes(rest).ok()?), ..head })
        }
        _ => None,
    }
}

/// Puts an event together from what is stored of it.
pub(crate) fn event(position: Position, tenant: TenantId, head: Head, data: Bytes) -> Event {
    Event {
        position,
        tenant,
        id: head.id.unwrap_or_else(|| EventId::assigned(position)),
        version: head.version,
        event_type: head.event_type,
        environment: head.environment,
        given_occur_time: head.occur_time,
        min_revision: head.min_revision,
        trace: head.trace.as_deref().and_then(TraceContext::from_text),
        terms: head.terms,
        attributes: head.attributes,
        data,
        erased: head.erased,
    }
}

/// An event as entries are written from it, its id given whatever it is.
pub(crate) fn as_new(event: &Event) -> NewEvent {
    NewEvent {
        tenant: event.tenant.clone(),
        id: Some(event.id.clone()),
        version: event.version,
        event_type: event.event_type.clone(),
        environment: event.environment,
        occur_time: event.given_occur_time,
        since: None,
        min_revision: event.min_revision,
        trace: event.trace.clone(),
        terms: event.terms.clone(),
        attributes: event.attributes.clone(),
        data: event.data.clone(),
    }
}

/// What must be the same for a publish to be a repeat.
pub(crate) fn content_digest(event: &NewEvent) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(event.event_type.as_str());
    hash.update([0]);
    hash.update(event.environment.word());
    hash.update([0]);
    // Without attributes the digest is what it was before there were any: what follows here is
    // never 2.
    if !event.attributes.is_empty() {
        hash.update([2]);
        hash.update((event.attributes.len() as u64).to_be_bytes());
        for text in event.attributes.iter().flat_map(|(key, value)| [key, value]) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    // The same goes for how it is to be delivered, and 3.
    if let Some(terms) = &event.terms {
        hash.update([3]);
        let Terms { deliver_time, deliver_within, subscriptions } = &**terms;
        let time = deliver_time.map_or(i64::MIN, Timestamp::millis);
        let within = deliver_within.map_or(0, |within| within.as_millis());
        hash.update(time.to_be_bytes());
        hash.update(within.to_be_bytes());
        hash.update((subscriptions.len() as u64).to_be_bytes());
        for id in subscriptions {
            hash.update((id.as_str().len() as u64).to_be_bytes());
            hash.update(id.as_str());
        }
    }
    match event.occur_time {
        None => hash.update([0]),
        Some(time) => {
            hash.update([1]);
            hash.update(time.millis().to_be_bytes());
        }
    }
    hash.update(&event.data);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use pregon_core::id::SubscriptionId;
    use pregon_core::limits;

    use super::*;

    fn new_event(attributes: Attributes) -> NewEvent {
        NewEvent {
            tenant: TenantId::parse("acme").unwrap(),
            id: None,
            version: 7,
            event_type: EventTypeId::parse("a.b").unwrap(),
            environment: Environment::Live,
            occur_time: None,
            since: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes,
            data: Bytes::from_static(b"1"),
        }
    }

    /// What the release before attributes wrote of this event: its head, and its digest.
    #[test]
    fn an_event_without_attributes_is_written_as_before_there_were_any() {
        let plain = new_event(Attributes::new());
        let head = head_of(&plain).unwrap();
        assert_eq!(head, b"\x01\x00\x07\x03a.b\x00\x00\x00\x00");
        let found = read_head(&head).unwrap();
        assert_eq!((found.version, found.attributes), (7, Attributes::new()));
        let digest = [
            0x44, 0x28, 0x00, 0x6b, 0xdd, 0xd6, 0xf4, 0xf8, 0x47, 0x19, 0xf1, 0x71, 0x6a, 0xbd,
            0xa0, 0x54,
        ];
        assert_eq!(content_digest(&plain), digest);

        let described = new_event(Attributes::from([("k".to_owned(), "v".to_owned())]));
        let head = head_of(&described).unwrap();
        assert_eq!(head, b"\x02\x00\x07\x03a.b\x00\x00\x00\x00\x01\x01k\x01v");
        assert_eq!(read_head(&head).unwrap().attributes, described.attributes);
        assert!(read_head(&[&[4], &head[1..]].concat()).is_none(), "a later form");
    }

    #[test]
    fn terms_come_back_and_are_content() {
        let terms = Terms {
            deliver_time: Some(Timestamp::from_millis(77)),
            deliver_within: Some(std::time::Duration::from_millis(1500)),
            subscriptions: ["a", "b"].map(|id| SubscriptionId::parse(id).unwrap()).into(),
        };
        let with = |terms: Terms| NewEvent {
            min_revision: 5,
            terms: Some(Arc::new(terms)),
            ..new_event(Attributes::from([("k".to_owned(), "v".to_owned())]))
        };
        let head = read_head(&head_of(&with(terms.clone())).unwrap()).unwrap();
        assert_eq!(head.terms.as_deref(), Some(&terms));
        assert_eq!((head.min_revision, head.attributes.len()), (5, 1));
        let digest = |terms: &Terms| content_digest(&with(terms.clone()));
        let others = [
            Terms { deliver_time: None, ..terms.clone() },
            Terms { deliver_within: None, ..terms.clone() },
            Terms { subscriptions: Vec::new(), ..terms },
        ];
        assert!(others.iter().all(|other| digest(other) != digest(&terms)));
    }

    /// A release that knows nothing of terms reads the head and the attributes, and stops there.
    #[test]
    fn who_does_not_know_terms_waits_for_a_revision_that_never_comes() {
        let terms = Terms { deliver_within: Some(limits::DELIVER_AHEAD), ..Terms::default() };
        let event = NewEvent { terms: Some(Arc::new(terms)), ..new_event(Attributes::new()) };
        let head = head_of(&event).unwrap();
        let (before, rest) = postcard::take_from_bytes::<Head>(&head[1..]).unwrap();
        assert_eq!((head[0], before.min_revision), (HEAD_WITH_ATTRIBUTES, i64::MAX));
        assert_eq!(postcard::from_bytes::<Attributes>(rest).unwrap(), Attributes::new());
    }

    #[test]
    fn what_is_left_of_an_event_is_its_name_its_kind_and_its_times() {
        let position = Position { ms: 9, partition: 0, n: 3 };
        let new = NewEvent {
            id: Some(EventId::parse("e1").unwrap()),
            occur_time: Some(Timestamp::from_millis(5)),
            ..new_event(Attributes::from([("k".to_owned(), "hush".to_owned())]))
        };
        let head = read_head(&head_of(&new).unwrap()).unwrap();
        let before = event(position, new.tenant.clone(), head, new.data.clone());
        let erasure = Erasure { time: Timestamp::from_millis(11), reason: "asked".into() };
        let head = erased_head(&before, &erasure).unwrap();
        assert!(!head.windows(4).any(|it| it == b"hush"));
        let after = event(position, new.tenant, read_head(&head).unwrap(), Bytes::new());
        let left = Event {
            attributes: Attributes::new(),
            data: Bytes::new(),
            erased: Some(erasure),
            ..before
        };
        assert_eq!(after, left);
    }

    #[test]
    fn every_word_comes_back_from_its_number() {
        for state in DeliveryState::ALL {
            assert_eq!(state_of(state_code(*state)), Some(*state));
        }
        for reason in PendingReason::ALL {
            assert_eq!(pending_of(pending_code(*reason)), Some(*reason));
        }
        for reason in EndReason::ALL {
            assert_eq!(end_of(end_code(*reason)), Some(*reason));
        }
        assert_eq!((state_of(9), pending_of(9), end_of(0)), (None, None, None));
    }
}
