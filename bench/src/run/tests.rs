//! What a run makes of its figures.

use super::setup::Books;
use super::table::{count, median, ms};
use super::{scenario, wanted};

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
}

#[test]
fn scenarios_have_keys_of_their_own_and_optional_ones_must_be_named() {
    let keys: std::collections::BTreeSet<_> = scenario::ALL.iter().map(|one| one.key).collect();
    assert_eq!(keys.len(), scenario::ALL.len());
    assert!(wanted(&[]).unwrap().iter().all(|scenario| !scenario.optional));
    assert_eq!(wanted(&["memory".to_owned()]).unwrap().len(), 1);
    assert!(wanted(&["memories".to_owned()]).is_err());
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
    assert_eq!(waiting.faults(10, 2, true), Vec::<String>::new());
    assert_eq!(waiting.faults(10, 2, false).len(), 1);
}
