//! An event: published once for a tenant, known by (id, version), never changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Rule, Violations, words};
use crate::id::{EventId, EventName, EventTypeId, Position, SubscriptionId, TenantId};
use crate::limits;
use crate::trace::TraceContext;

/// What an event says beside its data, sorted by key; [`parse_attributes`] has the bounds.
pub type Attributes = BTreeMap<String, String>;

words! {
    /// Which side of a tenant an event or a subscription lives on; nothing ever crosses.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    Environment {
        /// The real thing.
        Live = "LIVE",
        /// For integration and tests.
        Test = "TEST",
    }
}

/// How an event is to be delivered, where its publisher said more than that it is. It is part of
/// the event's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// It is matched at this moment, not before; at most [`limits::DELIVER_AHEAD`] ahead when it is
    /// accepted.
    pub deliver_time: Option<Timestamp>,
    /// No attempt begins later than this after [`Event::ripe_time`]; in whole milliseconds.
    pub deliver_within: Option<Duration>,
    /// Only these of the tenant's subscriptions may receive it, in ascending order, each once; none
    /// named: all that match. [`limits::EVENT_SUBSCRIPTIONS`] at most.
    pub subscriptions: Vec<SubscriptionId>,
}

impl Terms {
    /// Whether nothing is said: then there are no terms.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes of the names in it: what bounds in bytes count.
    fn size(&self) -> usize {
        self.subscriptions.iter().map(|id| id.as_str().len()).sum()
    }
}

/// An event as its publisher gave it, before it has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// For whom it was published.
    pub tenant: TenantId,
    /// The id that the publisher gave; none: the store assigns one.
    pub id: Option<EventId>,
    /// Tells events of one id apart; 0 when the publisher counts none.
    pub version: u32,
    /// What happened.
    pub event_type: EventTypeId,
    /// Which subscriptions it may reach.
    pub environment: Environment,
    /// When it happened, if the publisher said so; else the accept time counts.
    pub occur_time: Option<Timestamp>,
    /// What was accepted before this under its id is nothing to it: it was another tenant's of the same
    /// name.
    pub since: Option<Timestamp>,
    /// Configuration that must be served before it is matched; 0: any.
    pub min_revision: i64,
    /// The trace of the publish, kept for later spans.
    pub trace: Option<TraceContext>,
    /// How it is to be delivered; none: at once, to all that match.
    pub terms: Option<Arc<Terms>>,
    /// What it says beside the data; part of its content.
    pub attributes: Attributes,
    /// JSON text, kept byte for byte.
    pub data: Bytes,
}

/// An event that the store accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it lies; also its accept time.
    pub position: Position,
    /// For whom it was published.
    pub tenant: TenantId,
    /// Its id, given or assigned.
    pub id: EventId,
    /// Tells events of one id apart.
    pub version: u32,
    /// What happened.
    pub event_type: EventTypeId,
    /// Which subscriptions it may reach.
    pub environment: Environment,
    /// When it happened, if the publisher said so.
    pub given_occur_time: Option<Timestamp>,
    /// Configuration that must be served before it is matched; 0: any.
    pub min_revision: i64,
    /// The trace of the publish; none: it came without one, and its trace was not sampled.
    pub trace: Option<TraceContext>,
    /// How it is to be delivered; none: at once, to all that match.
    pub terms: Option<Arc<Terms>>,
    /// What it says beside the data.
    pub attributes: Attributes,
    /// JSON text, byte for byte as published; empty of an erased event.
    pub data: Bytes,
    /// It was erased: what was published is gone.
    pub erased: Option<Erasure>,
}

/// Why an event was erased, and when. It stands in the place of what was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// When it was asked for.
    pub time: Timestamp,
    /// Why, in the words of who asked: one line of 1 to [`limits::ERASURE_REASON_LEN`] characters.
    pub reason: String,
}

impl NewEvent {
    /// Bytes of its data and attributes: what bounds in bytes count.
    pub fn size(&self) -> usize {
        self.data.len() + attributes_size(&self.attributes) + terms_size(self.terms.as_deref())
    }
}

impl Event {
    /// Bytes of its data and attributes: what bounds in bytes count.
    pub fn size(&self) -> usize {
        self.data.len() + attributes_size(&self.attributes) + terms_size(self.terms.as_deref())
    }

    /// When the store accepted it.
    pub fn accept_time(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.position.ms).unwrap_or(i64::MAX))
    }

    /// When it happened: as the publisher said, else when it was accepted.
    pub fn occur_time(&self) -> Timestamp {
        self.given_occur_time.unwrap_or_else(|| self.accept_time())
    }

    /// When it is to be matched, if that is later than when it was accepted.
    pub fn scheduled(&self) -> Option<Timestamp> {
        let at = self.terms.as_ref()?.deliver_time?;
        (at > self.accept_time()).then_some(at)
    }

    /// From when on it may be delivered: its time, or when it was accepted if that was later.
    pub fn ripe_time(&self) -> Timestamp {
        self.scheduled().unwrap_or_else(|| self.accept_time())
    }

    /// From when on no attempt begins; none: that is for the contract alone.
    pub fn expire_time(&self) -> Option<Timestamp> {
        let within = self.terms.as_ref()?.deliver_within?;
        Some(self.ripe_time().plus(within))
    }

    /// Whether its publisher chose no subscriptions.
    pub fn is_for_all(&self) -> bool {
        self.terms.as_ref().is_none_or(|terms| terms.subscriptions.is_empty())
    }

    /// Whether its publisher lets a subscription have it.
    pub fn is_for(&self, subscription: &SubscriptionId) -> bool {
        let chosen = |terms: &Arc<Terms>| terms.subscriptions.contains(subscription);
        self.is_for_all() || self.terms.as_ref().is_some_and(chosen)
    }

    /// The resource name.
    pub fn name(&self) -> EventName {
        EventName { tenant: self.tenant.clone(), id: self.id.clone(), version: self.version }
    }

    /// What a receiver deduplicates by: the id, with `-v{version}` behind it above version 0.
    pub fn unique_id(&self) -> String {
        if self.version == 0 {
            self.id.as_str().to_owned()
        } else {
            format!("{}-v{}", self.id, self.version)
        }
    }
}

/// Checks the attributes that a publisher gave in `field`: at most [`limits::ATTRIBUTES`], keys of
/// 1 to [`limits::ATTRIBUTE_KEY_LEN`] of `a-z 0-9 _`, values of at most
/// [`limits::ATTRIBUTE_VALUE_LEN`] characters. What is wrong is noted by its key, in order of keys,
/// for as many as there may be; what is not wrong is answered.
pub fn parse_attributes(
    field: &str,
    given: HashMap<String, String>,
    wrong: &mut Violations,
) -> Attributes {
    if given.len() > limits::ATTRIBUTES {
        wrong.add(field, Rule::TooMany, format!("must be {} at most", limits::ATTRIBUTES));
    }
    let mut attributes: Attributes = given.into_iter().collect();
    let mut seen = 0;
    attributes.retain(|key, value| {
        seen += 1;
        seen <= limits::ATTRIBUTES && is_attribute(field, key, value, wrong)
    });
    attributes
}

/// Whether it is within the rules; notes each that it breaks.
fn is_attribute(field: &str, key: &str, value: &str, wrong: &mut Violations) -> bool {
    let (key_max, value_max) = (limits::ATTRIBUTE_KEY_LEN, limits::ATTRIBUTE_VALUE_LEN);
    let shown: String = key.chars().take(key_max).collect();
    let place = || format!("{field}[{shown:?}]");
    let named = (1..=key_max).contains(&key.len())
        && key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if !named {
        let rule = format!("the key must be 1 to {key_max} of a-z 0-9 _");
        wrong.add(place(), Rule::Malformed, rule);
    }
    let fits = value.chars().count() <= value_max;
    if !fits {
        let rule = format!("the value must have {value_max} characters at most");
        wrong.add(place(), Rule::TooLong, rule);
    }
    named && fits
}

fn terms_size(terms: Option<&Terms>) -> usize {
    terms.map_or(0, Terms::size)
}

fn attributes_size(attributes: &Attributes) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> (Attributes, Vec<(String, Rule, String)>) {
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut wrong = Violations::new();
        let attributes = parse_attributes("event.attributes", given, &mut wrong);
        let wrong = wrong.as_slice().iter();
        let wrong = wrong.map(|v| (v.field.clone(), v.rule, v.description.clone())).collect();
        (attributes, wrong)
    }

    #[test]
    fn attributes_are_taken_up_to_their_bounds() {
        let (key, value) = ("k".repeat(32), "ñ".repeat(256));
        let given = [("subject", ""), ("a_0", "x\"y"), (&key, value.as_str())];
        let (attributes, wrong) = parse(&given);
        assert_eq!(wrong, []);
        assert_eq!(attributes.len(), 3);
        assert!(given.iter().all(|(key, value)| attributes[*key] == *value));
        let keys: Vec<String> = (0..16).map(|i| format!("k{i}")).collect();
        let given: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert_eq!(parse(&given).1, []);
    }

    #[test]
    fn a_wrong_attribute_is_reported_by_its_key() {
        let (key, value) = ("k".repeat(33), "ñ".repeat(257));
        let given =
            [("", "v"), ("A", "v"), ("a b", "v"), ("a\"b", "v"), (&key, "v"), ("long", &value)];
        let rule = "the key must be 1 to 32 of a-z 0-9 _";
        let bad_key =
            |key: &str| (format!("event.attributes[{key}]"), Rule::Malformed, rule.into());
        let long = "the value must have 256 characters at most".to_owned();
        let expected = [
            bad_key("\"\""),
            bad_key("\"A\""),
            bad_key("\"a b\""),
            bad_key("\"a\\\"b\""),
            bad_key(&format!("{:?}", "k".repeat(32))),
            ("event.attributes[\"long\"]".to_owned(), Rule::TooLong, long),
        ];
        let (attributes, wrong) = parse(&given);
        assert_eq!(wrong, expected);
        assert_eq!(attributes, Attributes::new());
    }

    #[test]
    fn too_many_attributes_are_reported_once() {
        let keys: Vec<String> = (0..100).map(|i| format!("K{i:03}")).collect();
        let given: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        let (_, wrong) = parse(&given);
        assert_eq!(wrong.len(), 17, "one for all, and one for each that there may be");
        let too_many = "must be 16 at most".to_owned();
        assert_eq!(wrong[0], ("event.attributes".to_owned(), Rule::TooMany, too_many));
    }
}
