//! Claims: new events, due deliveries, batches whose lease ran out.
//!
//! A claim says which numbers a node has; bodies are read beside it and never pass through a
//! script. A take reads first and claims what it read: so it knows how much fits, and a look at an
//! empty queue costs no script.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::id::{DeliveryKey, LaneNo, NodeId, Position};
use pregon_core::outcome::EndReason;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::{Batch, HeldDelivery, LaneClose, OpenEvent, TRIAL, Token};
use crate::codec::{records, stored};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::bodies::{Bodies, read_ahead, read_cursor, read_range, read_some};
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::operation::Claimed;
use crate::redis::engine::partition::{Kind, Partition};
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value::Blob;
use crate::redis::layout::delivery::{self, Held, Record};
use crate::redis::layout::entry::Found;
use crate::redis::layout::keys::Key;
use crate::redis::layout::{Stored, token};
use crate::redis::work::settle;
use crate::run::{self, Bits};
use crate::work::{BATCH_MAX, Claim, Due, DueRequest, LANE_QUANTUM, SUSPECT_AT, SUSPECT_WAIT};

/// Deliveries with records that one due call hands out: 1 ms of Redis. Of runs it hands out up to
/// [`BATCH_MAX`].
const DUE_MAX: usize = 100;
/// Lanes that one due call looks at.
const LOOK: usize = 256;
/// How long a lane without a free slot is put off. A node whose slot comes free asks for it by
/// name; this is for the others.
const PUT_OFF: Duration = Duration::from_millis(500);
/// Lapsed batches that one call looks at: room behind suspects that are put off.
const TAKE_OVER_LOOK: usize = 64;
/// Lapsed batches in one call.
const TAKE_OVER_MAX: usize = 4;

/// Leases the next new events.
pub(in crate::redis) async fn take(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    want: usize,
    bytes: usize,
) -> Result<Option<Batch>> {
    let want = want.min(BATCH_MAX);
    if want == 0 {
        return Ok(None);
    }
    let _turn = partition.turn_to_take().await;
    let cur = match partition.guess() {
        Some(guess) => guess.cur,
        None => read_cursor(engine, partition).await?,
    };
    let ahead = read_ahead(engine, partition, cur, partition.expected(want, bytes)).await?;
    if ahead.is_empty() && !partition.operations(Kind::Take).await.owe() {
        return Ok(None);
    }
    partition.saw(&ahead);
    let token = engine.new_token(partition.no);
    let args = Args::default()
        .text(token::print(token))
        .text(&claim.node)
        .text(fitting(&ahead, bytes))
        .millis(claim.lease)
        .millis(TRIAL);
    let taken: Claimed<(String, String, Vec<u64>)> =
        engine.claim(partition, Kind::Take, &STEPS.take, token, args).await?;
    let batch = read_taken(engine, partition, claim, &taken, cur, ahead).await;
    later(engine, partition, Kind::Take, &taken, batch).await
}

/// What a claim leased could not be read: it is not left to lapse, but to the next claim.
async fn later<T: serde::Serialize, R>(
    engine: &Engine,
    partition: &Partition,
    kind: Kind,
    claimed: &Claimed<T>,
    read: Result<R>,
) -> Result<R> {
    if read.as_ref().is_err_and(Fault::is_passing) {
        engine.claim_later(partition, kind, claimed).await;
    }
    read
}

/// Moves the ends of an earlier claim's leases, which have been running since; which are gone.
async fn renew<T>(
    engine: &Engine,
    claim: &Claim,
    claimed: &Claimed<T>,
    tokens: &[Token],
) -> Result<Vec<Token>> {
    if !claimed.earlier || tokens.is_empty() {
        return Ok(Vec::new());
    }
    tracing::info!(batches = tokens.len(), "an answer that was lost brings leased batches");
    extend(engine, tokens, claim.lease).await
}

async fn read_taken(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    taken: &Claimed<(String, String, Vec<u64>)>,
    cur: u64,
    ahead: Vec<Found>,
) -> Result<Option<Batch>> {
    let (first, last, closed) = &taken.answer;
    let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else {
        return Err(bad("a take's answer", (first, last)));
    };
    if last == 0 {
        partition.guessed(first); // nothing is left: this is the cursor
        return Ok(None);
    }
    partition.guessed(last);
    if !renew(engine, claim, taken, &[taken.token]).await?.is_empty() {
        return Ok(None);
    }
    let mut bodies: Bodies = ahead.into_iter().map(|found| (found.position().n, found)).collect();
    if taken.earlier || first != cur + 1 {
        // Another claim was there in between: what was read is not what was leased.
        bodies = read_range(engine, partition, first, last).await?;
    }
    let mut batch = empty(taken.token, partition, 1, None);
    for n in first..=last {
        add_event(&mut batch, &mut bodies, n);
    }
    batch.closed = closed.chunks_exact(3).filter_map(closed_lane).collect();
    Ok(Some(batch))
}

/// A closed lane: its number, how many milliseconds it is closed yet, and why.
fn closed_lane(parts: &[u64]) -> Option<LaneClose> {
    let reason = stored::pending_of(i64::try_from(parts[2]).ok()?)?;
    Some(LaneClose { lane: LaneNo(parts[0]), wait: Duration::from_millis(parts[1]), reason })
}

fn empty(token: Token, partition: &Partition, takes: u32, previous: Option<NodeId>) -> Batch {
    Batch {
        token,
        partition: partition.no,
        takes,
        previous,
        events: Vec::new(),
        deliveries: Vec::new(),
        spoiled: Vec::new(),
        closed: Vec::new(),
    }
}

/// Adds an event of a claim to its batch; one that is not there is set aside like one that cannot
/// be read.
fn add_event(batch: &mut Batch, bodies: &mut Bodies, n: u64) {
    match bodies.remove(&n) {
        Some(Found::Event(event)) => {
            batch.events.push(OpenEvent { event: Arc::new(*event), cursor: None, ripe: false });
        }
        Some(Found::Spoiled(position)) => batch.spoiled.push(position),
        None => batch.spoiled.push(Position { ms: 0, partition: batch.partition, n }),
    }
}

/// How many of the events fit into so many bytes; one always does.
fn fitting(events: &[Found], bytes: usize) -> usize {
    let mut size = 0usize;
    let fit = events.iter().take_while(|found| {
        let fits = size < bytes;
        size = size.saturating_add(found.len());
        fits
    });
    fit.count().max(1)
}

/// Leases due deliveries, lanes taking turns.
pub(in crate::redis) async fn due(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    request: &DueRequest,
) -> Result<Due> {
    let token = engine.new_token(partition.no);
    let slots: Vec<u64> =
        request.slots.iter().flat_map(|(lane, slots)| [lane.0, u64::from(*slots)]).collect();
    let pull: Vec<u64> = request.pull.iter().take(LOOK).map(|lane| lane.0).collect();
    let args = Args::default()
        .text(token::print(token))
        .text(&claim.node)
        .text(request.want.min(BATCH_MAX))
        .millis(claim.lease)
        .text(LANE_QUANTUM)
        .table(&slots)?
        .text(request.default_slots)
        .table(&pull)?
        .text(LOOK)
        .millis(PUT_OFF)
        .text(DUE_MAX)
        .millis(TRIAL);
    let handed: Claimed<Handed> =
        engine.claim(partition, Kind::Due, &STEPS.due, token, args).await?;
    let due = read_due(engine, partition, claim, &handed).await;
    later(engine, partition, Kind::Due, &handed, due).await
}

/// Whether more is due, when the next is, and what was handed out: lanes, and items in turn; pieces
/// of runs; and which of the lanes are on trial.
type Handed = (bool, i64, Vec<(String, Vec<String>)>, Vec<Piece>, Vec<u64>);

async fn read_due(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    claimed: &Claimed<Handed>,
) -> Result<Due> {
    let (more, next, handed, pieces, trials) = &claimed.answer;
    let more = *more || claimed.earlier; // nobody looked since
    let next = u64::try_from(*next).ok().map(Duration::from_millis);
    let nothing = handed.is_empty() && pieces.is_empty();
    if nothing || !renew(engine, claim, claimed, &[claimed.token]).await?.is_empty() {
        return Ok(Due { batch: None, more, next });
    }
    let mut contents = Contents::default();
    for (lane, items) in handed {
        for item in items.chunks_exact(2) {
            contents.add_due(lane, &item[0], &item[1])?;
        }
    }
    pieces.iter().try_for_each(|piece| contents.add_piece(piece))?;
    let mut batch = empty(claimed.token, partition, 1, None);
    batch.closed = trials.iter().map(|lane| LaneClose::on_trial(LaneNo(*lane))).collect();
    let batch = contents.fill(engine, partition, batch).await?;
    Ok(Due { batch: Some(batch).filter(|batch| !batch.is_empty()), more, next })
}

/// What a claim leased beside new events.
#[derive(Default)]
struct Contents {
    /// Numbers, how far their fan-outs got, and whether they are ripe.
    events: Vec<(u64, Option<LaneNo>, bool)>,
    deliveries: Vec<(Held, Record)>,
    /// Numbers, lanes, and when their runs began.
    of_runs: Vec<(u64, LaneNo, i64)>,
}

/// A piece of a run as scripts tell of it: its lane, its first number, when it began, its bits.
type Piece = (String, String, i64, Blob);

impl Contents {
    fn add_due(&mut self, lane: &str, member: &str, value: &str) -> Result<()> {
        let found = delivery::parse_member(member);
        let (n, replay) = found.ok_or_else(|| bad("a lane's member", member))?;
        if lane == delivery::EVENT {
            self.add_event(n, value);
            return Ok(());
        }
        let lane = lane.parse().map(LaneNo).map_err(|_| bad("a lane", lane))?;
        self.add(Held { n, lane, replay }, value)
    }

    /// `text`: what a script says of an event that is to be matched.
    fn add_event(&mut self, n: u64, text: &str) {
        let ripe = text.strip_suffix('!');
        let cursor = ripe.unwrap_or(text).parse().ok().map(LaneNo);
        self.events.push((n, cursor, ripe.is_some()));
    }

    fn add_held(&mut self, name: &str, value: &str) -> Result<()> {
        self.add(Held::parse(name).ok_or_else(|| bad(Held::WHAT, name))?, value)
    }

    fn add(&mut self, held: Held, value: &str) -> Result<()> {
        let record = Record::parse(value).ok_or_else(|| bad(Record::WHAT, value))?;
        self.deliveries.push((held, record));
        Ok(())
    }

    fn add_piece(&mut self, (lane, base, began, bits): &Piece) -> Result<()> {
        let lane = lane.parse().map(LaneNo).map_err(|_| bad("a lane", lane))?;
        let base = base.parse().map_err(|_| bad("a run", base))?;
        let bits = Bits::read(&bits.0).ok_or_else(|| bad("bits of a run", base))?;
        self.of_runs.extend(bits.numbers(base).map(|n| (n, lane, *began)));
        Ok(())
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let events = self.events.iter().map(|(n, ..)| *n);
        let of_runs = self.of_runs.iter().map(|(n, ..)| *n);
        events.chain(self.deliveries.iter().map(|(held, _)| held.n)).chain(of_runs)
    }

    /// Reads the events and fills the batch. A delivery whose event cannot be read ends here: there
    /// is nothing to render.
    async fn fill(self, engine: &Engine, partition: &Partition, mut batch: Batch) -> Result<Batch> {
        let found = read_some(engine, partition, self.numbers()).await?;
        let mut events = BTreeMap::new();
        for (n, found) in &found {
            if let Found::Event(event) = found {
                events.insert(*n, Arc::new((**event).clone()));
            }
        }
        for (n, cursor, ripe) in self.events {
            match events.get(&n).map(Arc::clone) {
                Some(event) => batch.events.push(OpenEvent { event, cursor, ripe }),
                None => {
                    let gone = Position { ms: 0, partition: partition.no, n };
                    batch.spoiled.push(found.get(&n).map_or(gone, Found::position));
                }
            }
        }
        let mut unreadable = Vec::new();
        let recorded = self.deliveries.into_iter().map(|(Held { n, lane, replay }, record)| {
            (n, lane, replay, record.attempts, record.create_ms, record.at_ms, false)
        });
        let of_runs = self.of_runs.into_iter();
        let of_runs = of_runs.map(|(n, lane, began)| (n, lane, None, 0, began, began, true));
        for (n, lane, replay, attempts, create_ms, at_ms, of_run) in recorded.chain(of_runs) {
            let Some(event) = events.get(&n) else {
                let position = Position { ms: 0, partition: partition.no, n };
                unreadable.push((DeliveryKey { position, lane, replay }, attempts));
                continue;
            };
            let accepted = event.accept_time().millis();
            let moment = |ms| if of_run { run::created(ms, accepted) } else { ms };
            batch.deliveries.push(HeldDelivery {
                key: DeliveryKey { position: event.position, lane, replay },
                event: Arc::clone(event),
                attempts,
                create_time: Timestamp::from_millis(moment(create_ms)),
                due: (batch.takes <= 1).then(|| Timestamp::from_millis(moment(at_ms))),
            });
        }
        if !unreadable.is_empty() {
            tracing::error!(
                partition = partition.no,
                deliveries = unreadable.len(),
                "events of pending deliveries cannot be read: the deliveries fail"
            );
            settle::give_up(engine, partition, batch.token, &unreadable, EndReason::RenderFailed)
                .await?;
        }
        Ok(batch)
    }
}

/// A batch that was taken over, as the script tells of it.
#[derive(serde::Deserialize, serde::Serialize)]
struct TakenOver {
    token: String,
    node: String,
    takes: u32,
    released: bool,
    /// Numbers and cursors in turn.
    events: Vec<String>,
    /// Names and records in turn.
    held: Vec<String>,
    pieces: Vec<Piece>,
}

/// Leases lapsed batches, and says when the next lease lapses.
pub(in crate::redis) async fn take_over(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    limit: usize,
    suspects: usize,
) -> Result<(Vec<Batch>, Option<Duration>)> {
    let limit = limit.min(TAKE_OVER_MAX);
    // A batch that is halved needs a token for either half.
    let first = engine.new_tokens(partition.no, 2 * limit as u64);
    let args = Args::default()
        .text(&claim.node)
        .millis(claim.lease)
        .text(limit)
        .text(SUSPECT_AT)
        .text(token::process(first.incarnation))
        .text(first.sequence)
        .text(token::STEP)
        .text(suspects)
        .text(TAKE_OVER_LOOK)
        .millis(SUSPECT_WAIT);
    let taken: Claimed<(i64, Vec<TakenOver>)> =
        engine.claim(partition, Kind::TakeOver, &STEPS.take_over, first, args).await?;
    let batches = read_taken_over(engine, partition, claim, &taken).await;
    later(engine, partition, Kind::TakeOver, &taken, batches).await
}

async fn read_taken_over(
    engine: &Engine,
    partition: &Partition,
    claim: &Claim,
    claimed: &Claimed<(i64, Vec<TakenOver>)>,
) -> Result<(Vec<Batch>, Option<Duration>)> {
    let (next, taken) = &claimed.answer;
    let tokens = taken.iter().map(|batch| token::parse(&batch.token));
    let tokens = tokens.collect::<Option<Vec<_>>>().ok_or_else(|| bad("tokens", taken.len()))?;
    let gone = renew(engine, claim, claimed, &tokens).await?;
    let (mut batches, mut lost) = (Vec::new(), Vec::new());
    for (batch, token) in taken.iter().zip(tokens).filter(|(_, token)| !gone.contains(token)) {
        let previous = NodeId::parse(&batch.node).ok();
        let mut contents = Contents::default();
        for item in batch.events.chunks_exact(2) {
            let n = item[0].parse().map_err(|_| bad("an event's number", &item[0]))?;
            contents.add_event(n, &item[1]);
        }
        for item in batch.held.chunks_exact(2) {
            contents.add_held(&item[0], &item[1])?;
        }
        batch.pieces.iter().try_for_each(|piece| contents.add_piece(piece))?;
        let fresh = empty(token, partition, batch.takes, previous.clone());
        let fresh = contents.fill(engine, partition, fresh).await?;
        if let (false, Some(node)) = (batch.released, previous) {
            let held = fresh.deliveries.iter().cloned();
            lost.extend(held.map(|held| (token, node.clone(), held)));
        }
        if !fresh.is_empty() {
            batches.push(fresh);
        }
    }
    if !lost.is_empty() {
        let now = engine.now().await?;
        let record =
            |(token, node, held)| Some((token, Arc::new(records::lost(&held, node, now)?)));
        settle::note(engine, partition, lost.into_iter().filter_map(record).collect()).await?;
    }
    Ok((batches, u64::try_from(*next).ok().map(Duration::from_millis)))
}

/// Moves the end of leases; answers with those that are gone.
pub(in crate::redis) async fn extend(
    engine: &Engine,
    tokens: &[Token],
    lease: Duration,
) -> Result<Vec<Token>> {
    let mut gone = Vec::new();
    for (partition, tokens) in by_partition(engine, tokens) {
        for tokens in tokens.chunks(BATCH_MAX) {
            let mut args = Args::default().millis(lease);
            tokens.iter().for_each(|token| args.push_text(token::print(*token)));
            let lost: Vec<String> = engine.step(partition, &STEPS.extend, args).await?;
            gone.extend(lost.iter().filter_map(|token| token::parse(token)));
        }
    }
    // A token of no partition is nobody's.
    let known = |token: &&Token| engine.partition(token::partition(**token)).is_err();
    gone.extend(tokens.iter().filter(known));
    Ok(gone)
}

/// Gives batches back and rings, with or without any.
pub(in crate::redis) async fn release(engine: &Engine, tokens: &[Token]) -> Result<()> {
    if let (true, Some(first)) = (tokens.is_empty(), engine.partitions.first()) {
        // Whoever hears one partition's bell looks at all of them.
        let _: bool = engine.step(first, &STEPS.release, Args::default()).await?;
    }
    for (partition, tokens) in by_partition(engine, tokens) {
        for tokens in tokens.chunks(BATCH_MAX) {
            let mut args = Args::default();
            tokens.iter().for_each(|token| args.push_text(token::print(*token)));
            let _: bool = engine.step(partition, &STEPS.release, args).await?;
        }
    }
    Ok(())
}

fn by_partition<'a>(
    engine: &'a Engine,
    tokens: &[Token],
) -> impl Iterator<Item = (&'a Partition, Vec<Token>)> {
    let mut sorted: BTreeMap<u16, Vec<Token>> = BTreeMap::new();
    for token in tokens {
        sorted.entry(token::partition(*token)).or_default().push(*token);
    }
    sorted.into_iter().filter_map(|(no, tokens)| Some((engine.partition(no).ok()?, tokens)))
}

/// Waits for a bell; returns at the latest after `at_most`, and at once when Redis is away.
pub(in crate::redis) async fn wait(engine: &Engine, at_most: Duration) {
    let mut cmd = redis::cmd("BLPOP");
    for partition in &engine.partitions {
        cmd.arg(partition.keys.key(Key::Bell));
    }
    // 0 would be for ever.
    cmd.arg(at_most.as_secs_f64().max(0.001));
    if let Err(fault) = engine.block.block(&cmd, at_most).await {
        tracing::debug!(?fault, "cannot wait for the bell");
        if let Fault::Silent(_) | Fault::Busy(_) = fault {
            tokio::time::sleep(at_most.min(Duration::from_millis(200))).await;
        }
    }
}
