//! The names of keys, as the table has them. Nobody else formats a key, but scripts.
//!
//! Configuration lies under the tag `{pgc}`, partition `p` under a tag of its own (`{pg0.0}`, …).
//! On a cluster a tag decides the shard: the tags of P partitions are chosen so that they fall into P
//! equal ranges of slots. Scripts are given `…:m` and build the partition's other keys from its
//! tag; some keys are built by them alone, and are not here.

use std::fmt;

use data_encoding::HEXLOWER;
use pregon_core::id::{LaneNo, PartitionNo};

use super::token;
use crate::audit::AuditClass;
use crate::batch::Token;
use crate::test_send::Ticket;

/// Hash slots of a cluster.
const SLOTS: u32 = 16_384;
/// Keys of the configuration, all in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKey {
    Meta,
    Doc,
    Names,
    Changes,
    Audit,
    AuditIds(AuditClass),
    Nodes,
    Seen,
    Knows,
    /// The hash names the call.
    Commit([u8; 16]),
    /// The hash names the request.
    Request([u8; 16]),
    Sure,
    None,
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigKey::Meta => f.write_str("{pgc}:meta"),
            ConfigKey::Doc => f.write_str("{pgc}:doc"),
            ConfigKey::Names => f.write_str("{pgc}:names"),
            ConfigKey::Changes => f.write_str("{pgc}:changes"),
            ConfigKey::Audit => f.write_str("{pgc}:audit"),
            ConfigKey::AuditIds(class) => write!(f, "{{pgc}}:aids:{}", class_letter(*class)),
            ConfigKey::Nodes => f.write_str("{pgc}:nodes"),
            ConfigKey::Seen => f.write_str("{pgc}:seen"),
            ConfigKey::Knows => f.write_str("{pgc}:knows"),
            ConfigKey::Sure => f.write_str("{pgc}:sure"),
            ConfigKey::None => f.write_str("{pgc}:none"),
            ConfigKey::Commit(id) => write!(f, "{{pgc}}:op:{}", HEXLOWER.encode(id)),
            ConfigKey::Request(id) => write!(f, "{{pgc}}:req:{}", HEXLOWER.encode(id)),
        }
    }
}

/// How a class of entries of the audit log is written.
pub fn class_letter(class: AuditClass) -> char {
    match class {
        AuditClass::Call => 'c',
        AuditClass::Bound => 'b',
        AuditClass::Refusal => 'r',
    }
}

/// A partition's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Marks,
    Events,
    Ops,
    Batch(Token),
    Leases,
    Record(u64),
    Runs(u64),
    InRuns,
    Lane(LaneNo),
    Lanes,
    Owners,
    Shut,
    FilterErrors,
    Log,
    TroubleLog,
    Rewritten,
    Ends,
    Map,
    Trail,
    Pending,
    PendingOf(u64),
    Failed(LaneNo),
    FailedRuns(LaneNo),
    Spared,
    Tombstones,
    Body(u64),
    Unmatched(u64),
    Bell,
    Tests,
    Test(Ticket),
    Answer(Ticket),
    Janitor,
}

/// The keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    tag: String,
}

impl Keys {
    /// The keys of partition `partition` of `of`.
    pub fn new(partition: PartitionNo, of: PartitionNo) -> Self {
        Self { tag: tag(partition, of) }
    }

    /// One of them.
    pub fn key(&self, key: Key) -> String {
        let tag = &self.tag;
        match key {
            Key::Marks => format!("{tag}:m"),
            Key::Events => format!("{tag}:ev"),
            Key::Ops => format!("{tag}:op"),
            Key::Batch(token) => format!("{tag}:b:{}", token::print(token)),
            Key::Leases => format!("{tag}:lease"),
            Key::Record(n) => format!("{tag}:x:{n}"),
            Key::Runs(base) => format!("{tag}:r:{base}"),
            Key::InRuns => format!("{tag}:rw"),
            Key::Lane(lane) => format!("{tag}:lane:{}", lane.0),
            Key::Lanes => format!("{tag}:lanes"),
            Key::Owners => format!("{tag}:own"),
            Key::Shut => format!("{tag}:shut"),
            Key::FilterErrors => format!("{tag}:fe"),
            Key::Log => format!("{tag}:log"),
            Key::TroubleLog => format!("{tag}:elog"),
            Key::Rewritten => format!("{tag}:re"),
            Key::Ends => format!("{tag}:end"),
            Key::Map => format!("{tag}:map"),
            Key::Trail => format!("{tag}:trail"),
            Key::Pending => format!("{tag}:pc"),
            Key::PendingOf(page) => format!("{tag}:pf:{page}"),
            Key::Failed(lane) => format!("{tag}:fail:{}", lane.0),
            Key::FailedRuns(lane) => format!("{tag}:fr:{}", lane.0),
            Key::Spared => format!("{tag}:old"),
            Key::Tombstones => format!("{tag}:tomb"),
            Key::Body(n) => format!("{tag}:body:{n}"),
            Key::Unmatched(page) => format!("{tag}:un:{page}"),
            Key::Bell => format!("{tag}:bell"),
            Key::Tests => format!("{tag}:tests"),
            Key::Test(ticket) => format!("{tag}:test:{ticket}"),
            Key::Answer(ticket) => format!("{tag}:res:{ticket}"),
            Key::Janitor => format!("{tag}:jan"),
        }
    }
}

/// The partition in which what has such a name lies, whoever asks.
pub fn home(name: &str, of: PartitionNo) -> PartitionNo {
    PartitionNo::try_from(slot(name) % u32::from(of.max(1))).unwrap_or(0)
}

/// The tag of a partition: `pg` and its number, with the smallest suffix that puts its slot into
/// its share of them.
fn tag(partition: PartitionNo, of: PartitionNo) -> String {
    let share = |slot: u32| slot * u32::from(of) / SLOTS;
    let wanted = u32::from(partition);
    let plain = format!("pg{partition}");
    if share(slot(&plain)) == wanted {
        return format!("{{{plain}}}");
    }
    (0..u32::MAX)
        .map(|suffix| format!("{plain}.{suffix}"))
        .find(|tag| share(slot(tag)) == wanted)
        .map_or_else(|| format!("{{{plain}}}"), |tag| format!("{{{tag}}}"))
}

/// The hash slot of a tag: CRC-16/XMODEM modulo 16,384, as the cluster specification has it.
fn slot(tag: &str) -> u32 {
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    u32::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31C3 % SLOTS); // its own test vector
        assert_eq!(slot("foo"), 12_182);
    }

    #[test]
    fn partitions_share_the_slots_evenly() {
        for of in [1, 3, 4, 16, 64] {
            for partition in 0..of {
                let keys = Keys::new(partition, of);
                let tag = keys.tag.trim_matches(['{', '}']).to_owned();
                assert_eq!(slot(&tag) * u32::from(of) / SLOTS, u32::from(partition));
            }
        }
    }
}
