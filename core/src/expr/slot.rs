//! Slots: what the rewriting puts in place of a path or a constant; and the table of what each root
//! has to offer.

use super::Root;
use crate::json::Step;
use cel::common::value::Val;
use std::fmt::Write;

/// What a rewritten name stands for.
pub(super) enum Slot {
    /// A field of a root.
    Field(Field),
    /// A path into JSON text.
    Path(Path),
    /// The same, as it is written there.
    Raw(Path),
    /// Whether a JSON text is there at all.
    Present(Document),
    /// A whole map of texts.
    Map(Map),
    /// An entry of a map of texts.
    Entry(Map, Box<str>, Lookup),
    /// A value that is the same for every evaluation.
    Constant(Box<dyn Val>),
}

/// A path into JSON text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) document: Document,
    pub(super) steps: Vec<Step>,
    /// From which step on a miss is `optional.none()` and no error, and what is found is an
    /// optional; step 0 is the document itself, the path's steps follow.
    pub(super) optional_from: Option<usize>,
}

/// What is asked of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Its value: `labels.x`.
    Value,
    /// An optional: `labels.?x`.
    Optional,
    /// Whether it is there: `has(labels.x)`.
    Present,
}

impl Slot {
    /// How a source would write it.
    pub(super) fn describe(&self) -> String {
        match self {
            Slot::Field(field) => name_of(What::Field(*field)),
            Slot::Path(path) | Slot::Raw(path) => describe(path),
            Slot::Present(document) => name_of(What::Document(*document)),
            Slot::Map(map) => name_of(What::Map(*map)),
            Slot::Entry(map, key, _) => format!("{}[{key:?}]", name_of(What::Map(*map))),
            Slot::Constant(_) => "a constant".to_owned(),
        }
    }

    /// Whether both stand for the same.
    pub(super) fn same(&self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Field(a), Slot::Field(b)) => a == b,
            (Slot::Path(a), Slot::Path(b)) | (Slot::Raw(a), Slot::Raw(b)) => a == b,
            (Slot::Present(a), Slot::Present(b)) => a == b,
            (Slot::Map(a), Slot::Map(b)) => a == b,
            (Slot::Entry(a, k, x), Slot::Entry(b, l, y)) => a == b && k == l && x == y,
            (
                Slot::Field(_)
                | Slot::Path(_)
                | Slot::Raw(_)
                | Slot::Present(_)
                | Slot::Map(_)
                | Slot::Entry(..)
                | Slot::Constant(_),
                _,
            ) => false,
        }
    }
}

fn describe(path: &Path) -> String {
    let mut text = name_of(What::Document(path.document));
    for step in &path.steps {
        let _ = match step {
            Step::Member(name) => write!(text, ".{name}"),
            Step::Element(index) => write!(text, "[{index}]"),
        };
    }
    text
}

/// A scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    EventId,
    EventVersion,
    EventUniqueId,
    EventType,
    EventTime,
    EventAcceptTime,
    EventEnvironment,
    EventTenant,
    TenantId,
    SubscriptionId,
    SubscriptionUrl,
    SubscriptionEnvironment,
    DeliveryId,
    DeliveryCreateTime,
    DeliveryReplay,
    DeliveryTest,
    AttemptNumber,
    AttemptTime,
    RequestMethod,
    RequestUrl,
    RequestBody,
    ResponseStatus,
    ResponseBody,
    CheckId,
    CheckTime,
    CallbackId,
    KeyId,
    KeyNumber,
    Secret,
    Signature,
    ChallengeId,
    ChallengeTime,
    ChallengeText,
}

/// A JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    EventData,
    ResponseJson,
    CheckData,
}

/// A map from text to text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    EventAttributes,
    TenantLabels,
    SubscriptionLabels,
    ResponseHeaders,
    CallbackLabels,
}

impl Map {
    /// How many there are; each has a number below it.
    pub(super) const COUNT: usize = 5;
}

/// What a name behind a root stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Field(Field),
    Document(Document),
    Map(Map),
}

/// Everything that the roots have to offer.
const OFFERS: [(Root, &str, What); 39] = [
    (Root::Event, "id", What::Field(Field::EventId)),
    (Root::Event, "version", What::Field(Field::EventVersion)),
    (Root::Event, "unique_id", What::Field(Field::EventUniqueId)),
    (Root::Event, "type", What::Field(Field::EventType)),
    (Root::Event, "time", What::Field(Field::EventTime)),
    (Root::Event, "accept_time", What::Field(Field::EventAcceptTime)),
    (Root::Event, "environment", What::Field(Field::EventEnvironment)),
    (Root::Event, "tenant", What::Field(Field::EventTenant)),
    (Root::Event, "attributes", What::Map(Map::EventAttributes)),
    (Root::Event, "data", What::Document(Document::EventData)),
    (Root::Tenant, "id", What::Field(Field::TenantId)),
    (Root::Tenant, "labels", What::Map(Map::TenantLabels)),
    (Root::Subscription, "id", What::Field(Field::SubscriptionId)),
    (Root::Subscription, "labels", What::Map(Map::SubscriptionLabels)),
    (Root::Subscription, "url", What::Field(Field::SubscriptionUrl)),
    (Root::Subscription, "environment", What::Field(Field::SubscriptionEnvironment)),
    (Root::Delivery, "id", What::Field(Field::DeliveryId)),
    (Root::Delivery, "create_time", What::Field(Field::DeliveryCreateTime)),
    (Root::Delivery, "replay", What::Field(Field::DeliveryReplay)),
    (Root::Delivery, "test", What::Field(Field::DeliveryTest)),
    (Root::Attempt, "number", What::Field(Field::AttemptNumber)),
    (Root::Attempt, "time", What::Field(Field::AttemptTime)),
    (Root::Request, "method", What::Field(Field::RequestMethod)),
    (Root::Request, "url", What::Field(Field::RequestUrl)),
    (Root::Request, "body", What::Field(Field::RequestBody)),
    (Root::Response, "status", What::Field(Field::ResponseStatus)),
    (Root::Response, "headers", What::Map(Map::ResponseHeaders)),
    (Root::Response, "body", What::Field(Field::ResponseBody)),
    (Root::Response, "json", What::Document(Document::ResponseJson)),
    (Root::Check, "id", What::Field(Field::CheckId)),
    (Root::Check, "time", What::Field(Field::CheckTime)),
    (Root::Check, "data", What::Document(Document::CheckData)),
    (Root::Callback, "id", What::Field(Field::CallbackId)),
    (Root::Callback, "labels", What::Map(Map::CallbackLabels)),
    (Root::Key, "id", What::Field(Field::KeyId)),
    (Root::Key, "number", What::Field(Field::KeyNumber)),
    (Root::Challenge, "id", What::Field(Field::ChallengeId)),
    (Root::Challenge, "time", What::Field(Field::ChallengeTime)),
    (Root::Challenge, "text", What::Field(Field::ChallengeText)),
];

/// What a root stands for that is a value itself.
pub(super) fn value(root: Root) -> Option<Field> {
    match root {
        Root::Secret => Some(Field::Secret),
        Root::Signature => Some(Field::Signature),
        Root::Event
        | Root::Tenant
        | Root::Subscription
        | Root::Delivery
        | Root::Attempt
        | Root::Request
        | Root::Response
        | Root::Check
        | Root::Callback
        | Root::Key
        | Root::Challenge => None,
    }
}

/// What `root.name` stands for.
pub(super) fn offer(root: Root, name: &str) -> Option<What> {
    OFFERS.iter().find(|(of, known, _)| *of == root && *known == name).map(|(.., what)| *what)
}

/// How a source writes it.
fn name_of(what: What) -> String {
    let own = Root::ALL.into_iter().find(|root| value(*root).map(What::Field) == Some(what));
    if let Some(root) = own {
        return root.name().to_owned();
    }
    let offer = OFFERS.iter().find(|(.., offered)| *offered == what);
    offer.map_or_else(String::new, |(root, name, _)| format!("{}.{name}", root.name()))
}
