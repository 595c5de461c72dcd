//! What a run makes of its figures.

use std::collections::BTreeSet;

use super::scenario::{Receiver, Scenario, Size, StoreKind};
use super::setup::Books;
use super::sizing::Sizing;
use super::table::redis::{sizings, small};
use super::table::{count, median, ms};
use super::{scenario, sizing, wanted};

#[test]
fn medians() {
    assert_eq!(median([].into_iter()), 0.0);
    assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
    assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
}

#[test]
fn figures_are_readable() {
    assert_eq!(count(0.4), "0");
    assert_eq!(count(999.0), "999");
    assert_eq!(count(1234567.0), "1,234,567");
    assert_eq!(ms(1234.0), "1.23");
    assert_eq!(ms(12_340.0), "12.3");
    assert_eq!(ms(1_234_000.0), "1,234");
    assert_eq!([0.01, 1.5, 25.04, 1234.0].map(small), ["0.010", "1.50", "25.0", "1,234"]);
}

#[test]
fn memory_is_told_beside_the_data_and_not_at_all_when_it_was_not_measured() {
    assert_eq!(sizings(&[], 500), "");
    let sizing =
        Sizing { title: "event", events: 50_000, bytes: 594.4, attempts: 1, faults: Vec::new() };
    assert!(sizings(&[sizing], 500).ends_with("| event | 594 | 94 | 50,000 | 1 |\n"));
}

#[test]
fn scenarios_have_keys_of_their_own_and_optional_ones_must_be_named() {
    let keys: BTreeSet<_> = scenario::ALL.iter().map(|one| one.key).collect();
    assert_eq!(keys.len(), scenario::ALL.len());
    let (chosen, sizing) = wanted(&[], &[StoreKind::Embedded]).unwrap();
    assert!(!chosen.is_empty() && !sizing);
    assert!(chosen.iter().all(|scenario| !scenario.optional));
    assert_eq!(wanted(&["memory".to_owned()], &[]).unwrap().0.len(), 1);
    assert!(wanted(&["memories".to_owned()], &[]).is_err());
}

#[test]
fn a_store_chooses_its_scenarios_and_a_name_chooses_whatever_the_store() {
    let (chosen, sizing) = wanted(&[], &[StoreKind::Redis]).unwrap();
    assert!(sizing && chosen.iter().all(|scenario| scenario.key.starts_with("redis-")));
    let (both, _) = wanted(&[], &[StoreKind::Redis, StoreKind::Embedded]).unwrap();
    assert!(both.len() > chosen.len());
    let only = ["redis-batch".to_owned(), sizing::KEY.to_owned()];
    let (chosen, sizing) = wanted(&only, &[StoreKind::Embedded]).unwrap();
    assert!(sizing && chosen.len() == 1);
}

#[test]
fn every_kind_of_receiver_is_met_on_both_stores_and_by_the_same_load() {
    let of = |key: &str| scenario::ALL.iter().find(|one| one.key == key).unwrap();
    for one in scenario::ALL.iter().filter(|one| one.receiver != Receiver::FAST || !one.warm_up) {
        let key = one.key.trim_start_matches("redis-");
        let (here, there) = (of(key), of(&format!("redis-{key}")));
        let load = |one: &Scenario| (one.share, one.data, one.tenants, one.fan_out, one.receiver);
        assert_eq!(load(here), load(there), "{key}");
        assert_eq!(format!("Redis: {}", here.title), there.title);
    }
}

#[test]
fn no_event_comes_to_a_route_twice_and_every_host_is_used() {
    for one in scenario::ALL {
        let mut hosts = BTreeSet::new();
        for tenant in 0..one.tenants {
            let routes: BTreeSet<_> = (0..one.fan_out).map(|it| one.route(tenant, it)).collect();
            assert_eq!(routes.len() as u64, one.fan_out, "{}", one.key);
            assert!(routes.last() < Some(&64), "{}: the sink has 64 routes", one.key);
            hosts.extend(routes.into_iter().map(|route| one.host(route)));
        }
        assert_eq!(hosts.len(), usize::from(one.receiver.hosts), "{}", one.key);
    }
}

#[test]
fn a_scenario_has_its_share_of_events_and_batches_that_a_server_takes() {
    let size = Size {
        rounds: 1,
        events: 100_000,
        seconds: 1.0,
        ceiling_seconds: 1.0,
        warm_up: 2000,
        data: 500,
    };
    let of = |key: &str| scenario::ALL.iter().find(|one| one.key == key).unwrap().size(&size);
    let events = |key: &str| (of(key).events, of(key).warm_up);
    assert_eq!(events("batch"), (100_000, 2000));
    assert_eq!(events("fan-out"), (10_000, 200));
    assert_eq!(events("cold").0, 40_000);
    assert_eq!(events("slow-20ms").0, 20_000);
    assert_eq!(events("fan-out-50"), (2000, 200));
    assert_eq!(events("big-100k"), (4000, 200));
    assert_eq!((of("big-5k").batch(), of("big-100k").batch()), (100, 20));
    for one in scenario::ALL {
        let size = one.size(&size);
        assert!(size.batch() * size.data <= 3 * 1024 * 1024 && size.batch() > 0, "{}", one.key);
    }
}

#[test]
fn slots_allow_what_a_receiver_that_takes_its_time_leaves() {
    let of = |key: &str| scenario::ALL.iter().find(|one| one.key == key).unwrap().slots_allow();
    assert_eq!(of("batch"), None);
    assert_eq!(of("slow-20ms"), Some(3200.0));
    assert_eq!(of("fan-out-50"), Some(64_000.0));
}

#[test]
fn books_that_balance_have_no_fault_and_others_say_which() {
    let books = Books { accepted: 10, matched: 10, created: 20, succeeded: 20, ..Books::default() };
    assert_eq!(books.faults(10, 2, false), Vec::<String>::new());
    assert_eq!(books.faults(11, 2, true), ["books: accepted = acknowledged: 10, not 11"]);

    let lost = Books { succeeded: 19, ..books };
    assert_eq!(
        lost.faults(10, 2, false),
        [
            "books: succeeded + failed + cancelled + pending = created: 19, not 20",
            "books: succeeded = created: 19, not 20",
        ]
    );
    let waiting = Books { succeeded: 10, pending: 10, ..lost };
    assert_eq!(waiting.waiting(2), 10);
    assert_eq!(Books { awaiting_match: 3, ..Books::default() }.waiting(2), 6);
    assert_eq!(waiting.faults(10, 2, true), Vec::<String>::new());
    assert_eq!(waiting.faults(10, 2, false).len(), 1);
}
