//! Entries of the event stream, and what finds an event by its given id.

use bytes::Bytes;
use pregon_core::event::{Erasure, Event, NewEvent};
use pregon_core::id::{PartitionNo, Position, TenantId};
use redis::Value;
use sha2::{Digest, Sha256};

use super::stream::Row;
use crate::codec::stored;
use crate::redis::engine::fault::{Result, bad};

/// First byte of an entry: how the rest is written.
const FORMAT: u8 = 1;

/// An event as it is written: format, the tenant's id with its length in front (scripts read it),
/// the head with its length in front, the data.
pub fn encode(event: &NewEvent) -> Result<Vec<u8>> {
    put_together(&event.tenant, &stored::head_of(event)?, &event.data)
}

/// What is left of an event, as it is written in its place.
pub fn encode_erased(event: &Event, erasure: &Erasure) -> Result<Vec<u8>> {
    put_together(&event.tenant, &stored::erased_head(event, erasure)?, &[])
}

fn put_together(tenant: &TenantId, head: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let tenant = tenant.as_str().as_bytes();
    let short = |len: usize| u8::try_from(len).map_err(|_| bad("length of a tenant's id", len));
    let long = |len: usize| u16::try_from(len).map_err(|_| bad("length of a head", len));
    let mut entry = Vec::with_capacity(4 + tenant.len() + head.len() + data.len());
    entry.extend([FORMAT, short(tenant.len())?]);
    entry.extend(tenant);
    entry.extend(long(head.len())?.to_be_bytes());
    entry.extend(head);
    entry.extend(data);
    Ok(entry)
}

/// An event that was read, or its place where it cannot be.
#[derive(Clone, Debug)]
pub enum Found {
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
pub fn decode(position: Position, entry: &Bytes) -> Found {
    parse(position, entry).map_or(Found::Spoiled(position), |event| Found::Event(Box::new(event)))
}

fn parse(position: Position, entry: &Bytes) -> Option<Event> {
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

/// Reads the answer to an XRANGE of the stream.
pub fn decode_range(partition: PartitionNo, value: Value) -> Result<Vec<Found>> {
    let Value::Array(rows) = value else { return Err(bad("events", value)) };
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = Row::read(row)?;
        let position = row.id.position(partition);
        let Some(Value::BulkString(entry)) = row.fields.pop() else {
            return Err(bad("an event", position));
        };
        found.push(decode(position, &Bytes::from(entry)));
    }
    Ok(found)
}

/// A given id: what finds it again.
#[derive(Clone, Debug)]
pub struct IdHash {
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
