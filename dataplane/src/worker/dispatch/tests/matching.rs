//! Events of tenants with filters, which are matched off the loop.

use pregon_store::settlement::EventSettle;

use super::*;
use crate::worker::matcher::Answer;

impl Rig {
    /// As [`Rig::new`], and the first lane has a filter.
    async fn with_a_filter(lanes: u64) -> Self {
        let mut rig = Self::new(lanes).await;
        rig.change(1, |subscription| subscription.filter = "event.type == 'a.b'".into()).await;
        rig
    }

    /// Answers the question that was asked first.
    fn matched(&mut self) -> Vec<Job> {
        let question = self.questions.remove(0);
        let matched = Some(question.snapshot.matching(&question.event));
        let answer = Answer { question, matched, took: Duration::from_millis(10) };
        self.machine.on_matched(answer, self.now, WALL);
        self.started()
    }
}

#[tokio::test]
async fn an_event_of_a_tenant_with_filters_is_attempted_when_it_is_matched() {
    let mut rig = Rig::with_a_filter(2).await;
    let batch = rig.batch(1);
    assert!(rig.take(batch).is_empty());
    assert_eq!(rig.machine.claimed(), 1, "it is in hand meanwhile");
    let jobs = rig.matched();
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        rig.report(job, Outcome::Succeeded);
    }
    assert_eq!(rig.settle_all(), [Transition::Succeeded; 2]);
    assert!(rig.machine.tokens().is_empty());
}

/// The lease is kept, and what is in flight then gets records of its own as everything does.
#[tokio::test]
async fn an_event_that_is_matched_late_is_split_after_a_second_of_its_own() {
    let mut rig = Rig::with_a_filter(2).await;
    let batch = rig.batch(1);
    rig.take(batch);
    rig.pass(3 * SPLIT_AFTER);
    assert!(rig.settle_all().is_empty());
    let jobs = rig.matched();
    assert_eq!(jobs.len(), 2);
    rig.pass(SPLIT_AFTER);
    assert_eq!(rig.settle_all(), [Transition::Held; 2]);
    drop(jobs);
}

#[tokio::test]
async fn what_went_while_an_event_was_matched_wants_it_no_more() {
    let mut rig = Rig::with_a_filter(3).await;
    let batch = rig.batch(1);
    rig.take(batch);
    rig.delete(2).await;
    rig.change(3, |subscription| subscription.state = SubscriptionState::Disabled).await;
    let jobs = rig.matched();
    assert_eq!(jobs.iter().map(|job| job.key.lane).collect::<Vec<_>>(), [LaneNo(1)]);
}

#[tokio::test]
async fn answers_for_a_lease_that_is_gone_lead_nowhere() {
    let mut rig = Rig::with_a_filter(1).await;
    let batch = rig.batch(1);
    let token = batch.token;
    rig.take(batch);
    rig.machine.lose(token);
    assert!(rig.matched().is_empty());
    assert_eq!(rig.machine.claimed(), 0);
}

/// What is more than a tenant may have in hand waits in the store for about as long as it takes.
#[tokio::test]
async fn a_tenant_has_so_many_events_in_hand_and_others_are_put_off() {
    let mut rig = Rig::with_a_filter(1).await;
    let batch = rig.batch(256);
    rig.take(batch);
    let batch = rig.batch(2);
    rig.take(batch);
    assert_eq!(rig.questions.len(), 256);
    let settlement = rig.settle();
    let outcomes: Vec<_> = settlement.batches[0].events.iter().map(|it| &it.outcome).collect();
    let wait = Duration::from_secs(1);
    assert!(
        matches!(outcomes[..], [EventOutcome::Postponed(a), EventOutcome::Postponed(b)]
            if (wait..wait * 60).contains(a) && a <= b),
        "{outcomes:?}"
    );
    rig.matched();
    let batch = rig.batch(1);
    rig.take(batch);
    assert_eq!(rig.questions.len(), 256, "one was matched, so another may be");
}

/// The lanes whose filters had no answer for the events of the last settlement, event by event.
fn unanswered(settlement: &Settlement) -> Vec<Vec<u64>> {
    let events = settlement.batches.iter().flat_map(|batch| &batch.events);
    let lanes = |error: &FilterError| error.lanes.iter().map(|lane| lane.0).collect::<Vec<_>>();
    let of = |event: &EventSettle| {
        assert!(event.filter_errors.iter().all(|it| &*it.reason == "event.data.a is absent"));
        event.filter_errors.iter().flat_map(lanes).collect()
    };
    events.map(of).collect()
}

/// Whichever way an event goes: to nobody, from memory, into lanes, or step by step.
#[tokio::test]
async fn filters_without_an_answer_are_reported_where_the_event_went() {
    let cannot_say =
        |subscription: &mut Subscription| subscription.filter = "event.data.a > 1".into();
    let mut rig = Rig::new(1).await;
    rig.change(1, cannot_say).await;
    let batch = rig.batch(2);
    rig.take(batch);
    assert!(rig.matched().is_empty());
    assert_eq!(unanswered(&rig.settle()), [[1]], "nobody wants it");

    let mut rig = Rig::new(3).await;
    rig.change(2, cannot_say).await;
    let batch = rig.batch(1);
    rig.take(batch);
    for job in rig.matched() {
        rig.report(job, Outcome::Succeeded);
    }
    assert_eq!(unanswered(&rig.settle()), [[2]], "attempted from memory");
    let batch = rig.batch(1);
    rig.take(batch);
    let jobs = rig.matched();
    rig.pass(2 * SPLIT_AFTER);
    assert_eq!(unanswered(&rig.settle()), [[2]], "split");
    drop(jobs);
    rig.machine.drain(rig.now);
    let batch = rig.batch(1);
    rig.take(batch);
    assert!(rig.matched().is_empty());
    assert_eq!(unanswered(&rig.settle()), [[2]], "put into the lanes");

    let mut rig = Rig::new(FAN_OUT_STEP as u64 + 20).await;
    rig.change(3, cannot_say).await;
    rig.change(115, cannot_say).await;
    let batch = rig.batch(1);
    rig.take(batch);
    rig.matched();
    assert_eq!(unanswered(&rig.settle()), [vec![], vec![3, 115]], "with the last step");
}
