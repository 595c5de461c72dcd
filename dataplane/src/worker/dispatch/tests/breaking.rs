//! Breakers in the machine, and rows of nothing but failures.

use pregon_core::model::Failing;
use pregon_store::batch::LaneClose;

use super::*;
use crate::worker::breaker::State;
use crate::worker::disable::Cause;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WAITS: Transition = Transition::Waiting(PendingReason::BreakerOpen);

impl Rig {
    /// An attempt is answered with 503.
    fn fail(&mut self, job: Job) {
        let mut report = self.reported(job, Outcome::Retry { after: 5 * SECOND });
        Arc::make_mut(&mut report.record).status = 503;
        self.machine.on_report(report, self.now);
    }

    /// Every attempt fails, until none starts any more; how many.
    fn fail_all(&mut self, mut jobs: Vec<Job>) -> usize {
        let mut failed = 0;
        while let Some(job) = jobs.pop() {
            self.fail(job);
            failed += 1;
            jobs.extend(self.started());
        }
        failed
    }

    fn state(&self) -> State {
        self.machine.lanes.get(LaneNo(1)).unwrap().guard.state()
    }

    /// Deliveries of the first lane that there is use for.
    fn wants(&mut self) -> u32 {
        self.machine.due_request(0, self.now).slots[&LaneNo(1)]
    }

    /// What is written down now.
    fn notes(&mut self) -> Vec<Note> {
        let notes = self.machine.effects().into_iter().filter_map(|effect| match effect {
            Effect::Note(_, note) => Some(note),
            Effect::Start(_)
            | Effect::Match(_)
            | Effect::EndLane(_)
            | Effect::EndLaneOlder(..)
            | Effect::CloseLane(_)
            | Effect::OpenLane(_) => None,
        });
        notes.collect()
    }
}

#[tokio::test]
async fn a_receiver_that_fails_gets_probes_and_what_waits_keeps_its_attempts() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(100);
    let jobs = rig.take(batch);
    let failed = rig.fail_all(jobs);
    assert!((15..=23).contains(&failed), "{failed}");
    assert_eq!(rig.state(), State::Open);
    let settlement = rig.settle();
    let wait = SECOND;
    let close = LaneClose { lane: LaneNo(1), wait, reason: PendingReason::BreakerOpen };
    assert_eq!(settlement.close, [close]);
    let told = settlement.attempts.iter().filter(|(_, it)| it.reason.contains("breaker is open"));
    assert_eq!(told.count(), 1);
    let moved = moves(&settlement.batches[0]);
    assert_eq!(moved.iter().filter(|to| **to == WAITS).count(), 100 - failed);
    assert_eq!(rig.wants(), 0);

    let batch = rig.batch(3);
    assert!(rig.take(batch).is_empty());
    assert_eq!(rig.settle_all(), [WAITS; 3]);
    rig.pass(SECOND);
    assert_eq!((rig.wants(), rig.machine.wanted(rig.now).len()), (1, 1));
    let batch = rig.due_batch(3);
    let mut probe = rig.take(batch);
    assert_eq!(probe.len(), 1);
    let settlement = rig.settle();
    let back: Vec<_> =
        settlement.batches[0].deliveries.iter().map(|it| (it.attempts, it.to)).collect();
    assert_eq!(back, [(1, WAITS); 2], "they keep the one attempt that they had");
    assert_eq!(rig.wants(), 0);

    rig.fail(probe.pop().unwrap());
    assert_eq!(rig.settle().close[0].wait, 2 * SECOND);
    rig.pass(2 * SECOND);
    let batch = rig.due_batch(1);
    let mut probe = rig.take(batch);
    rig.report(probe.pop().unwrap(), Outcome::Succeeded);
    assert_eq!((rig.state(), rig.wants()), (State::Recovering, 1));
}

#[tokio::test]
async fn what_waits_here_while_it_recovers_goes_out_at_the_rate() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(40);
    let jobs = rig.take(batch);
    rig.fail_all(jobs);
    rig.settle();
    rig.pass(SECOND);
    let batch = rig.batch(1);
    let mut probe = rig.take(batch);
    rig.report(probe.pop().unwrap(), Outcome::Succeeded);
    // What had overflowed is somebody else's by now.
    rig.machine.lanes.change_known(LaneNo(1), rig.now, |flow| flow.found_none(0, rig.now));
    let batch = rig.batch(30);
    let mut jobs = rig.take(batch);
    let mut starts = Vec::new();
    for _ in 0..60 {
        starts.push(jobs.len());
        for job in std::mem::take(&mut jobs) {
            rig.report(job, Outcome::Succeeded);
        }
        jobs.extend(rig.started());
        rig.pass(Duration::from_millis(50));
        jobs.extend(rig.started());
    }
    let within = |to: usize| starts[..to].iter().sum::<usize>();
    assert!((1..=4).contains(&within(20)), "in the first second: {starts:?}");
    assert!(within(60) > 3 * within(20), "in three: {starts:?}");
}

#[tokio::test]
async fn a_lane_on_trial_begins_with_one_probe() {
    let mut rig = Rig::new(1).await;
    let on_trial =
        LaneClose { lane: LaneNo(1), wait: Duration::ZERO, reason: PendingReason::BreakerOpen };
    let batch = Batch { closed: vec![on_trial], ..rig.due_batch(5) };
    assert_eq!(rig.take(batch).len(), 1);
    assert_eq!(rig.settle_all(), [WAITS; 4]);
}

#[tokio::test]
async fn an_operators_word_closes_the_breaker() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(40);
    let jobs = rig.take(batch);
    rig.fail_all(jobs);
    rig.change(1, |s| s.url = "https://elsewhere.example/hook".to_owned()).await;
    assert!(rig.machine.effects().iter().any(|it| matches!(it, Effect::OpenLane(LaneNo(1)))));
    let batch = rig.batch(4);
    assert_eq!(rig.take(batch).len(), 4);
}

#[tokio::test]
async fn a_row_of_failures_is_written_down_after_an_hour() {
    let mut rig = Rig::new(1).await;
    let batch = rig.batch(2);
    let mut jobs = rig.take(batch);
    rig.fail(jobs.pop().unwrap());
    assert_eq!(rig.notes(), []);
    rig.now += Duration::from_secs(3600);
    rig.fail(jobs.pop().unwrap());
    let since = WALL.minus(Duration::from_secs(3600));
    assert_eq!(rig.notes(), [Note::Failing { since, until: since.plus(5 * DAY) }]);
}

/// What is written down when an attempt ends, of a receiver that has failed for so many days.
async fn noted(days: u32, warned: Option<u32>, outcome: Outcome) -> Vec<Note> {
    let mut rig = Rig::new(1).await;
    let ago = |days: u32| WALL.minus(DAY * days);
    rig.change(1, |it| {
        let (since, until, url) = (ago(days), ago(days).plus(5 * DAY), it.url.clone());
        it.failing = Some(Box::new(Failing { since, until, warned: warned.map(ago), url }));
    })
    .await;
    rig.machine.effects();
    let batch = rig.batch(2);
    for job in rig.take(batch) {
        match outcome {
            Outcome::Succeeded => rig.report(job, outcome),
            Outcome::Retry { .. } | Outcome::Failed { .. } => rig.fail(job),
        }
    }
    rig.notes()
}

#[tokio::test]
async fn a_subscription_is_disabled_after_five_days_and_told_before() {
    let again = Outcome::Retry { after: SECOND };
    assert_eq!(noted(3, None, again).await, []);
    let until = WALL.plus(DAY);
    assert_eq!(noted(4, None, again).await, [Note::Warned { until }]);
    assert_eq!(noted(9, None, again).await, [Note::Warned { until }], "it is told first");
    assert_eq!(noted(4, Some(0), again).await, []);
    assert_eq!(noted(6, Some(0), again).await, [], "a day passes after it was told");
    let since = WALL.minus(5 * DAY);
    assert_eq!(noted(5, Some(1), again).await, [Note::Disable(Cause::Failing { since })]);
    assert_eq!(noted(5, Some(1), Outcome::Succeeded).await, [Note::Well]);
}
