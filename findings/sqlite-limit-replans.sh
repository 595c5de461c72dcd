#!/bin/sh
# What: a prepared statement of SQLite 3.54.1 (crates.io rusqlite 0.41.1, feature `bundled`) with a
#   bound `LIMIT ?` is planned anew each time that another number is bound: 100 runs with 100
#   limits are 100 plans, counted by SQLITE_STMTSTATUS_REPREPARE. With the same number each time it
#   is one, with a number in the text none, and another bound value (`a > ?`) costs none.
# Why one would guess otherwise: a statement is prepared once so that its plan is made once, values
#   are bound to keep it so, and the limit changes nothing of which rows come or in which order.
#   The query planner's stability guarantee (SQLITE_DBCONFIG_ENABLE_QPSG) ends it, and is off.
# For senders: "hand out up to N due deliveries" is such a statement, with another N in each call; in
#   a queue planning it took several times the instructions of running it.
# Needs: cargo, a C compiler, and a network. Fails if what it sees is not the above.
# Output seen:
#   SQLite 3.54.1
#   LIMIT 5: planned anew 0 times in 100 runs
#   LIMIT ?1, the same: planned anew 1 times in 100 runs
#   LIMIT ?1, others: planned anew 100 times in 100 runs
#   a > ?1, others: planned anew 0 times in 100 runs
#   LIMIT ?1, others, plans kept stable: planned anew 0 times in 100 runs
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

mkdir src
cat > Cargo.toml <<'END'
[package]
name = "seen"
version = "0.0.0"
edition = "2021"
[dependencies]
rusqlite = { version = "=0.41.1", features = ["bundled"] }
libsqlite3-sys = "=0.39.1"
END
cat > src/main.rs <<'END'
use rusqlite::config::DbConfig;
use rusqlite::{params_from_iter, Connection, StatementStatus};

/// Runs a statement a hundred times and prints how often it was planned after the first time.
fn run(db: &Connection, what: &str, sql: &str, value: fn(i64) -> i64) {
    let mut select = db.prepare(sql).expect("a statement");
    for i in 0..100 {
        let bound = [value(i)];
        let bound = &bound[..select.parameter_count()];
        let mut rows = select.query(params_from_iter(bound)).expect("rows");
        while rows.next().expect("a row").is_some() {}
    }
    let anew = select.get_status(StatementStatus::RePrepare);
    println!("{what}: planned anew {anew} times in 100 runs");
}

fn main() {
    let db = Connection::open_in_memory().expect("a database");
    let table = "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES(1, 1), (2, 2);";
    db.execute_batch(table).expect("a table");
    println!("SQLite {}", rusqlite::version());
    let limited = "SELECT a FROM t ORDER BY a LIMIT ?1";
    run(&db, "LIMIT 5", "SELECT a FROM t ORDER BY a LIMIT 5", |i| i);
    run(&db, "LIMIT ?1, the same", limited, |_| 5);
    run(&db, "LIMIT ?1, others", limited, |i| 5 + i);
    run(&db, "a > ?1, others", "SELECT a FROM t WHERE a > ?1", |i| i);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("a setting");
    run(&db, "LIMIT ?1, others, plans kept stable", limited, |i| 5 + i);
}
END
cargo run --quiet > seen
cat seen
cat > expected <<'END'
SQLite 3.54.1
LIMIT 5: planned anew 0 times in 100 runs
LIMIT ?1, the same: planned anew 1 times in 100 runs
LIMIT ?1, others: planned anew 100 times in 100 runs
a > ?1, others: planned anew 0 times in 100 runs
LIMIT ?1, others, plans kept stable: planned anew 0 times in 100 runs
END
diff expected seen && echo "as described"
