use super::*;
use crate::testing::subscription;

const HOUR: i64 = 3_600_000;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + hours * HOUR)
}

fn node() -> NodeId {
    NodeId::parse("n1").unwrap()
}

fn failing() -> Subscription {
    let mut it = subscription("t", 1, &["*"]);
    assert!(change(&mut it, Note::Failing { since: at(0), until: at(120) }, &node(), at(1)));
    it
}

#[test]
fn a_row_is_written_once_and_ends_with_an_acknowledgement() {
    let mut it = failing();
    assert_eq!(it.failing().map(|it| (it.since, it.until)), Some((at(0), at(120))));
    let again = Note::Failing { since: at(2), until: at(122) };
    assert!(!change(&mut it, again, &node(), at(3)));
    assert!(change(&mut it, Note::Well, &node(), at(4)));
    assert_eq!(it.failing(), None);
    assert!(!change(&mut it, Note::Well, &node(), at(4)));
}

#[test]
fn it_is_told_once_and_then_disabled_with_the_reason() {
    let mut it = failing();
    assert!(change(&mut it, Note::Warned { until: at(120) }, &node(), at(96)));
    assert!(!change(&mut it, Note::Warned { until: at(130) }, &node(), at(97)));
    assert!(change(&mut it, Note::Disable(Cause::Failing { since: at(0) }), &node(), at(120)));
    assert_eq!(it.state, SubscriptionState::Disabled);
    assert_eq!(it.state_reason, format!("nothing but failures since {}", at(0)));
    assert_eq!(it.state_change.unwrap().actor, "nodes/n1");
}

#[test]
fn a_row_that_ended_meanwhile_disables_nothing() {
    let disable = Note::Disable(Cause::Failing { since: at(0) });
    let mut well = failing();
    change(&mut well, Note::Well, &node(), at(119));
    assert!(!change(&mut well, disable, &node(), at(120)));
    change(&mut well, Note::Failing { since: at(119), until: at(239) }, &node(), at(120));
    assert!(!change(&mut well, disable, &node(), at(120)), "that is another row");
}

#[test]
fn who_resumes_it_or_gives_it_another_url_begins_anew() {
    let mut resumed = failing();
    resumed.state_change =
        Some(StateChange { time: at(50), actor: "ops".to_owned(), note: String::new() });
    assert_eq!(resumed.failing(), None);
    assert!(change(&mut resumed, Note::Failing { since: at(10), until: at(130) }, &node(), at(60)));
    assert_eq!(
        resumed.failing().map(|it| it.since),
        Some(at(50)),
        "what was before does not count"
    );

    let mut moved = failing();
    moved.url = "https://elsewhere.example/".to_owned();
    assert_eq!(moved.failing(), None);
}

#[test]
fn what_somebody_moved_out_of_the_way_stays() {
    let mut it = failing();
    it.state = SubscriptionState::Disabled;
    for note in [Note::Well, Note::Disable(Cause::Gone(410)), Note::Warned { until: at(9) }] {
        assert!(!change(&mut it, note, &node(), at(2)), "{note:?}");
    }
}
