//! All that lies in Redis, in one table: every key, its type, and how its values are written.
//!
//! Who reads or writes a value in Rust does it by a type of this module, and who does it in a
//! script by a function of `lua/prelude.lua`, `lua/records.lua` or `lua/runs.lua`; tests hold the
//! two together, and each key that is built against this table.
//!
//! Below, `…` is the tag of a partition: see [`keys`]. Numbers are decimal, and moments are in ms
//! since 1970, where nothing else is said; `packed` is MessagePack. `<n>` is the number of an event
//! in its partition, and an event's id is `<n>-<ms>`, with the moment when it was accepted. `<L>`
//! is a lane. `<field>` names a delivery of an event: its lane, with `.` and its tag behind it for
//! a replay ([`delivery`]).
//!
//! # The configuration
//!
//! - `{pgc}:meta` hash: `epoch`, `partitions`, `schema`; `base` and `start`, the moment when the
//!   store was set up, `base` being the revision before the first; `revision` and `nonce` of the
//!   latest commit; `lane`, the latest number of a lane. Its absence tells an emptied Redis from
//!   one without configuration. It never goes.
//! - `{pgc}:doc` hash: documents. Name → `<revision>:<bytes>` ([`config::Stamped`]). One goes when
//!   it is deleted.
//! - `{pgc}:names` zset: the names of documents by kind, so that lists scan nothing else.
//!   `<collections>\0<name>` ([`config::member`]), all scores 0. One goes with its document.
//! - `{pgc}:changes` stream: one entry a commit, `<revision>-<nonce>` (`log_entry`). 10,000 are
//!   kept.
//! - `{pgc}:op:<call>` string: the revision of a commit, for a copy of its call. 10 minutes.
//! - `{pgc}:req:<request>` string: what a request id was answered: packed moment, revision, digest
//!   and reply ([`config::Remembered`]). A day.
//! - `{pgc}:audit` hash: the audit log. Id → `<revision>:<bytes>` ([`config::Stamped`]), 0 where
//!   there was no commit. One goes when it is old, or when there are too many.
//! - `{pgc}:aids:<class>` zset: ids of entries of calls that were let in (`c`, or `b` of
//!   callers who are held to tenants) or refused (`r`), all
//!   scores 0. As above.
//! - `{pgc}:asize` hash: class → how many bytes its values have. It never goes.
//! - `{pgc}:nodes` hash: node → `<moment>:<what it said, JSON>` ([`config::Stamped`]). One goes 10
//!   minutes after it was last heard of.
//! - `{pgc}:seen` zset: node → when it was last heard of. As above.
//! - `{pgc}:knows` hash: node → the same, of nodes that know this release's schema. As above.
//! - `{pgc}:sure` string: empty: the small write before each `WAITAOF` or `WAIT`. A minute.
//! - `{pgc}:none` none: nothing: what is deleted to see whether a server takes writes.
//!
//! # Events
//!
//! - `…:m` hash: the partition's marks. `epoch`: 16 hexadecimal digits, and a byte of 255 where
//!   runs may begin. `last` and `lms`: the latest event's number and moment; `cur`: the highest
//!   number that was taken; `trim`: the highest that was trimmed; `lk`, `ek`, `dk`: the latest
//!   numbers of `log`, `elog` and `end`. Of windows of ids: `uw`: the length of one in ms;
//!   `ub:<window>` and `uc:<window>`: bits of a bucket's number, and how many ids; `uo` and `uz`:
//!   the oldest window, and how many of its buckets were dropped; `ux`: `1` while there is a `uk`.
//!   It never goes.
//! - `…:ev` stream: the events. `<n>-<ms>` → field `e`: format, tenant, head, data ([`entry`]). It
//!   is trimmed at its head alone; an event that is erased leaves it, with those next to it.
//! - `…:u:<window>:<bucket>` hash: given ids. The first 10 bytes of an id's hash
//!   ([`entry::IdHash`]) → 16 bytes of digest, and the event's id. About 128 in a bucket. A window
//!   goes when it is the third behind the present one.
//! - `…:uk` hash: given ids of scheduled events, as in a bucket beside which they are here: a window
//!   may be over before their time has come. One goes two windows after its time.
//! - `…:ut` zset: fields of `uk` → the event's time. As above.
//! - `…:old` zset: events that were spared from trimming: n → when to look at one again. One goes
//!   with the last reason to keep it.
//! - `…:tomb` zset: what lies beside the stream above the trim mark: what is left of erased events,
//!   and events that may have shared a node of the stream with one. `<n>-<ms>` → n. One goes with
//!   its event.
//! - `…:body:<n>` string: an event of `old` or `tomb`: `<ms>:<entry>` ([`config::Stamped`]). It goes
//!   with its member there.
//! - `…:un:<page>` string: bitmap: which of 65,536 events from page × 65,536 on nobody wanted. It
//!   goes with its events.
//!
//! # Batches
//!
//! - `…:op` hash: `<process>:<kind of call>` ([`token::call`]) → `<sequence> <moment> <answer>`
//!   ([`token::Answered`]) of the last one. 10 minutes.
//! - `…:b:<token>` hash: a batch ([`batch::Field`]). `@` node, `k` takes, `f` and `l` range, `o`
//!   origin, `n` how many items are open, and `1` for: `c` fanned out in part, `p` has pieces, `R`
//!   was given back, `<distance from f>` done with. `<n>.<field>` → the tenant of a delivery that
//!   it holds, or of an event that was put off (lane 0). `r<first>.<L>` → a piece of a run, written
//!   as what waits in `r`. 256 items. It goes with the last of them.
//! - `…:lease` zset: token → when its lease ends; 0: it was given back. One goes with its batch.
//! - `…:bell` list: one element at most, `1`: there is something to claim. A node that hears it
//!   takes it.
//!
//! # Deliveries
//!
//! - `…:x:<n>` hash: deliveries of an event that were in trouble. `<field>` →
//!   `<letter>,<attempts>,<created>,<at>,<why>` ([`delivery::Record`]): P is pending, due at a
//!   moment, and why it waits; S, F and C ended at a moment, and why, 0 for nothing more to say.
//!   `0` → the same of the event, put off, or called off (C). `*` → the highest lane that its fan-out got to. It goes
//!   with its event.
//! - `…:r:<first>` hash: runs of the 256 numbers from `<first>` on (`runs`). Bits are 32 bytes, in
//!   the order of `SETBIT`; numbers are big-endian: why has 1 byte, moments have 6. `<L>` → what
//!   waits: bits, why, when the run began. `h<L>` → bits of what batches hold. `e<L>` → what ended
//!   together, piece behind piece: bits, letter, why, when, when its run had begun. It goes with
//!   its last bit.
//! - `…:rw` hash: lane → how many more deliveries wait in it than it has members. One goes with its
//!   last run.
//! - `…:lane:<L>` zset: what waits in a lane → when it is due. A delivery is `<n>`, with `.` and
//!   its tag behind it for a replay; a run is `r<first>`, at the moment when it began. Lane 0 has
//!   events that were put off. It goes with its last member.
//! - `…:lanes` zset: lane → when to look at it. One goes when it is empty.
//! - `…:own` hash: lane → the tenant of what is or was in it. It never goes: 30 bytes a
//!   subscription.
//! - `…:shut` hash: closed lanes: lane → `<until> <why>` ([`delivery::Shut`]). One goes when it
//!   opens.
//! - `…:fe` hash: lane → `<events> <moment of the last> <reason>` ([`delivery::FilterErrors`]): how
//!   many its filter had no answer for. It never goes: 300 bytes at most a subscription.
//! - `…:kill` hash: deliveries that are cancelled when they are settled: `<n>.<field>` →
//!   `<why>,<moment>`. One goes at the settle; an hour later it goes where nothing is in flight.
//! - `…:fail:<L>` zset: failed deliveries, as in the lane → n. One goes with its event.
//! - `…:fr:<L>` zset: first numbers of runs of which deliveries failed → the same. As above.
//!
//! # The log
//!
//! - `…:log` stream: chunks of attempts that succeeded at once ([`chunk`]). `<k>-<ms>` → `c` up to
//!   256 records (`codec::packed`); `m` the highest n among them; `r` packed: how many members in
//!   `map` lead to it, and its members in `trail` as n and name in turn; `l` packed: starts and
//!   lengths of what was late, in turn. One goes when `m` is behind the trim mark.
//! - `…:elog` stream: chunks of all other attempts, in the same form. One goes when none of its
//!   events is kept.
//! - `…:re` hash: chunks that were written anew: `l<k>` or `e<k>` → its row, in postcard: its id,
//!   its fields ([`stream::Row`]). An entry of a stream cannot be changed. One goes as the chunk
//!   would.
//! - `…:map` zset: `<chunk>.<part>` ([`chunk::Use`]) → first number of a range that it tells of.
//!   One goes with its chunk.
//! - `…:trail` zset: `<chunk>.<n>` → n of an event that it tells of. As above.
//! - `…:end` stream: ends that no attempt tells of ([`ends`]): field `d`, packed, seven texts each,
//!   or `r`, one run's. About the latest 2,000 are kept.
//!
//! # Counters
//!
//! - `…:n` hash: the books of all: `a` accepted, `m` matched, `u` unmatched, `c` created, `s`
//!   succeeded, `f` failed, `x` cancelled, `z` called off of `u`, `h` scheduled. It never goes.
//! - `…:n:<tenant>` hash: the same of a tenant. It goes when the tenant's id is used again.
//! - `…:pc` hash: page of 65,536 numbers → how many deliveries of its events are pending. What is 0
//!   is not there.
//! - `…:pf:<page>` hash: stretch of 256 numbers of a page → the same.
//!
//! # Test sends, all in partition 0
//!
//! - `…:tests` list: tickets of those that nobody took. 256 at most, and a minute after the last
//!   wait.
//! - `…:test:<ticket>` hash: `p` what is to be sent ([`test_send`]), `t` until when it may be
//!   taken, `w` until when it is waited for, `by` the node that took it; `over`: a mark that it
//!   ended. A minute after its end.
//! - `…:res:<ticket>` list: the answer, one element. A minute.
//!
//! # Who does what
//!
//! - `…:rate:<what>` string: up to when slots of a rate were handed out, in µs since 1970 with a
//!   fraction: `l<lane>`, `h<host>:<port>`, `t<tenant>`. A minute longer than it matters. It lies in
//!   the partition of its name's hash ([`keys::home`]).
//! - `…:jan` string: the process that keeps the history within its bounds. 10 s.

pub(super) mod batch;
pub(super) mod chunk;
pub(super) mod config;
pub(super) mod delivery;
pub(super) mod ends;
pub(super) mod entry;
mod form;
pub(super) mod keys;
pub(super) mod stream;
pub(super) mod test_send;
pub(super) mod token;

#[cfg(test)]
mod tests;

pub(super) use form::{Stored, number, packed_list, packed_text, text};

/// What Rust writes of a value that it has read; none: it is no such value.
#[cfg(any(feature = "conformance", feature = "fuzzing"))]
pub fn written_again(kind: &str, stored: &[u8]) -> Option<Vec<u8>> {
    use bytes::Bytes;
    use pregon_core::id::{DeliveryKey, LaneNo, Position};

    use crate::codec::stored::as_new;
    use crate::redis::config::log_entry;
    use crate::redis::work::runs::{Ended, Piece};
    use crate::run::Bits;

    fn again<T: Stored>(stored: &Bytes) -> Option<Vec<u8>> {
        T::decode(stored)?.encode().ok()
    }
    let stored = &Bytes::copy_from_slice(stored);
    match kind {
        "record" => again::<delivery::Record>(stored),
        "shut" => again::<delivery::Shut>(stored),
        "errors" => again::<delivery::FilterErrors>(stored),
        "answered" => again::<token::Answered>(stored),
        "stamped" => again::<config::Stamped>(stored),
        "remembered" => again::<config::Remembered>(stored),
        "id" => again::<stream::Id>(stored),
        "held" => again::<delivery::Held>(stored),
        "member" => {
            let (n, replay) = delivery::parse_member(text(stored)?)?;
            let position = Position { ms: 0, partition: 0, n };
            let key = DeliveryKey { position, lane: LaneNo::EVENTS, replay };
            Some(delivery::member(&key).into())
        }
        "bits" => again::<Bits>(stored),
        "piece" => again::<Piece>(stored),
        "ended" => again::<Vec<Ended>>(stored),
        "piece name" => again::<batch::Field>(stored),
        "use" => again::<chunk::Use>(stored),
        "leads" => again::<chunk::Leads>(stored),
        "late" => again::<chunk::Late>(stored),
        "ends" => again::<ends::Ends>(stored),
        "ends of a run" => again::<ends::EndsOfRun>(stored),
        "row" => again::<stream::Row>(stored),
        "entry" => {
            let position = Position { ms: 0, partition: 0, n: 1 };
            let event = entry::decode(position, stored).event()?;
            entry::encode(&as_new(&event)).ok()
        }
        "test send" => test_send::encode(&test_send::decode(stored)?).ok(),
        "change" => log_entry::written_again(stored),
        _ => None,
    }
}
