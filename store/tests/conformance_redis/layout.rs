//! The table of keys and values, on a server: what scripts write Rust reads and writes the same, and
//! what Rust writes scripts read and write the same; and keys have the types of their rows.

use std::cell::RefCell;
use std::time::Duration;

use pregon_core::outcome::{EndReason, PendingReason};
use pregon_store::redis::{RedisOptions, probe};
use pregon_store::settlement::Transition;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::of_runs::{settle_events, settle_held, wait};
use crate::queue::{due, publish, store, take};
use crate::server::Server;

/// Writers and readers of the preludes by the kind of their value, of parts that are texts.
const OF_PARTITIONS: &str = "
local number = tonumber
local function bits_again(value) return bits_text(read_bits(value)) end
local KINDS = {
  record = { function(letter, attempts, create, at, code)
    return record(letter, attempts, number(create), number(at), code)
  end, parse },
  shut = { function(till, why) return shut_text(number(till), why) end, read_shut },
  errors = { function(events, at, why)
    return errors_text(number(events), number(at), why)
  end, read_errors },
  answered = { answered_text, function(value)
    local sequence, at, rest = read_answered(value)
    return sequence, at, string.sub(value, rest)
  end },
  stamped = { saved_text, read_saved },
  id = { id_of, parse_id },
  held = { name_of, parse_name },
  member = { member, function(name) return parse_member(name, '7') end },
  bits = { bits_again, bits_again },
  piece = { function(bits, why, began)
    local w = read_bits(bits)
    w.why, w.began = number(why), number(began)
    return piece_text(w)
  end, function(value)
    local w = read_piece(value)
    return bits_text(w), w.why, w.began
  end },
  ended = { function(bits, letter, why, at, began)
    local one = ended_text(read_bits(bits), letter, number(why), number(at), number(began))
    return one .. one
  end, function(value)
    local letter, why, at, began = struct.unpack(END, value, 33)
    return bits_text(read_bits(value, 1 + ENDED)), letter, why, at, began
  end },
  ['piece name'] = { function(from, lane) return piece_name(number(from), lane) end, parse_piece },
  use = { function(stream, k, part) return use_name(chunk_name(stream, number(k)), part) end },
  leads = { function(firsts, ...) return leads_text(number(firsts), { ... }) end },
  late = { function(...)
    local late = { ... }
    for i, place in ipairs(late) do late[i] = number(place) end
    return late_text(late)
  end },
  ends = { function(n, field, tenant, letter, attempts, create, code)
    for _ = 1, 3 do tell(n, field, tenant, letter, attempts, number(create), code) end
    return cmsgpack.pack(ends)
  end },
  ['ends of a run'] = { function(from, lane, tenant, letter, began, code, bits)
    tell_run(number(from), lane, tenant, letter, number(began), code, bits)
    return ended_runs[1]
  end },
}
";

/// The same of the configuration's prelude.
const OF_CONFIGURATION: &str = "
local text = whole
local KINDS = {
  stamped = { stamped_text, function(value)
    local stamp = stamp_of(value)
    return stamp, string.sub(value, #stamp + 2)
  end },
  remembered = { function(at, revision, digest, reply)
    return remembered_text(tonumber(at), tonumber(revision), digest, reply)
  end, read_remembered },
}
";

/// ARGV: 5 the kind, 6 w or r, then parts, or the value.
const CALL: &str = "
local kind, parts = KINDS[ARGV[5]], { unpack(ARGV, 7) }
if ARGV[6] == 'w' then return kind[1](unpack(parts)) end
if not kind[2] then return {} end
local found = { kind[2](parts[1]) }
for i, part in ipairs(found) do
  if type(part) == 'number' then found[i] = text(part) end
end
return found
";

/// A prelude on a server.
struct Prelude {
    connection: RefCell<redis::Connection>,
    script: redis::Script,
    key: &'static str,
}

impl Prelude {
    fn new(server: &Server, key: &'static str, prelude: &str, kinds: &str) -> Self {
        let client = redis::Client::open(server.url(0)).expect("a URL");
        let connection = RefCell::new(client.get_connection().expect("a connection"));
        let script = redis::Script::new(&format!("#!lua flags=\n{prelude}\n{kinds}\n{CALL}"));
        Self { connection, script, key }
    }

    fn call<T: redis::FromRedisValue>(&self, kind: &str, what: &str, parts: &[Vec<u8>]) -> T {
        let mut call = self.script.key(self.key);
        call.arg(0).arg("").arg("").arg(0).arg(kind).arg(what);
        parts.iter().for_each(|part| {
            call.arg(part);
        });
        call.invoke(&mut *self.connection.borrow_mut()).expect(kind)
    }

    /// A value goes from the script to Rust, from there to the script, and is the same all the way.
    fn goes_round(&self, kind: &str, parts: &[&[u8]]) -> Result<(), TestCaseError> {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let written: Vec<u8> = self.call(kind, "w", &parts);
        let by_rust = probe::written_again(kind, &written);
        prop_assert_eq!(by_rust.as_ref(), Some(&written), "{}", kind);
        let read: Vec<Vec<u8>> = self.call(kind, "r", &[written]);
        if !read.is_empty() {
            prop_assert_eq!(read, parts, "{}", kind);
        }
        Ok(())
    }
}

fn runner() -> TestRunner {
    TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() })
}

#[test]
fn values_of_partitions_go_round() {
    let server = Server::start();
    let prelude = Prelude::new(&server, "{t}:m", &probe::prelude_of_runs(), OF_PARTITIONS);
    let moments = || (0u64..1 << 47).prop_map(|ms| ms.to_string());
    let numbers = || (0u64..1 << 40).prop_map(|n| n.to_string());
    let codes = || (0u8..=255).prop_map(|code| code.to_string());
    let values = (
        (numbers(), numbers(), any::<u32>().prop_map(|attempts| attempts.to_string())),
        (moments(), moments(), codes()),
        (select(vec!["P", "S", "F", "C"]), select(vec!["F", "C"]), select(vec!["l", "e"])),
        (any::<[u8; 32]>(), "[a-zA-Z0-9_-]{1,64}", ".{0,40}"),
        (proptest::collection::vec(any::<u8>(), 0..100), any::<Option<[u8; 5]>>()),
    );
    runner()
        .run(&values, |value| {
            let ((n, k, attempts), (ms, began, code), letters, texts, (bytes, tag)) = value;
            let ((letter, end, stream), (bits, tenant, why)) = (letters, texts);
            let [n, k, attempts, ms, began, code] =
                [&n, &k, &attempts, &ms, &began, &code].map(|text| text.as_bytes());
            let [letter, end, stream] = [letter, end, stream].map(str::as_bytes);
            let (tenant, why) = (tenant.as_bytes(), why.as_bytes());
            let field = match tag {
                None => "7".to_owned(),
                Some(bits) => format!("7.{}", pregon_core::id::ReplayTag::from_bits(bits)),
            };
            let (field, reason) = (field.as_bytes(), b"6".as_slice());
            prelude.goes_round("record", &[letter, attempts, ms, began, code])?;
            prelude.goes_round("shut", &[ms, code])?;
            prelude.goes_round("errors", &[n, ms, why])?;
            prelude.goes_round("answered", &[n, ms, &bytes])?;
            prelude.goes_round("stamped", &[ms, &bytes])?;
            prelude.goes_round("id", &[n, ms])?;
            prelude.goes_round("held", &[n, field])?;
            prelude.goes_round("member", &[n, field])?;
            prelude.goes_round("bits", &[&bits])?;
            prelude.goes_round("piece", &[&bits, code, began])?;
            prelude.goes_round("ended", &[&bits, letter, code, ms, began])?;
            prelude.goes_round("piece name", &[n, k])?;
            prelude.goes_round("use", &[stream, n, k])?;
            prelude.goes_round("leads", &[code, n, tenant, k, tenant])?;
            prelude.goes_round("late", &[code, b"1", code, b"20"])?;
            prelude.goes_round("ends", &[n, field, tenant, end, attempts, ms, reason])?;
            prelude.goes_round("ends of a run", &[n, k, tenant, end, ms, reason, &bits])
        })
        .expect("values that go round");
}

#[test]
fn values_of_the_configuration_go_round() {
    let server = Server::start();
    let prelude = Prelude::new(&server, "{pgc}:meta", probe::CONFIG_PRELUDE, OF_CONFIGURATION);
    let bytes = || proptest::collection::vec(any::<u8>(), 0..70_000);
    let values = (0u64..1 << 47, 0u64..1 << 47, any::<[u8; 16]>(), bytes());
    runner()
        .run(&values, |(ms, revision, digest, bytes)| {
            let (ms, revision) = (ms.to_string(), revision.to_string());
            let (ms, revision) = (ms.as_bytes(), revision.as_bytes());
            prelude.goes_round("stamped", &[revision, &bytes])?;
            prelude.goes_round("remembered", &[ms, revision, &digest, &bytes])
        })
        .expect("values that go round");
}

/// Rows of the table: what a key begins with behind its tag, and its type.
fn rows() -> Vec<(&'static str, &'static str)> {
    let table = include_str!("../../src/redis/layout.rs").lines();
    let rows = table.filter_map(|line| line.strip_prefix("//! - `")?.split_once("` "));
    rows.map(|(name, rest)| {
        let kind = rest.split_once(':').expect("a type").0;
        let name = name.split_once(':').expect("a tag").1;
        (name.split('<').next().unwrap_or(name), kind)
    })
    .collect()
}

/// A store with a little of much has no key that is not in the table, or of another type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_have_the_types_of_their_rows() {
    let server = Server::start();
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&server.url(0)) };
    let store = store(&options).await;
    publish(&store, 3).await;
    let to = [
        (1, Transition::Succeeded),
        (2, Transition::Failed(EndReason::Refused)),
        (3, Transition::Retry(Duration::ZERO)),
        (4, Transition::Held),
    ];
    settle_events(&store, &take(&store).await, &to).await;
    settle_held(&store, &due(&store).await, Transition::Waiting(PendingReason::Paused)).await;
    wait(&store, 300, &[5]).await;
    due(&store).await;
    let client = redis::Client::open(server.url(0)).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
    let (rows, mut seen) = (rows(), std::collections::BTreeSet::new());
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).expect("a type");
        let name = key.split_once(':').expect("a tag").1;
        let own = name.split_inclusive(':').next().expect("a name");
        let row = rows.iter().find(|(name, it)| *name == own && *it == kind);
        seen.insert(row.unwrap_or_else(|| panic!("{key} is a {kind}")).0);
    }
    assert!(seen.len() >= 20, "{seen:?}");
}
