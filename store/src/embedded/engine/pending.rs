//! Counters of pending deliveries, by stretch of event numbers.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::backlog::{STRETCH, STRETCHES};
use crate::embedded::engine::fault::Result;

/// Level of a stretch's counter.
pub(in crate::embedded) const FINE: i64 = 0;
/// Level of the counter of many stretches.
pub(in crate::embedded) const COARSE: i64 = 1;
/// Event numbers of a counter of many stretches.
pub(in crate::embedded) const WIDE: i64 = STRETCH * STRETCHES;

/// Moves counters by what a group of steps changed, by stretch.
pub(in crate::embedded) fn flush(db: &Connection, changes: &mut HashMap<i64, i64>) -> Result<()> {
    let mut wide = HashMap::new();
    for (stretch, by) in changes.drain() {
        *wide.entry(stretch / STRETCHES).or_insert(0) += by;
        add(db, FINE, stretch, by)?;
    }
    wide.into_iter().try_for_each(|(page, by)| add(db, COARSE, page, by))
}

fn add(db: &Connection, level: i64, page: i64, by: i64) -> Result<()> {
    if by == 0 {
        return Ok(());
    }
    let count: i64 = db
        .prepare_cached(
            "INSERT INTO backlog(level, page, count) VALUES(?1, ?2, ?3)
             ON CONFLICT(level, page) DO UPDATE SET count = count + ?3 RETURNING count",
        )?
        .query_row([level, page, by], |row| row.get(0))?;
    if count == 0 {
        db.prepare_cached("DELETE FROM backlog WHERE level = ?1 AND page = ?2")?
            .execute([level, page])?;
    }
    Ok(())
}

/// Counts anew what lies in a database of a release that did not count it.
pub(in crate::embedded) fn count_anew(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM backlog", [])?;
    for (level, width) in [(FINE, STRETCH), (COARSE, WIDE)] {
        db.execute(
            "INSERT INTO backlog SELECT ?1, n / ?2, COUNT(*) FROM delivery
             WHERE state = 0 AND lane > 0 GROUP BY n / ?2",
            [level, width],
        )?;
    }
    Ok(())
}

pub(in crate::embedded) fn sum(db: &Connection, level: i64, from: i64, to: i64) -> Result<i64> {
    let sql = "SELECT COALESCE(SUM(count), 0) FROM backlog
               WHERE level = ?1 AND page >= ?2 AND page < ?3";
    Ok(db.prepare_cached(sql)?.query_row([level, from, to], |row| row.get(0))?)
}
