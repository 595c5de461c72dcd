//! Deliveries that are bits of runs, for lists and for single looks.

use std::collections::VecDeque;

use rusqlite::{Connection, Row, params};

use crate::embedded::engine::codec;
use crate::embedded::engine::fault::Result;
use crate::embedded::log::deliveries::{Known, Place};
use crate::embedded::work::runs::{self, RunRow};
use crate::run::RUN;

/// A run with what is told beside it.
pub(super) struct RunOf {
    pub run: RunRow,
    /// Until when its lane is closed, in ms, and why.
    pub shut: Option<(i64, i64)>,
}

macro_rules! columns {
    ($rest:literal) => {
        columns!("", $rest)
    };
    ($index:literal, $rest:literal) => {
        concat!(
            "SELECT base, run.lane, state, end_ms, reason, tenant, began, pending, bits, free,
               lane.shut_until, lane.why FROM run ",
            $index,
            " LEFT JOIN lane ON lane.lane = run.lane ",
            $rest
        )
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<RunOf> {
    let until: Option<i64> = row.get(10)?;
    let why: Option<i64> = row.get(11)?;
    Ok(RunOf { run: runs::read(row)?, shut: until.zip(why) })
}

impl RunOf {
    /// The run that holds an event's delivery to a lane.
    pub fn holding(db: &Connection, n: i64, lane: i64) -> Result<Option<Self>> {
        let mut select = db.prepare_cached(columns!("WHERE base = ?1 AND run.lane = ?2"))?;
        let mut rows = select.query([runs::base(n), lane])?;
        while let Some(row) = rows.next()? {
            let found = read(row)?;
            if found.run.has(n) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// All runs in whose stretch an event lies, highest lane first.
    pub fn of_base(db: &Connection, n: i64) -> Result<Vec<Self>> {
        let sql = columns!("WHERE base = ?1 ORDER BY run.lane DESC");
        let mut select = db.prepare_cached(sql)?;
        let found = select.query_map([runs::base(n)], read)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }
}

/// Whose deliveries are walked.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Lane(i64),
    Tenant(i64),
}

/// Deliveries in runs of one state, newest event first, and of an event the highest lane first: in
/// the order of their places.
pub(super) struct Walk {
    owner: Owner,
    state: i64,
    low: i64,
    below: Place,
    /// The base that is being walked.
    at: Option<i64>,
    /// Runs of the base that is being walked, highest lane first.
    runs: Vec<RunOf>,
    /// Deliveries of the number that is being walked, as places among the runs.
    found: VecDeque<(usize, i64)>,
    /// Numbers from here on, and no lower than `low`, are walked in the base.
    next: i64,
}

impl Walk {
    pub fn new(owner: Owner, state: i64, low: i64, below: Place) -> Self {
        Self {
            owner,
            state,
            low,
            below,
            at: None,
            runs: Vec::new(),
            found: VecDeque::new(),
            next: 0,
        }
    }

    /// The next one.
    pub fn next(&mut self, db: &Connection, now: i64) -> Result<Option<Known>> {
        loop {
            while let Some((i, n)) = self.found.pop_front() {
                let known = Known::in_run(db, &self.runs[i], n, now)?;
                if known.place() < self.below {
                    return Ok(Some(known));
                }
            }
            let first = self.at.unwrap_or(i64::MAX).max(self.low);
            if self.next >= first {
                let n = self.next;
                self.next -= 1;
                let holding = self.runs.iter().enumerate().filter(|(_, run)| run.run.has(n));
                self.found.extend(holding.map(|(i, _)| (i, n)));
            } else if !self.base(db)? {
                return Ok(None);
            }
        }
    }

    /// Goes to the next base that has any.
    fn base(&mut self, db: &Connection) -> Result<bool> {
        let highest = self.at.map_or_else(|| runs::base(self.below.n), |base| base - 1);
        let lowest = runs::base(self.low);
        let (newest, of_base, owner) = match self.owner {
            Owner::Lane(lane) => (
                "SELECT MAX(base) FROM run INDEXED BY run_lane
                 WHERE lane = ?1 AND state = ?2 AND base <= ?3 AND base >= ?4",
                columns!("INDEXED BY run_lane", "WHERE run.lane = ?1 AND state = ?2 AND base = ?3"),
                lane,
            ),
            Owner::Tenant(tenant) => (
                "SELECT MAX(base) FROM run INDEXED BY run_tenant
                 WHERE tenant = ?1 AND state = ?2 AND base <= ?3 AND base >= ?4",
                columns!("INDEXED BY run_tenant", "WHERE tenant = ?1 AND state = ?2 AND base = ?3"),
                tenant,
            ),
        };
        let bounds = params![owner, self.state, highest, lowest];
        let base: Option<i64> = db.prepare_cached(newest)?.query_row(bounds, |row| row.get(0))?;
        let Some(base) = base else { return Ok(false) };
        let mut select = db.prepare_cached(of_base)?;
        let runs = select.query_map([owner, self.state, base], read)?;
        self.runs = runs.collect::<rusqlite::Result<_>>()?;
        self.runs.sort_by_key(|of| std::cmp::Reverse(of.run.lane));
        self.next = self.below.n.min(base + codec::int(RUN) - 1);
        self.at = Some(base);
        Ok(true)
    }
}
