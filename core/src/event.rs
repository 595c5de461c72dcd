//! An event: published once for a tenant, known by (id, version), never changed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;
use crate::id::{EventId, EventName, EventTypeId, Position, TenantId};
use std::fmt;

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
    /// Configuration that must be served before it is matched; 0: any.
    pub min_revision: i64,
    /// W3C trace context of the publish call, kept for later spans.
    pub traceparent: Option<String>,
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
    /// W3C trace context of the publish call.
    pub traceparent: Option<String>,
    /// JSON text, byte for byte as published.
    pub data: Bytes,
}

impl Event {
    /// When the store accepted it.
    pub fn accept_time(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.position.ms).unwrap_or(i64::MAX))
    }

    /// When it happened: as the publisher said, else when it was accepted.
    pub fn occur_time(&self) -> Timestamp {
        self.given_occur_time.unwrap_or_else(|| self.accept_time())
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
