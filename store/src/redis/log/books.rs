//! The books and the audit: counters on one side, the structure on the other.
//!
//! `waiting` and `pending` are counted where the work lies, each partition in one moment. Two
//! counts would take Redis too long: a tenant's share of many events that nobody took yet, which
//! is then what the counters leave, and what waits in many thousand lanes, which is then counted
//! lane by lane beside the work that goes on.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::id::{LaneNo, TenantId};
use redis::Value;

use crate::log::{Books, ORPHANS_MAX, Orphan};
use crate::operate::Former;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value;
use crate::redis::layout::Stored;
use crate::redis::layout::delivery::{self, Record};
use crate::redis::layout::keys::Key;
use crate::redis::log::attempts::texts;
use crate::redis::log::read;
use crate::redis::work::runs;

mod of_runs;

/// Lanes that are counted in one moment: 1 µs each.
const LANES: usize = 5_000;
/// Events that are looked at in one moment, for whose they are.
const EVENTS: usize = 1_000;
/// What one audit names at most.
const ORPHANS: usize = 100;
/// How long a suspect is given to turn out to be work on its way.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Members of a lane, and deliveries of its runs, that one audit looks at.
const MEMBERS: usize = 20_000;
/// Deliveries of a lane that are read together.
const STRIDE: usize = 500;

/// The books of one tenant, or of all.
pub(in crate::redis) async fn books(engine: &Engine, tenant: Option<&TenantId>) -> Result<Books> {
    let mut sum = Books::default();
    for partition in &engine.partitions {
        sum += of_partition(engine, partition, tenant).await?;
    }
    Ok(sum)
}

/// What a tenant has outstanding, by its counters.
pub(in crate::redis) async fn outstanding(engine: &Engine, tenant: &TenantId) -> Result<u64> {
    let of = |partition| async move {
        let args = Args::default().text(tenant.as_str());
        engine.step::<u64>(partition, &STEPS.outstanding, args).await
    };
    let found = futures::future::try_join_all(engine.partitions.iter().map(of)).await?;
    Ok(found.into_iter().sum())
}

/// Begins a tenant's counters anew, unless something of it is outstanding.
pub(in crate::redis) async fn supersede(engine: &Engine, tenant: &TenantId) -> Result<Former> {
    let in_all = async |since: &str| {
        let call = |partition| async move {
            let args = Args::default().text(tenant.as_str()).text(since);
            engine.step::<(u64, u64, i64)>(partition, &STEPS.supersede, args).await
        };
        futures::future::try_join_all(engine.partitions.iter().map(call)).await
    };
    let found = in_all("").await?;
    let (accepted, outstanding) =
        found.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if outstanding > 0 {
        return Ok(Former::Busy);
    }
    if accepted == 0 {
        return Ok(Former::Nobody);
    }
    let since = found.iter().map(|one| one.2).max().unwrap_or(0);
    in_all(&since.to_string()).await?;
    Ok(Former::Gone(Timestamp::from_millis(since)))
}

async fn of_partition(
    engine: &Engine,
    partition: &Partition,
    tenant: Option<&TenantId>,
) -> Result<Books> {
    let args = Args::default().text(tenant.map_or("", TenantId::as_str)).text(LANES).text(EVENTS);
    let (counters, waiting, pending): ([u64; 9], i64, i64) =
        engine.step(partition, &STEPS.books, args).await?;
    let [
        accepted,
        matched,
        unmatched,
        created,
        succeeded,
        failed,
        cancelled,
        called_off,
        scheduled,
    ] = counters;
    let left = accepted.saturating_sub(matched + unmatched);
    let pending = match u64::try_from(pending) {
        Ok(pending) => pending,
        Err(_) => pending_by_lane(engine, partition, tenant).await?,
    };
    let waiting = u64::try_from(waiting).unwrap_or(left);
    let books = Books {
        accepted,
        matched,
        unmatched,
        called_off,
        waiting,
        scheduled,
        created,
        succeeded,
        failed,
        cancelled,
        pending,
    };
    Ok(books)
}

/// Counts what waits in lanes, a stretch of them at a time, and what batches hold.
async fn pending_by_lane(
    engine: &Engine,
    partition: &Partition,
    tenant: Option<&TenantId>,
) -> Result<u64> {
    let owners = read::owners(engine, partition).await?;
    let lanes: Vec<LaneNo> = owners
        .into_iter()
        .filter(|(lane, owner)| lane.0 != 0 && tenant.is_none_or(|tenant| tenant == owner))
        .map(|(lane, _)| lane)
        .collect();
    let mut pending = 0;
    for lanes in lanes.chunks(STRIDE) {
        let mut pipeline = redis::pipe();
        for lane in lanes {
            pipeline.cmd("ZCARD").arg(partition.keys.key(Key::Lane(*lane)));
            pipeline.cmd("HGET").arg(partition.keys.key(Key::InRuns)).arg(lane.0);
        }
        for answer in engine.main.pipeline(&pipeline).await? {
            match answer.extract_error()? {
                Value::Int(count) => pending += u64::try_from(count).unwrap_or(0),
                in_runs => pending += value::number::<u64>(in_runs)?.unwrap_or(0),
            }
        }
    }
    let owners: HashMap<LaneNo, TenantId> =
        read::owners(engine, partition).await?.into_iter().collect();
    for leased in read::batches(engine, partition).await? {
        for (_, lane, piece) in &leased.pieces {
            if tenant.is_none_or(|tenant| owners.get(lane) == Some(tenant)) {
                pending += u64::from(piece.bits.count());
            }
        }
        let held = leased.held.iter().filter(|(held, owner)| {
            held.lane != LaneNo::EVENTS && tenant.is_none_or(|tenant| tenant.as_str() == owner)
        });
        pending += held.count() as u64;
    }
    Ok(pending)
}

/// Names what does not fit.
pub(in crate::redis) async fn audit(engine: &Engine) -> Result<Vec<Orphan>> {
    let mut orphans = Vec::new();
    for partition in &engine.partitions {
        orphans.extend(audit_partition(engine, partition).await?);
        if orphans.len() >= ORPHANS_MAX {
            orphans.truncate(ORPHANS_MAX);
            break;
        }
    }
    Ok(orphans)
}

/// Work moves while it is looked at, so a suspect is looked at again.
async fn audit_partition(engine: &Engine, partition: &Partition) -> Result<Vec<Orphan>> {
    let suspects = look(engine, partition).await?;
    if suspects.is_empty() {
        return Ok(suspects);
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let again = look(engine, partition).await?;
    let same = |orphan: &Orphan| {
        suspects.iter().any(|known| (known.kind, &known.name) == (orphan.kind, &orphan.name))
    };
    Ok(again.into_iter().filter(same).take(ORPHANS).collect())
}

async fn look(engine: &Engine, partition: &Partition) -> Result<Vec<Orphan>> {
    let mut orphans = Vec::new();
    let mut named = |kind, name: String, detail: String| {
        if orphans.len() < ORPHANS {
            orphans.push(Orphan { kind, name, detail });
        }
    };
    let books = of_partition(engine, partition, None).await?;
    if !books.balance() {
        named("books", partition.no.to_string(), format!("do not balance: {books:?}"));
    }
    let owners: HashMap<LaneNo, TenantId> =
        read::owners(engine, partition).await?.into_iter().collect();
    let looked_at = lanes_looked_at(engine, partition).await?;
    let in_runs = of_runs::in_runs(engine, partition).await?;
    for lane in &looked_at {
        if !owners.contains_key(lane) {
            named("lane", lane.0.to_string(), "it is looked at and has no tenant".to_owned());
        }
    }
    let mut tenants = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (lane, tenant) in &owners {
        tenants.insert(tenant.clone());
        let waiting = lane_members(engine, partition, *lane).await?;
        if !waiting.is_empty() && !looked_at.contains(lane) {
            let detail = "it has waiting deliveries and is never looked at".to_owned();
            named("lane", lane.0.to_string(), detail);
        }
        let counted = in_runs.get(lane).copied().unwrap_or(0);
        let counted = (waiting.len() <= MEMBERS).then_some(counted);
        let (runs, wrong) = of_runs::of_lane(engine, partition, *lane, &waiting, counted).await?;
        for (name, detail) in wrong {
            named("run", name, detail);
        }
        let of_lane = runs.iter().flat_map(|(base, bits)| bits.numbers(*base));
        numbers.extend(of_lane.take(MEMBERS));
        let waiting: Vec<String> =
            waiting.into_iter().filter(|name| runs::parse_member(name).is_none()).collect();
        for stretch in waiting.chunks(STRIDE) {
            for name in without_record(engine, partition, *lane, stretch).await? {
                let detail = "it waits in its lane and is not recorded as pending".to_owned();
                named("delivery", format!("{name} in lane {}", lane.0), detail);
            }
        }
        let own = waiting.iter().filter_map(|name| delivery::parse_member(name));
        numbers.extend(own.map(|(n, _)| n));
    }
    for (name, detail) in of_runs::of_stretches(engine, partition).await? {
        named("run", name, detail);
    }
    for leased in read::batches(engine, partition).await? {
        let read::Leased { token, first, last, open, done, held, pieces, .. } = leased;
        let range = if first == 0 { 0 } else { last + 1 - first };
        let of_runs: u64 = pieces.iter().map(|(_, _, it)| u64::from(it.bits.count())).sum();
        let found = (range + held.len() as u64 + of_runs).saturating_sub(done);
        if found != open {
            named("batch", token, format!("it counts {open} items open and holds {found}"));
        }
        numbers.extend(pieces.iter().flat_map(|(base, _, it)| it.bits.numbers(*base)));
        numbers.extend(held.iter().map(|(held, _)| held.n));
    }
    let numbers: Vec<u64> = numbers.into_iter().collect();
    for stretch in numbers.chunks(STRIDE) {
        let found =
            crate::redis::engine::bodies::read_some(engine, partition, stretch.iter().copied())
                .await?;
        for n in stretch.iter().filter(|n| !found.contains_key(n)) {
            let detail = "deliveries of it are pending and it is gone".to_owned();
            named("event", n.to_string(), detail);
        }
    }
    for tenant in tenants {
        let books = of_partition(engine, partition, Some(&tenant)).await?;
        if !books.balance() {
            named("tenant", tenant.to_string(), format!("its books do not balance: {books:?}"));
        }
    }
    Ok(orphans)
}

async fn lanes_looked_at(engine: &Engine, partition: &Partition) -> Result<BTreeSet<LaneNo>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(partition.keys.key(Key::Lanes)).arg(0).arg(-1);
    let lanes = texts(engine.main.query(&cmd).await?)?;
    let lane = |text: &String| text.parse().map(LaneNo).map_err(|_| bad("a lane", text));
    lanes.iter().map(lane).collect()
}

/// What waits in a lane, as far as one audit looks.
async fn lane_members(engine: &Engine, partition: &Partition, lane: LaneNo) -> Result<Vec<String>> {
    let mut cmd = redis::cmd("ZRANGE");
    cmd.arg(partition.keys.key(Key::Lane(lane))).arg(0).arg(MEMBERS);
    texts(engine.main.query(&cmd).await?)
}

/// Those of a lane's members that are not recorded as pending.
async fn without_record(
    engine: &Engine,
    partition: &Partition,
    lane: LaneNo,
    members: &[String],
) -> Result<Vec<String>> {
    let mut pipeline = redis::pipe();
    for member in members {
        let found = delivery::parse_member(member);
        let (n, replay) = found.ok_or_else(|| bad("a lane's member", member))?;
        let field = delivery::field_of(lane, replay);
        pipeline.cmd("HGET").arg(partition.keys.key(Key::Record(n))).arg(field);
    }
    let answers = engine.main.pipeline(&pipeline).await?;
    let mut missing = Vec::new();
    for (member, answer) in members.iter().zip(answers) {
        let record = value::bytes(answer)?.and_then(|stored| Record::decode(&stored));
        if record.is_none_or(|record| record.state.is_end()) {
            missing.push(member.clone());
        }
    }
    Ok(missing)
}
