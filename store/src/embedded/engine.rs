//! The writer: runs jobs in groups, one transaction each.
//!
//! A group is: begin; claims, each answered at once; everything else in order; what the state
//! holds; commit; answers. Claims go first because they may then be answered before the commit:
//! all that they see was committed by an earlier group.
//!
//! If anything fails the whole group is rolled back, and its members run again one to a
//! transaction, so that only what fails by itself fails. Jobs can therefore run more than once
//! and must take nothing out of what they were given. A claim that was answered is not run again:
//! its lease went with the rollback, its events will be leased to somebody else, and its settle
//! will be told that the lease is lost. That may happen once: after a failed commit, and as long
//! as the store is full, claims too are answered after their commit. Else a disk that takes
//! nothing would have the same events sent over and over.

pub(super) mod class;
pub(super) mod codec;
pub(super) mod ends;
pub(super) mod executor;
pub(super) mod fault;
pub(super) mod files;
pub(super) mod fresh;
pub(super) mod pending;
pub(super) mod room;
pub(super) mod rows;
pub(super) mod schema;
pub(super) mod slots;
pub(super) mod standing;
pub(super) mod state;
pub(super) mod trim;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pregon_core::clock::SharedClock;
use rusqlite::Connection;
use tokio::sync::{Notify, watch};

use super::{EmbeddedOptions, History, SyncMode};
pub(super) use class::Class;

use crate::StoreError;
use crate::embedded::engine::fault::{Fault, Result};
use crate::embedded::engine::room::Room;
use crate::embedded::engine::standing::Standing;
use crate::embedded::engine::state::{State, Tx};

/// Between two looks at what can be trimmed, while there is more to trim: a step takes 2 ms, so
/// this trims faster than anybody publishes and leaves the writer four fifths of its time.
const TEND_BUSY: Duration = Duration::from_millis(10);
/// Between two looks at what can be trimmed, else.
const TEND_IDLE: Duration = Duration::from_secs(1);
/// How long a reader waits for a commit before it reads what there is.
const PASS: Duration = Duration::from_secs(1);

/// A write, ready to run.
pub(super) trait Job: Send {
    /// What it needs.
    fn class(&self) -> Class;
    /// Whether nobody waits for its answer any more.
    fn abandoned(&self) -> bool;
    /// Runs it and keeps its answer. After an error nothing it wrote may stay.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// Gives the answer, if none was given yet: what `run` kept, or the error.
    fn answer(&mut self, outcome: std::result::Result<(), StoreError>);
}

/// Who is told of commits.
#[derive(Debug)]
pub(super) struct Bells {
    /// There may be something to claim.
    pub queue: Notify,
    /// The latest revision.
    pub revision: watch::Sender<i64>,
    /// Number of the latest chunk of the log.
    pub chunk: watch::Sender<i64>,
    /// Which claims are committed.
    pub gate: Gate,
    /// How the writer is.
    pub standing: Standing,
}

/// Lets a reader see the claims that were answered before it came: those may not be committed
/// yet. It waits for one commit at most, whatever comes after.
#[derive(Debug, Default)]
pub(super) struct Gate {
    groups: Mutex<Groups>,
    ended: Condvar,
}

/// Groups with claims, counted.
#[derive(Debug, Default)]
struct Groups {
    begun: u64,
    ended: u64,
}

impl Gate {
    /// The writer is about to answer claims of a group.
    fn begin(&self) {
        if let Ok(mut groups) = self.groups.lock() {
            groups.begun += 1;
        }
    }

    /// The group is committed, or it never will be.
    fn end(&self) {
        if let Ok(mut groups) = self.groups.lock() {
            groups.ended = groups.begun;
        }
        self.ended.notify_all();
    }

    /// Waits for the group that is running now, if one is.
    pub fn pass(&self) {
        let Ok(groups) = self.groups.lock() else { return };
        let begun = groups.begun;
        let _ = self.ended.wait_timeout_while(groups, PASS, |groups| groups.ended < begun);
    }
}

/// The writing end of the store.
pub(super) struct Engine {
    /// The writing connection.
    pub db: Connection,
    clock: SharedClock,
    boot: i64,
    sync: SyncMode,
    synced: bool,
    st: State,
    room: Room,
    history: History,
    bells: Arc<Bells>,
    /// The state could not be read after a rollback; it is tried again before each group.
    stale: bool,
    /// The last group was committed.
    healthy: bool,
    tended: i64,
    more_to_trim: bool,
}

impl Engine {
    /// Takes over a prepared connection.
    pub fn new(
        db: Connection,
        options: &EmbeddedOptions,
        mut room: Room,
        boot: i64,
        bells: Arc<Bells>,
    ) -> Result<Engine> {
        if let Err(fault) = lapse(&db, options) {
            if !matches!(&fault, Fault::Full(reason) if room.open_reserve(&db, reason)) {
                return Err(fault);
            }
            lapse(&db, options)?;
        }
        let st = State::load(&db)?;
        bells.revision.send_replace(st.revision);
        bells.chunk.send_replace(st.chunk);
        Ok(Engine {
            db,
            clock: options.clock.clone(),
            boot,
            sync: options.sync,
            synced: options.sync == SyncMode::Fsync,
            st,
            room,
            history: options.history.clone(),
            bells,
            stale: false,
            healthy: true,
            tended: 0,
            more_to_trim: false,
        })
    }

    /// Runs jobs and answers each of them.
    pub fn run(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if self.stale && self.restore().is_err() {
            let error = StoreError::Unavailable("the database cannot be read".to_owned());
            self.bells.standing.failed(error.to_string());
            jobs.iter_mut().for_each(|job| job.answer(Err(error.clone())));
            return;
        }
        jobs.retain_mut(|job| !job.abandoned() && self.admit(job.as_mut()));
        if jobs.is_empty() {
            return;
        }
        jobs.sort_by_key(|job| job.class() != Class::Claim); // stable
        let early = self.healthy && !self.room.is_full();
        let outcome = self.transaction(&mut jobs, early);
        self.healthy = outcome.is_ok();
        match outcome {
            Ok(()) => {
                if jobs.iter().any(|job| job.class() == Class::Accept) {
                    self.bells.standing.wrote();
                }
                jobs.iter_mut().for_each(|job| job.answer(Ok(())));
            }
            Err(fault) => self.one_by_one(jobs, &fault),
        }
    }

    /// Refuses new work while there is no room.
    fn admit(&self, job: &mut dyn Job) -> bool {
        let refuse = job.class() == Class::Accept && self.room.is_full();
        if refuse {
            job.answer(Err(StoreError::Full(self.room.reason().to_owned())));
        }
        !refuse
    }

    /// After a group that failed: each job by itself.
    fn one_by_one(&mut self, jobs: Vec<Box<dyn Job>>, fault: &Fault) {
        tracing::warn!(?fault, jobs = jobs.len(), "a group of writes failed; trying one by one");
        self.note(fault);
        for job in jobs {
            let mut one = [job];
            if one[0].abandoned() || !self.admit(one[0].as_mut()) {
                continue; // abandoned: also a claim that was answered
            }
            let mut outcome = self.transaction(&mut one, false);
            if let Err(fault) = &outcome
                && self.note(fault)
                && one[0].class() != Class::Accept
            {
                outcome = self.transaction(&mut one, false);
            }
            let outcome = outcome.map_err(StoreError::from);
            match (&outcome, one[0].class()) {
                (Ok(()), Class::Accept) => self.bells.standing.wrote(),
                (Err(StoreError::Full(_)), _) | (Ok(()), _) => {}
                (Err(error), Class::Accept) => self.bells.standing.failed(error.to_string()),
                (Err(_), Class::Claim | Class::Finish | Class::Decide) => {}
            }
            one[0].answer(outcome);
        }
    }

    /// Opens the reserve if there is no room; says whether it did so now.
    fn note(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::Full(reason) => self.room.open_reserve(&self.db, reason),
            Fault::Io(_) | Fault::Corrupt(_) => false,
        }
    }

    /// One transaction around jobs. After an error nothing of it is left.
    fn transaction(&mut self, jobs: &mut [Box<dyn Job>], early: bool) -> Result<()> {
        let result = self.try_transaction(jobs, early);
        match &result {
            Ok(()) => self.ring(),
            Err(_) => {
                if !self.db.is_autocommit() {
                    let _ = self.db.execute_batch("ROLLBACK");
                }
                let _ = self.restore();
                self.bells.queue.notify_one(); // what was claimed may be free again
            }
        }
        if early {
            self.bells.gate.end();
        }
        result
    }

    fn try_transaction(&mut self, jobs: &mut [Box<dyn Job>], early: bool) -> Result<()> {
        let durable = jobs.iter().any(|job| matches!(job.class(), Class::Accept | Class::Decide));
        let sync = self.sync == SyncMode::Fsync && durable;
        if sync != self.synced {
            schema::synchronous(&self.db, sync)?;
            self.synced = sync;
        }
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        if early && jobs.iter().any(|job| job.class() == Class::Claim) {
            self.bells.gate.begin();
        }
        let now = self.clock.now();
        let mut tx = Tx { db: &self.db, st: &mut self.st, now, boot: self.boot };
        for job in jobs {
            job.run(&mut tx)?;
            if early && job.class() == Class::Claim {
                job.answer(Ok(()));
            }
        }
        self.st.flush(&self.db, now.millis())?;
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Tells who waits for what was committed.
    fn ring(&mut self) {
        if std::mem::take(&mut self.st.ring) {
            self.bells.queue.notify_one();
        }
        let rise = |bell: &watch::Sender<i64>, to: i64| {
            bell.send_if_modified(|known| {
                let moved = *known != to;
                *known = to;
                moved
            });
        };
        rise(&self.bells.revision, self.st.revision);
        rise(&self.bells.chunk, self.st.chunk);
    }

    fn restore(&mut self) -> Result<()> {
        let restored = self.st.reload(&self.db);
        self.stale = restored.is_err();
        restored
    }

    /// Trims history and looks for room, if it is time; called between groups.
    pub fn tend(&mut self) {
        let now = self.clock.now().millis();
        let pause = i64::try_from(self.pause().as_millis()).unwrap_or(i64::MAX);
        if self.tended != 0 && (now - self.tended).abs() < pause {
            return;
        }
        self.tended = now;
        self.trim();
        self.room.look(&self.db);
    }

    /// How long the engine may be left alone before it has something to tend to.
    pub fn pause(&self) -> Duration {
        if self.more_to_trim { TEND_BUSY } else { TEND_IDLE }
    }

    /// One step of trimming; says whether there is more.
    pub fn trim(&mut self) -> bool {
        if self.stale {
            return false;
        }
        let history = self.history.clone();
        let mut more = false;
        let mut job = Quiet(|tx: &mut Tx<'_>| {
            more = crate::embedded::engine::trim::step(tx, &history)?;
            Ok(())
        });
        match self.quietly(&mut job) {
            Ok(()) => self.more_to_trim = more,
            Err(fault) => {
                self.more_to_trim = false;
                tracing::warn!(?fault, "history could not be trimmed");
            }
        }
        self.more_to_trim
    }

    /// A transaction of the engine's own, that nobody waits for.
    fn quietly(&mut self, work: &mut Quiet<impl FnMut(&mut Tx<'_>) -> Result<()>>) -> Result<()> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let now = self.clock.now();
        let mut tx = Tx { db: &self.db, st: &mut self.st, now, boot: self.boot };
        let mut result = (work.0)(&mut tx);
        if result.is_ok() {
            result = self.st.flush(&self.db, now.millis());
        }
        if result.is_ok() {
            result = self.db.prepare_cached("COMMIT")?.execute([]).map(drop).map_err(Fault::from);
        }
        if result.is_err() {
            if !self.db.is_autocommit() {
                let _ = self.db.execute_batch("ROLLBACK");
            }
            let _ = self.restore();
        }
        result
    }
}

/// At the start nobody can hold a lease: what earlier openings leased lapses at once. Lanes that
/// were closed and left empty are forgotten.
fn lapse(db: &Connection, options: &EmbeddedOptions) -> Result<()> {
    db.execute("UPDATE batch SET expiry = 0 WHERE expiry <> 0", [])?;
    let now = options.clock.now().millis();
    db.execute("DELETE FROM lane WHERE waiting = 0 AND shut_until <= ?1", [now])?;
    Ok(())
}

/// Work of the engine's own.
struct Quiet<F>(F);
