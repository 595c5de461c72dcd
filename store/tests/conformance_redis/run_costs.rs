//! What a delivery that waits costs Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pregon_store::Store;
use pregon_store::batch::Batch;
use pregon_store::redis::RedisOptions;
use pregon_store::settlement::{EventOutcome, Transition};
use pregon_store::work::DueRequest;

use crate::of_runs::{Results, WAITING, settle_events, settle_held};
use crate::queue::{claim, events, in_order, store, take};
use crate::server::Server;

/// What is due next, with room for more.
async fn next_due(store: &Store) -> Batch {
    let request = DueRequest { want: 256, default_slots: 1000, ..DueRequest::default() };
    let due = store.work.due(0, &claim("n1"), request).await.expect("what is due");
    due.batch.expect("due deliveries")
}

/// Microseconds of Redis's processor, all of them, and those within commands by name.
fn processor(server: &Server) -> (u64, BTreeMap<String, u64>) {
    let info = server.info("cpu");
    let seconds = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("its time");
        line.trim().parse::<f64>().expect("seconds")
    };
    let all = seconds("used_cpu_user_main_thread:") + seconds("used_cpu_sys_main_thread:");
    let stats = server.info("commandstats");
    let commands = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let usec = rest.split(',').find_map(|part| part.strip_prefix("usec="))?;
        Some((name.to_owned(), usec.parse().ok()?))
    });
    let all = Duration::from_secs_f64(all).as_micros();
    (u64::try_from(all).expect("microseconds"), commands.collect())
}

fn memory(server: &Server) -> u64 {
    let info = server.info("memory");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("memory");
    line.trim().parse().expect("bytes")
}

fn cost(server: &Server, since: &(u64, BTreeMap<String, u64>), what: &str, count: usize) {
    let now = processor(server);
    let per = |usec: u64| usec as f64 / count as f64;
    let of = |name: &str| per(now.1.get(name).unwrap_or(&0) - since.1.get(name).unwrap_or(&0));
    println!(
        "{what}: {:.2} µs a delivery; evalsha {:.2}, xrange {:.2}",
        per(now.0 - since.0),
        of("evalsha"),
        of("xrange")
    );
}

/// What a delivery that waits costs Redis. Prints, and holds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn costs_of_what_waits() {
    const COUNT: usize = 100_000;
    let server = Server::start();
    let options = RedisOptions { janitor: false, ..RedisOptions::new(&server.url(0)) };
    let store = store(&options).await;
    for what in ["succeeds at once", "waits", "waits in three lanes"] {
        let lanes: &[(u64, Transition)] = match what {
            "waits" => &[(1, WAITING)],
            "waits in three lanes" => &[(1, WAITING), (2, WAITING), (3, WAITING)],
            _ => &[(1, Transition::Succeeded)],
        };
        for _ in 0..COUNT / 1000 {
            let data = Bytes::from(vec![b'x'; 500]);
            let mut some = events(1000);
            some.iter_mut().for_each(|event| event.data = data.clone());
            store.intake.publish(some).await.expect("a publish");
        }
        let (before, bytes) = (processor(&server), memory(&server));
        let mut left = COUNT;
        while left > 0 {
            let batch = take(&store).await;
            left -= batch.events.len();
            if lanes[0].1 == WAITING {
                settle_events(&store, &batch, lanes).await;
            } else {
                let results = Results::of(&batch);
                let all = batch.events.iter().fold(results, |all, open| all.event(open, lanes));
                let mut settlement = all.settlement();
                settlement.attempts.truncate(1);
                for event in &mut settlement.batches[0].events {
                    event.outcome = EventOutcome::Unmatched;
                }
                store.work.settle(settlement).await.expect("a settle");
            }
        }
        cost(&server, &before, what, COUNT * lanes.len());
        if lanes[0].1 == WAITING {
            let more = memory(&server).saturating_sub(bytes);
            println!("  {:.2} B a delivery", more as f64 / (COUNT * lanes.len()) as f64);
        }
        if lanes[0].1 == WAITING {
            let count = COUNT * lanes.len();
            let (before, mut batches, mut left) = (processor(&server), Vec::new(), count);
            while left > 0 {
                let batch = next_due(&store).await;
                left -= batch.deliveries.len();
                batches.push(batch);
            }
            cost(&server, &before, "  handed out", count);
            let before = processor(&server);
            for batch in batches {
                settle_held(&store, &batch, Transition::Succeeded).await;
            }
            cost(&server, &before, "  succeeded", count);
            let more = memory(&server).saturating_sub(bytes);
            println!("  {:.2} B a delivery in history", more as f64 / count as f64);
        }
    }
    in_order(&store).await;
}
