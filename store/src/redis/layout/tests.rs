use std::collections::BTreeSet;
use std::fmt::Debug;
use std::result::Result;

use bytes::Bytes;
use pregon_core::attempt::End;
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{
    DeliveryKey, EventId, EventTypeId, LaneNo, PartitionNo, Position, ReplayTag, TenantId,
};
use pregon_core::outcome::{DeliveryState, EndReason};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use redis::Value;

use super::batch::Field;
use super::chunk::{Chunk, Highest, Late, Leads, Stream, Use};
use super::config::{Remembered, Stamped};
use super::delivery::{FilterErrors, Held, Record, Shut};
use super::ends::{Ends, EndsOfRun};
use super::keys::{ConfigKey, Key, Keys};
use super::stream::{Id, Row};
use super::token::Answered;
use super::*;
use crate::audit::AuditClass;
use crate::redis::work::runs::{self, Piece, Said};
use crate::run::{self, Bits};
use crate::watch::Ended;

/// A value is read as it was written, and garbage is none: neither panics.
fn comes_back<T: Stored + PartialEq + Debug>(it: &T, garbage: &[u8]) -> Result<(), TestCaseError> {
    let stored = Bytes::from(it.encode().unwrap());
    let read = T::decode(&stored);
    prop_assert_eq!(read.as_ref(), Some(it));
    T::decode(&Bytes::copy_from_slice(garbage));
    let cut = garbage.first().map_or(0, |byte| usize::from(*byte)).min(stored.len());
    T::decode(&stored.slice(..cut));
    let spoiled = stored.iter().zip(garbage.iter().chain(std::iter::repeat(&0)));
    T::decode(&spoiled.map(|(byte, other)| byte ^ (other & 0x11)).collect());
    Ok(())
}

fn moments() -> impl Strategy<Value = i64> {
    0i64..1 << 47
}

fn numbers() -> impl Strategy<Value = u64> {
    0u64..1 << 40
}

fn lanes() -> impl Strategy<Value = LaneNo> {
    (1u64..1 << 40).prop_map(LaneNo)
}

fn tags() -> impl Strategy<Value = Option<ReplayTag>> {
    option::of(any::<[u8; 5]>().prop_map(ReplayTag::from_bits))
}

fn helds() -> impl Strategy<Value = Held> {
    (numbers(), 0u64..1 << 40, tags()).prop_map(|(n, lane, replay)| Held {
        n,
        lane: LaneNo(lane),
        replay,
    })
}

fn states() -> impl Strategy<Value = DeliveryState> {
    select(DeliveryState::ALL)
}

fn ended() -> impl Strategy<Value = End> {
    let states = vec![DeliveryState::Succeeded, DeliveryState::Failed, DeliveryState::Cancelled];
    (select(states), option::of(select(EndReason::ALL)))
        .prop_map(|(state, reason)| End { state, reason })
}

fn tenants() -> impl Strategy<Value = TenantId> {
    "[a-zA-Z0-9_-]{1,64}".prop_map(|text| TenantId::parse(&text).unwrap())
}

fn bits() -> impl Strategy<Value = Bits> {
    any::<[u8; run::BYTES]>().prop_map(|bytes| Bits::read(&bytes).unwrap())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn chunks() -> impl Strategy<Value = Chunk> {
    (select(Stream::ALL.to_vec()), numbers()).prop_map(|(stream, k)| Chunk { stream, k })
}

proptest! {
    #[test]
    fn deliveries_come_back(
        held in helds(),
        state in states(),
        attempts: u32,
        times in (moments(), moments()),
        code in 0i64..256,
        reason in ".{0,100}",
        garbage in bytes(),
    ) {
        comes_back(&held, &garbage)?;
        let position = Position { ms: 1, partition: 0, n: held.n };
        let key = DeliveryKey { position, lane: held.lane, replay: held.replay };
        prop_assert_eq!(Held::of(&key), held);
        let field = delivery::field(&key);
        prop_assert_eq!(delivery::parse_field(&field), Some((key.lane, key.replay)));
        let member = delivery::member(&key);
        prop_assert_eq!(delivery::parse_member(&member), Some((held.n, held.replay)));
        prop_assert_eq!(runs::parse_member(&member), None);
        let (create_ms, at_ms) = times;
        comes_back(&Record { state, attempts, create_ms, at_ms, code }, &garbage)?;
        comes_back(&Shut { till_ms: at_ms, why: code }, &garbage)?;
        let errors = FilterErrors { count: held.n, last_ms: at_ms, reason };
        comes_back(&errors, &garbage)?;
    }

    #[test]
    fn fields_of_batches_come_back(
        held in helds(),
        n in numbers(),
        lane in lanes(),
        name in ".{0,20}",
        garbage in bytes(),
    ) {
        comes_back(&Field::Done(n), &garbage)?;
        comes_back(&Field::Held(held), &garbage)?;
        comes_back(&Field::Piece(run::base(n), lane), &garbage)?;
        if let Some(field) = Field::parse(&name) {
            comes_back(&field, &garbage)?;
        }
    }

    #[test]
    fn runs_come_back(
        bits in bits(),
        base in numbers().prop_map(run::base),
        lane in lanes(),
        (why, state) in (0i64..256, states()),
        (began_ms, end_ms) in (moments(), moments()),
        garbage in bytes(),
    ) {
        comes_back(&bits, &garbage)?;
        let piece = Piece { bits, why, began_ms };
        comes_back(&piece, &garbage)?;
        let one = runs::Ended { bits, state, why, end_ms, began_ms };
        let ended = vec![one.clone(), one];
        comes_back(&ended, &garbage)?;
        let [waits, held, ends] = runs::fields_of(lane);
        let read = |name: &str, stored: Vec<u8>| runs::read_field(name, &stored.into()).unwrap();
        prop_assert_eq!(read(&waits, piece.encode().unwrap()), (lane, Said::Waits(piece)));
        prop_assert_eq!(read(&held, bits.encode().unwrap()), (lane, Said::Held(bits)));
        prop_assert_eq!(read(&ends, ended.encode().unwrap()), (lane, Said::Ended(ended)));
        let name = String::from_utf8_lossy(&garbage);
        let _ = runs::read_field(&name, &Bytes::copy_from_slice(&garbage));
        let member = runs::member(base);
        prop_assert_eq!(runs::parse_member(&member), Some(base));
        prop_assert_eq!(delivery::parse_member(&member), None);
        prop_assert_eq!(runs::parse_piece(&runs::piece(base, lane)), Some((base, lane)));
    }

    #[test]
    fn chunks_come_back(
        chunk in chunks(),
        part in numbers(),
        (firsts, trail) in (0u64..300, vec("[a-z0-9.]{1,20}", 0..20)),
        late in vec(0usize..256, 0..20),
        id in (numbers(), numbers()),
        fields in vec((bytes(), bytes()), 0..4),
        garbage in bytes(),
    ) {
        prop_assert_eq!(Chunk::parse(&chunk.to_string()), Some(chunk));
        comes_back(&Use { chunk, part }, &garbage)?;
        let leads = Leads { firsts, trail };
        comes_back(&leads, &garbage)?;
        prop_assert_eq!(leads.map(chunk).count() as u64, firsts);
        comes_back(&Late(late), &garbage)?;
        comes_back(&Highest(part), &garbage)?;
        let id = Id { n: id.0, ms: id.1 };
        comes_back(&id, &garbage)?;
        let value = |(name, value)| [Value::BulkString(name), Value::BulkString(value)];
        let row = Row { id, fields: fields.into_iter().flat_map(value).collect() };
        comes_back(&row, &garbage)?;
        let parts = vec![Value::BulkString(id.encode().unwrap()), Value::Array(row.fields.clone())];
        prop_assert_eq!(Row::read(Value::Array(parts)), Ok(row));
    }

    #[test]
    fn ends_come_back(
        ends in vec((helds(), tenants(), ended(), any::<u32>(), moments()), 0..40),
        (base, lane, bits) in (numbers().prop_map(run::base), lanes(), bits()),
        (tenant, end, began_ms) in (option::of(tenants()), ended(), moments()),
        garbage in bytes(),
    ) {
        let one = |(held, tenant, end, attempts, create_ms)| {
            let Held { n, lane, replay } = held;
            Ended { n, lane, replay, tenant, end, attempts, create_ms }
        };
        comes_back(&Ends(ends.into_iter().map(one).collect()), &garbage)?;
        let of_run = EndsOfRun { base, lane, tenant, end, began_ms, bits };
        comes_back(&of_run, &garbage)?;
        let seen = if of_run.tenant.is_some() { bits.count() as usize } else { 0 };
        prop_assert_eq!(of_run.each().len(), seen);
    }

    #[test]
    fn values_of_the_configuration_come_back(
        (stamp, bytes) in (any::<i64>(), bytes()),
        (ms, revision) in (moments(), moments()),
        (digest, reply) in (vec(any::<u8>(), 16), vec(any::<u8>(), 0..70_000)),
        (collections, name) in ("[a-z/]{0,20}", "[^\0]{0,40}"),
        garbage in bytes(),
    ) {
        comes_back(&Stamped { stamp, bytes: Bytes::from(bytes) }, &garbage)?;
        comes_back(&Remembered { ms, revision, digest, reply }, &garbage)?;
        let member = config::member(&collections, &name);
        prop_assert_eq!(config::parse_member(&member), Some(name.as_str()));
    }

    #[test]
    fn tokens_and_answers_come_back(
        incarnation: u64,
        number in 0u64..1 << 50,
        p in 0..token::PARTITIONS_MAX,
        (ms, answer) in (moments(), bytes()),
        garbage in bytes(),
    ) {
        let token = token::make(incarnation, p, number);
        prop_assert_eq!(token::parse(&token::print(token)), Some(token));
        prop_assert_eq!(token::partition(token), p);
        let answer = Bytes::from(answer);
        comes_back(&Answered { sequence: token.sequence, ms, answer }, &garbage)?;
    }

    #[test]
    fn events_come_back(
        tenant in "[a-z]{1,64}",
        id in option::of("[a-z]{1,20}"),
        version: u32,
        attributes in btree_map("[a-z0-9_]{1,32}", ".{0,20}", 0..4),
        data in bytes(),
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
            terms: None,
            attributes: attributes.clone(),
            data: Bytes::from(data),
        };
        let position = Position { ms: 1_800_000_000_000, partition: 2, n };
        let id = Id { n, ms: position.ms };
        prop_assert_eq!(id.position(2), position);
        let entry = Bytes::from(entry::encode(&new).unwrap());
        let found = entry::decode(position, &entry).event().unwrap();
        prop_assert_eq!(&found.data, &new.data);
        prop_assert_eq!(&found.tenant, &new.tenant);
        prop_assert_eq!(&found.attributes, &attributes);
        prop_assert_eq!(&found.id, &new.id.clone().unwrap_or_else(|| EventId::assigned(position)));
        // What is cut off is never taken for an event with less in it, but for its data.
        for len in 0..entry.len() - new.data.len() {
            prop_assert!(entry::decode(position, &entry.slice(..len)).event().is_none());
        }
        let test = crate::test_send::TestSend {
            lane: LaneNo(n),
            event: found,
            min_revision: 7,
            timeout: std::time::Duration::from_millis(n),
            trace: None,
        };
        let request = Bytes::from(test_send::encode(&test).unwrap());
        let read = test_send::decode(&request);
        prop_assert_eq!(read.as_ref(), Some(&test));
        for len in 0..request.len() - new.data.len() {
            prop_assert!(test_send::decode(&request.slice(..len)).is_none());
        }
    }
}

/// The table: what each row names, without its tag and what stands for an argument.
fn rows() -> BTreeSet<String> {
    let table =
        include_str!("../layout.rs").lines().filter_map(|line| line.strip_prefix("//! - `"));
    let names = table.filter_map(|row| Some(row.split_once('`')?.0));
    let names: Vec<String> =
        names.map(|name| name.split('<').next().unwrap_or(name).to_owned()).collect();
    let all: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(all.len(), names.len(), "a key has one row");
    all
}

/// What a text builds keys from: what stands between these two.
fn built(text: &str, before: &str, behind: char) -> Vec<String> {
    let all = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
    all.filter_map(|rest| Some(rest.split_once(behind)?.0.to_owned())).collect()
}

/// Every key that is built has a row, and every row is of a key that is built.
#[test]
fn every_key_is_in_the_table() {
    let mut found = BTreeSet::new();
    let scripts = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/lua")).unwrap();
    for script in scripts {
        let path = script.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for (start, tag) in [("base .. ", "…:"), ("tag .. ", "{pgc}:")] {
            for rest in built(&text, start, '\n') {
                let name = rest.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
                let (name, _) = name.unwrap_or_else(|| panic!("{path:?} builds a key of {rest}"));
                let name = name.split_inclusive(':').next().unwrap_or_default();
                found.insert(format!("{tag}{name}"));
            }
        }
    }
    let keys = include_str!("keys.rs");
    for name in built(keys, "format!(\"{tag}:", '"') {
        found.insert(format!("…:{}", name.split('{').next().unwrap()));
    }
    for name in built(keys, "f.write_str(\"{pgc}:", '"') {
        found.insert(format!("{{pgc}}:{name}"));
    }
    for name in built(keys, "write!(f, \"{{pgc}}:", '{') {
        found.insert(format!("{{pgc}}:{name}"));
    }
    assert_eq!(found, rows());
}

#[test]
fn keys_of_the_configuration_differ_and_share_a_tag() {
    let all = [
        ConfigKey::Meta,
        ConfigKey::Doc,
        ConfigKey::Names,
        ConfigKey::Changes,
        ConfigKey::Audit,
        ConfigKey::AuditIds(AuditClass::Call),
        ConfigKey::AuditIds(AuditClass::Bound),
        ConfigKey::AuditIds(AuditClass::Refusal),
        ConfigKey::Nodes,
        ConfigKey::Seen,
        ConfigKey::Knows,
        ConfigKey::Sure,
        ConfigKey::None,
        ConfigKey::Commit([1; 16]),
        ConfigKey::Request([1; 16]),
    ];
    let named: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(named.len(), all.len());
    assert!(named.iter().all(|key| key.starts_with("{pgc}:")));
}

#[test]
fn no_two_keys_are_the_same() {
    let token = token::make(1, 2, 3);
    let lane = LaneNo(3);
    let ticket = crate::test_send::Ticket::random().unwrap();
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
        Key::Tombstones,
        Key::Body(1),
        Key::Unmatched(1),
        Key::Bell,
        Key::Tests,
        Key::Test(ticket),
        Key::Answer(ticket),
        Key::Janitor,
    ];
    let partitions: [PartitionNo; 2] = [0, 1];
    let named: BTreeSet<String> =
        partitions.iter().flat_map(|p| all.map(|key| Keys::new(*p, 2).key(key))).collect();
    assert_eq!(named.len(), all.len() * 2);
}
