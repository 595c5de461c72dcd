//! Deliveries that go out together.

use super::*;
use crate::testing::documents::contract;
use crate::worker::job::Also;

/// One lane whose requests hold up to three events, which wait for a second.
async fn rig() -> Rig {
    let mut rig = Rig::new(0).await;
    let document = contract("lists", "body: ['${event.id}']\nbatch: { max_events: 3 }");
    let lane = subscription("t", 1, &["*"]);
    let lane = Subscription { contract: ContractId::parse("lists").unwrap(), ..lane };
    let revision = rig.store.write(&[document, Resource::Subscription(lane)]);
    rig.serve(revision).await;
    rig
}

fn ids(job: &Job) -> Vec<u64> {
    std::iter::once(job).chain(&job.company).map(|job| job.key.position.n).collect()
}

impl Rig {
    /// What starts now.
    fn tick(&mut self, time: Duration) -> Vec<Job> {
        self.pass(time);
        self.started()
    }

    /// One answer for all that went together; the last `left` found no room.
    fn report_all(&mut self, mut job: Job, outcome: Outcome, left: usize) {
        let mut company = std::mem::take(&mut job.company);
        let left = company.split_off(company.len() - left);
        let report = self.reported(job, outcome);
        let also = |job: Job| {
            let key = job.key;
            let record = Arc::new(AttemptRecord { key, ..(*report.record).clone() });
            Also { job, decision: report.decision, record }
        };
        let company = company.into_iter().map(also).collect();
        self.machine.on_report(Report { company, left, ..report }, self.now);
    }
}

#[tokio::test]
async fn one_request_settles_what_went_together() {
    let mut rig = rig().await;
    let batch = rig.batch(4);
    assert_eq!(rig.take(batch).len(), 0, "they wait for each other");
    let mut jobs = rig.tick(Duration::ZERO);
    assert_eq!((jobs.len(), ids(&jobs[0]).len(), rig.machine.in_flight()), (1, 3, 1));
    rig.report_all(jobs.remove(0), Outcome::Succeeded, 0);
    assert!(rig.tick(Duration::from_millis(900)).is_empty());
    let last = rig.tick(Duration::from_millis(150));
    assert_eq!((last.len(), ids(&last[0]).len()), (1, 1), "it has waited for long enough");
    rig.report_all(last.into_iter().next().unwrap(), Outcome::Succeeded, 0);
    let settlement = rig.settle();
    assert_eq!(moves(&settlement.batches[0]), vec![Transition::Succeeded; 4]);
    assert_eq!(settlement.attempts.len(), 4, "each delivery has its record");
    assert!(rig.machine.tokens().is_empty());
    assert_eq!((rig.machine.claimed(), rig.machine.in_flight()), (0, 0));
}

#[tokio::test]
async fn what_finds_no_room_goes_back_without_an_attempt() {
    let mut rig = rig().await;
    let batch = rig.batch(3);
    rig.take(batch);
    let job = rig.tick(Duration::ZERO).remove(0);
    let after = Duration::from_secs(5);
    rig.report_all(job, Outcome::Retry { after }, 1);
    let settlement = rig.settle();
    let mut moved = moves(&settlement.batches[0]);
    moved.sort_by_key(|to| matches!(to, Transition::Waiting(_)));
    let retry = Transition::Retry(after);
    assert_eq!(moved, [retry, retry, Transition::Waiting(PendingReason::Queued)]);
    assert_eq!(settlement.attempts.len(), 2);
    assert_eq!(rig.machine.claimed(), 0);
}

#[tokio::test]
async fn what_is_retried_goes_out_with_what_has_its_number() {
    let mut rig = rig().await;
    let (mut due, new) = (rig.due_batch(2), rig.batch(1));
    due.deliveries.append(&mut rig.held(1, 4).deliveries);
    let retried = due.deliveries[..2].iter().map(|held| held.key.position.n).collect::<Vec<_>>();
    rig.take(due);
    rig.take(new);
    let jobs = rig.tick(Duration::from_secs(1));
    let numbers: Vec<_> = jobs.iter().map(|job| (job.number, ids(job).len())).collect();
    assert_eq!(numbers, [(2, 2), (5, 1), (1, 1)]);
    assert_eq!(ids(&jobs[0]), retried);
}

#[tokio::test]
async fn nothing_goes_out_under_a_lease_that_is_gone() {
    let mut rig = rig().await;
    let (lost, kept) = (rig.batch(1), rig.batch(1));
    let token = lost.token;
    rig.take(lost);
    rig.take(kept);
    rig.machine.lose(token);
    let jobs = rig.tick(Duration::from_secs(1));
    assert_eq!((jobs.len(), ids(&jobs[0]).len()), (1, 1));
}

#[tokio::test]
async fn what_waits_for_others_goes_back_with_its_batch() {
    let mut rig = rig().await;
    let batch = rig.batch(2);
    let token = batch.token;
    rig.take(batch);
    rig.machine.drain(rig.now);
    assert!(rig.tick(Duration::from_secs(2)).is_empty());
    assert_eq!(rig.machine.tokens(), [token]);
    assert!(rig.settle().batches.is_empty(), "nothing of it was touched");
}
