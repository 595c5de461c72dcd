//! All keys, in one table. Nobody else formats a key.
//!
//! Configuration lies under the tag `{pgc}`, partition `p` under a tag of its own. On a cluster a
//! tag decides the shard: the tags of P partitions are chosen so that they fall into P equal
//! ranges of slots. Scripts are given `…:m` and build the partition's other keys from its tag, so
//! the names here and in `lua/` are the same.

use std::fmt;

use pregon_core::id::{LaneNo, PartitionNo};

use super::token;
use crate::batch::Token;
use crate::test_send::Ticket;

/// Hash slots of a cluster.
const SLOTS: u32 = 16_384;
/// Partitions at most: an assigned id has 12 bits for them.
pub(super) const PARTITIONS_MAX: PartitionNo = 4096;

/// Keys of the configuration, all in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigKey {
    /// Hash: epoch, partitions, schema; base, latest revision and its nonce; latest lane number.
    /// Its absence tells an emptied Redis from one without configuration.
    Meta,
    /// Hash: resource name → revision and bytes.
    Doc,
    /// Zset, all scores 0: collections and name of each document, so that lists scan nothing else.
    Names,
    /// Stream: one entry a commit, `<revision>-<nonce>`.
    Changes,
    /// Hash: node id → heartbeat and status.
    Nodes,
    /// Zset: node id → heartbeat.
    Seen,
    /// Hash: node id → its heartbeat, of nodes that know the form of this release.
    Knows,
    /// String: the revision of a commit, for ten minutes; the hash names the call.
    Commit([u8; 16]),
    /// String: what a request id was answered; the hash names the request.
    Request([u8; 16]),
    /// String, empty: the small write of a confirmation, for a minute.
    Sure,
    /// Nothing: what is deleted to see whether a server takes writes.
    None,
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{pgc}:")?;
        match self {
            ConfigKey::Meta => f.write_str("meta"),
            ConfigKey::Doc => f.write_str("doc"),
            ConfigKey::Names => f.write_str("names"),
            ConfigKey::Changes => f.write_str("changes"),
            ConfigKey::Nodes => f.write_str("nodes"),
            ConfigKey::Seen => f.write_str("seen"),
            ConfigKey::Knows => f.write_str("knows"),
            ConfigKey::Sure => f.write_str("sure"),
            ConfigKey::None => f.write_str("none"),
            ConfigKey::Commit(id) => write!(f, "op:{}", data_encoding::HEXLOWER.encode(id)),
            ConfigKey::Request(id) => write!(f, "req:{}", data_encoding::HEXLOWER.encode(id)),
        }
    }
}

/// A partition's keys.
#[cfg_attr(not(test), expect(dead_code, reason = "some are built by scripts alone"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Hash: epoch and marks (accepted, claimed, trimmed, chunks).
    Marks,
    /// Stream: the events.
    Events,
    /// Hash: what a node's last calls were answered.
    Ops,
    /// Hash: a batch.
    Batch(Token),
    /// Zset: token → when its lease ends.
    Leases,
    /// Hash: the deliveries in trouble of event `n`.
    Record(u64),
    /// Hash: lane → what waits, is held or ended of the run that begins with this number.
    Runs(u64),
    /// Hash: lane → how many more deliveries wait in it than it has members.
    InRuns,
    /// Zset: what waits in a lane → when it is due.
    Lane(LaneNo),
    /// Zset: lane → when to look at it.
    Lanes,
    /// Hash: lane → its tenant.
    Owners,
    /// Hash: closed lanes.
    Shut,
    /// Hash: lane → how many events its filter had no answer for, when the last, and why.
    FilterErrors,
    /// Hash: deliveries to be cancelled at their settle.
    Kill,
    /// Stream: chunks of attempts that went well at once.
    Log,
    /// Stream: chunks of all other attempts.
    TroubleLog,
    /// Hash: chunk → the same, written anew without what was erased from it.
    Rewritten,
    /// Stream: ends that no attempt tells of, the latest of them.
    Ends,
    /// Zset: chunk → first number of a batch that it tells of.
    Map,
    /// Zset: chunk and number → number of an event that it tells of.
    Trail,
    /// Hash: page of 65,536 event numbers → how many of their deliveries are pending.
    Pending,
    /// Hash: stretch of 256 event numbers of a page → the same.
    PendingOf(u64),
    /// Zset: failed deliveries of a lane → number of their event.
    Failed(LaneNo),
    /// Zset: first numbers of runs with failed deliveries of a lane.
    FailedRuns(LaneNo),
    /// Zset: number of a spared event → when to look at it again.
    Spared,
    /// String: a spared event's entry.
    Body(u64),
    /// Bitmap: which of 65,536 events from `page` × 65,536 nobody wanted.
    Unmatched(u64),
    /// Hash: the books of all; those of a tenant have its id behind this.
    Books,
    /// List: the bell.
    Bell,
    /// List: tickets of test sends that nobody took; in partition 0, as all of theirs.
    Tests,
    /// Hash: a test send.
    Test(Ticket),
    /// List: the answer to a test send, one element.
    Answer(Ticket),
    /// String: who keeps the history within its bounds just now.
    Janitor,
}

/// The keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
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
            Key::Kill => format!("{tag}:kill"),
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
            Key::Body(n) => format!("{tag}:body:{n}"),
            Key::Unmatched(page) => format!("{tag}:un:{page}"),
            Key::Books => format!("{tag}:n"),
            Key::Bell => format!("{tag}:bell"),
            Key::Tests => format!("{tag}:tests"),
            Key::Test(ticket) => format!("{tag}:test:{ticket}"),
            Key::Answer(ticket) => format!("{tag}:res:{ticket}"),
            Key::Janitor => format!("{tag}:jan"),
        }
    }
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
    use std::collections::BTreeSet;

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

    #[test]
    fn keys_of_the_configuration_differ_and_share_a_tag() {
        let all = [
            ConfigKey::Meta,
            ConfigKey::Doc,
            ConfigKey::Names,
            ConfigKey::Changes,
            ConfigKey::Nodes,
            ConfigKey::Seen,
            ConfigKey::Knows,
            ConfigKey::Commit([1; 16]),
            ConfigKey::Request([1; 16]),
        ];
        let named: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(named.len(), all.len());
        assert!(named.iter().all(|key| key.starts_with("{pgc}:")));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let token = Token { incarnation: 1, sequence: 2 };
        let lane = LaneNo(3);
        let ticket = Ticket::random().unwrap();
        let all = [
            Key::Marks,
            Key::Events,
            Key::Ops,
            Key::Batch(token),
            Key::Leases,
            Key::Record(1),
            Key::Runs(1),
            Key::InRuns,
            Key::Lane(lane),
            Key::Lanes,
            Key::Owners,
            Key::Shut,
            Key::FilterErrors,
            Key::Kill,
            Key::Log,
            Key::TroubleLog,
            Key::Rewritten,
            Key::Ends,
            Key::Map,
            Key::Trail,
            Key::Pending,
            Key::PendingOf(1),
            Key::Failed(lane),
            Key::FailedRuns(lane),
            Key::Spared,
            Key::Body(1),
            Key::Unmatched(1),
            Key::Books,
            Key::Bell,
            Key::Tests,
            Key::Test(ticket),
            Key::Answer(ticket),
            Key::Janitor,
        ];
        let partitions = [Keys::new(0, 2), Keys::new(1, 2)];
        let named: BTreeSet<String> =
            partitions.iter().flat_map(|keys| all.map(|key| keys.key(key))).collect();
        assert_eq!(named.len(), all.len() * 2);
    }
}
