//! Entries of the event stream, and records of deliveries, as they are written and read.

use bytes::Bytes;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{DeliveryKey, LaneNo, PartitionNo, Position, ReplayTag, TenantId};
use redis::Value;
use sha2::{Digest, Sha256};

use super::fault::{Result, bad};
use crate::codec::stored;

/// First byte of an entry: how the rest is written.
const FORMAT: u8 = 1;

/// An event as it is written: format, the tenant's id with its length in front (scripts read it),
/// the head with its length in front, the data.
pub(super) fn encode(event: &NewEvent) -> Result<Vec<u8>> {
    let (tenant, head) = (event.tenant.as_str().as_bytes(), stored::head_of(event)?);
    let short = |len: usize| u8::try_from(len).map_err(|_| bad("length of a tenant's id", len));
    let long = |len: usize| u16::try_from(len).map_err(|_| bad("length of a head", len));
    let mut entry = Vec::with_capacity(4 + tenant.len() + head.len() + event.data.len());
    entry.extend([FORMAT, short(tenant.len())?]);
    entry.extend(tenant);
    entry.extend(long(head.len())?.to_be_bytes());
    entry.extend(head);
    entry.extend(&event.data[..]);
    Ok(entry)
}

/// An event that was read, or its place where it cannot be.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The event.
    Event(Box<Event>),
    /// Something that this release cannot read.
    Spoiled(Position),
}

impl Found {
    /// The event, if it could be read.
    pub fn event(self) -> Option<Event> {
        match self {
            Found::Event(event) => Some(*event),
            Found::Spoiled(_) => None,
        }
    }

    /// Where it lies.
    pub fn position(&self) -> Position {
        match self {
            Found::Event(event) => event.position,
            Found::Spoiled(position) => *position,
        }
    }

    /// Bytes of its data and attributes.
    pub fn len(&self) -> usize {
        match self {
            Found::Event(event) => event.size(),
            Found::Spoiled(_) => 0,
        }
    }
}

/// Reads an entry.
pub(super) fn decode(position: Position, entry: Vec<u8>) -> Found {
    parse(position, entry).map_or(Found::Spoiled(position), |event| Found::Event(Box::new(event)))
}

fn parse(position: Position, entry: Vec<u8>) -> Option<Event> {
    let entry = Bytes::from(entry);
    let (&format, &tenant_len) = (entry.first()?, entry.get(1)?);
    if format != FORMAT {
        return None;
    }
    let head_at = 4 + usize::from(tenant_len);
    let tenant = TenantId::parse(std::str::from_utf8(entry.get(2..head_at - 2)?).ok()?).ok()?;
    let head_len = u16::from_be_bytes(entry.get(head_at - 2..head_at)?.try_into().ok()?);
    let data_at = head_at + usize::from(head_len);
    let head = stored::read_head(entry.get(head_at..data_at)?)?;
    Some(stored::event(position, tenant, head, entry.slice(data_at..)))
}

/// Reads the answer to an XRANGE: ids and entries.
pub(super) fn decode_range(partition: PartitionNo, value: Value) -> Result<Vec<Found>> {
    let Value::Array(rows) = value else { return Err(bad("events", value)) };
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, mut fields) = stream_row(row)?;
        let position = position_of(partition, &id).ok_or_else(|| bad("an event's id", &id))?;
        let Some(Value::BulkString(entry)) = fields.pop() else {
            return Err(bad("an event", position));
        };
        found.push(decode(position, entry));
    }
    Ok(found)
}

/// A row of a stream: its id, and fields and values in turn.
pub(super) fn stream_row(row: Value) -> Result<(String, Vec<Value>)> {
    match row {
        Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([Value::BulkString(id), Value::Array(fields)]) => {
                Ok((String::from_utf8_lossy(&id).into_owned(), fields))
            }
            other => Err(bad("a row of a stream", other)),
        },
        other => Err(bad("a row of a stream", other)),
    }
}

/// The position that a stream's id stands for.
pub(super) fn position_of(partition: PartitionNo, id: &str) -> Option<Position> {
    let (n, ms) = id.split_once('-')?;
    Some(Position { ms: ms.parse().ok()?, partition, n: n.parse().ok()? })
}

/// A delivery's field in its event's record: its lane, and a replay's tag.
pub(super) fn field(key: &DeliveryKey) -> String {
    match key.replay {
        None => key.lane.0.to_string(),
        Some(tag) => format!("{}.{tag}", key.lane.0),
    }
}

/// A delivery as it stands in its lane.
pub(super) fn member(key: &DeliveryKey) -> String {
    match key.replay {
        None => key.position.n.to_string(),
        Some(tag) => format!("{}.{tag}", key.position.n),
    }
}

/// Reads a member of a lane, or any name that ends like one: its number, and its tag.
pub(super) fn parse_member(member: &str) -> Option<(u64, Option<ReplayTag>)> {
    match member.split_once('.') {
        None => Some((member.parse().ok()?, None)),
        Some((n, tag)) => Some((n.parse().ok()?, Some(tag.parse().ok()?))),
    }
}

/// Reads a field: its lane, and its tag.
pub(super) fn parse_field(field: &str) -> Option<(LaneNo, Option<ReplayTag>)> {
    parse_member(field).map(|(lane, tag)| (LaneNo(lane), tag))
}

/// A delivery's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub letter: char,
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
            letter: parts.next()?.chars().next()?,
            attempts: parts.next()?.parse().ok()?,
            create_ms: parts.next()?.parse().ok()?,
            at_ms: parts.next()?.parse().ok()?,
            code: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(record)
    }
}

/// A given id: what finds it again.
#[derive(Clone, Debug)]
pub(super) struct IdHash {
    /// Its field in its bucket: 80 bits, so that among a billion ids two alike are a matter of
    /// one to a million.
    pub field: [u8; 10],
    /// Picks its bucket.
    pub bucket: u32,
    /// Picks its partition.
    place: u64,
}

impl IdHash {
    /// Of an id of a tenant's; all versions share a partition.
    pub fn of(tenant: &TenantId, id: &str, version: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(tenant.as_str());
        hash.update([0]);
        hash.update(id);
        let mut place = [0; 8];
        place.copy_from_slice(&hash.clone().finalize()[..8]);
        hash.update(version.to_be_bytes());
        let full = hash.finalize();
        let (mut field, mut bucket) = ([0; 10], [0; 4]);
        field.copy_from_slice(&full[..10]);
        bucket.copy_from_slice(&full[10..14]);
        Self { field, bucket: u32::from_be_bytes(bucket), place: u64::from_be_bytes(place) }
    }

    /// Its partition.
    pub fn partition(&self, of: usize) -> usize {
        usize::try_from(self.place % of.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use pregon_core::event::Environment;
    use pregon_core::id::{EventId, EventTypeId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_back(
            tenant in "[a-z]{1,64}",
            id in proptest::option::of("[a-z]{1,20}"),
            version: u32,
            attributes in proptest::collection::btree_map("[a-z0-9_]{1,32}", ".{0,20}", 0..4),
            data in proptest::collection::vec(any::<u8>(), 0..300),
            n in 1u64..1 << 40,
        ) {
            let new = NewEvent {
                tenant: TenantId::parse(&tenant).unwrap(),
                id: id.map(|id| EventId::parse_given(&id).unwrap()),
                version,
                event_type: EventTypeId::parse("order.captured").unwrap(),
                environment: Environment::Live,
                occur_time: None,
                since: None,
                min_revision: 3,
                trace: None,
                attributes: attributes.clone(),
                data: Bytes::from(data),
            };
            let position = Position { ms: 1_800_000_000_000, partition: 2, n };
            prop_assert_eq!(position_of(2, &format!("{n}-1800000000000")), Some(position));
            let entry = encode(&new).unwrap();
            let found = decode(position, entry.clone()).event().unwrap();
            prop_assert_eq!(&found.data, &new.data);
            prop_assert_eq!(&found.tenant, &new.tenant);
            prop_assert_eq!(&found.attributes, &attributes);
            prop_assert_eq!(found.id, new.id.unwrap_or_else(|| EventId::assigned(position)));
            // What is cut off is never taken for an event with less in it, but for its data.
            for len in 0..entry.len() - new.data.len() {
                prop_assert!(decode(position, entry[..len].to_vec()).event().is_none());
            }
        }

        #[test]
        fn fields_come_back(lane in 0u64..1 << 40, n in 1u64..1 << 40, bits: Option<[u8; 5]>) {
            let key = DeliveryKey {
                position: Position { ms: 1, partition: 0, n },
                lane: LaneNo(lane),
                replay: bits.map(ReplayTag::from_bits),
            };
            prop_assert_eq!(parse_field(&field(&key)), Some((key.lane, key.replay)));
            prop_assert_eq!(parse_member(&member(&key)), Some((n, key.replay)));
        }
    }
}
