//! Deliveries: how they are named, and what is written of them and of their lanes.

use std::fmt;

use bytes::Bytes;
use pregon_core::id::{DeliveryKey, LaneNo, ReplayTag};
use pregon_core::outcome::DeliveryState;

use super::{Stored, number, text};
use crate::redis::engine::fault::Result;

/// The field of an event's record that tells of the event itself, put off; its lane, too.
pub const EVENT: &str = "0";
/// The field of an event's record that says how far its fan-out got.
pub const CURSOR: &str = "*";

fn named(number: u64, tag: Option<ReplayTag>) -> String {
    match tag {
        None => number.to_string(),
        Some(tag) => format!("{number}.{tag}"),
    }
}

fn parse_named(name: &str) -> Option<(u64, Option<ReplayTag>)> {
    match name.split_once('.') {
        None => Some((name.parse().ok()?, None)),
        Some((number, tag)) => Some((number.parse().ok()?, Some(tag.parse().ok()?))),
    }
}

/// A delivery's field in its event's record: its lane, and a replay's tag.
pub fn field(key: &DeliveryKey) -> String {
    field_of(key.lane, key.replay)
}

/// The same, where its event is not known.
pub fn field_of(lane: LaneNo, replay: Option<ReplayTag>) -> String {
    named(lane.0, replay)
}

/// Reads a field: its lane, and its tag.
pub fn parse_field(field: &str) -> Option<(LaneNo, Option<ReplayTag>)> {
    parse_named(field).map(|(lane, tag)| (LaneNo(lane), tag))
}

/// A delivery as it stands in its lane: its event's number, and a replay's tag.
pub fn member(key: &DeliveryKey) -> String {
    named(key.position.n, key.replay)
}

/// Reads a member of a lane: its number, and its tag; none: it is a run.
pub fn parse_member(member: &str) -> Option<(u64, Option<ReplayTag>)> {
    parse_named(member)
}

/// A delivery as batches and marks name it: its event's number, and its field. In lane 0 it is the
/// event itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    pub n: u64,
    pub lane: LaneNo,
    pub replay: Option<ReplayTag>,
}

impl Held {
    /// A delivery's.
    pub fn of(key: &DeliveryKey) -> Self {
        Self { n: key.position.n, lane: key.lane, replay: key.replay }
    }

    /// Reads one.
    pub fn parse(name: &str) -> Option<Self> {
        let (n, field) = name.split_once('.')?;
        let (lane, replay) = parse_field(field)?;
        Some(Self { n: n.parse().ok()?, lane, replay })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.n, field_of(self.lane, self.replay))
    }
}

impl Stored for Held {
    const WHAT: &'static str = "a held delivery";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.to_string().into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        Self::parse(text(stored)?)
    }
}

/// A state's letter.
pub fn letter(state: DeliveryState) -> char {
    match state {
        DeliveryState::Pending => 'P',
        DeliveryState::Succeeded => 'S',
        DeliveryState::Failed => 'F',
        DeliveryState::Cancelled => 'C',
    }
}

/// The state of a letter.
pub fn state_of(wanted: char) -> Option<DeliveryState> {
    DeliveryState::ALL.iter().copied().find(|state| letter(*state) == wanted)
}

/// A delivery's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub state: DeliveryState,
    pub attempts: u32,
    pub create_ms: i64,
    /// When it is due, while it is pending; when it ended.
    pub at_ms: i64,
    /// What it waits for, while it is pending; why it ended, 0 for nothing more to say.
    pub code: i64,
}

impl Record {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let record = Self {
            state: state_of(parts.next()?.parse().ok()?)?,
            attempts: parts.next()?.parse().ok()?,
            create_ms: parts.next()?.parse().ok()?,
            at_ms: parts.next()?.parse().ok()?,
            code: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(record)
    }
}

impl Stored for Record {
    const WHAT: &'static str = "a delivery's record";

    fn encode(&self) -> Result<Vec<u8>> {
        let Self { state, attempts, create_ms, at_ms, code } = self;
        let letter = letter(*state);
        Ok(format!("{letter},{attempts},{create_ms},{at_ms},{code}").into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        Self::parse(text(stored)?)
    }
}

/// Until when a lane is closed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    pub till_ms: i64,
    pub why: i64,
}

impl Stored for Shut {
    const WHAT: &'static str = "a closed lane";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(format!("{} {}", self.till_ms, self.why).into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let (till, why) = text(stored)?.split_once(' ')?;
        Some(Self { till_ms: till.parse().ok()?, why: why.parse().ok()? })
    }
}

/// How many events a lane's filter had no answer for, when the last, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterErrors {
    pub count: u64,
    pub last_ms: i64,
    pub reason: String,
}

impl Stored for FilterErrors {
    const WHAT: &'static str = "a filter's errors";

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(format!("{} {} {}", self.count, self.last_ms, self.reason).into())
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let mut parts = stored.splitn(3, |byte| *byte == b' ');
        Some(Self {
            count: number(parts.next()?)?,
            last_ms: number(parts.next()?)?,
            reason: String::from_utf8_lossy(parts.next()?).into_owned(),
        })
    }
}
