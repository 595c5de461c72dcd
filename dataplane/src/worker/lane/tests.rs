use pregon_core::rate::Rate;

use super::*;

impl Waits for u32 {
    fn bytes(&self) -> usize {
        100
    }

    /// Tells apart what is of another number by hundreds.
    fn group(&self) -> u64 {
        u64::from(self / 100)
    }
}

const AMPLE: Means =
    Means { tight: false, full: false, patience: Duration::from_secs(10), pass: OPEN };
const OPEN: Pass = Pass { held: false, rate: None, sharers: 0 };
const SHORT: Means = Means { patience: PATIENCE, ..AMPLE };
const MS: Duration = Duration::from_millis(1);

fn lane(cap: u32) -> (LaneFlow<u32>, Instant) {
    let t = Instant::now();
    (LaneFlow::new(cap, t), t)
}

/// Admits so many new deliveries; how many were started, how many are kept and how many put back.
fn admit(lane: &mut LaneFlow<u32>, now: Instant, means: Means, count: u32) -> [usize; 3] {
    let mut counts = [0; 3];
    for job in 0..count {
        counts[match lane.admit(now, means, 0) {
            Admission::Start => 0,
            Admission::Queue => {
                lane.enqueue(job, now);
                1
            }
            Admission::PutBack(_) => 2,
        }] += 1;
    }
    counts
}

/// A lane that has grown to all its slots; its receiver takes so long. Nothing is in flight.
fn grown(cap: u32, took: Duration) -> (LaneFlow<u32>, Instant) {
    let (mut lane, t) = lane(cap);
    for _ in 0..cap {
        while lane.in_flight < lane.limit {
            lane.start(t);
        }
        lane.finish(t, t, Some(took), Pace::Good);
    }
    while lane.in_flight > 0 {
        lane.finish(t, t, Some(took), Pace::Good);
    }
    assert_eq!(lane.limit, cap);
    (lane, t)
}

#[tokio::test]
async fn starts_at_eight_and_grows_with_success_to_the_cap() {
    let (mut lane, t) = lane(12);
    assert_eq!(admit(&mut lane, t, AMPLE, 100)[0], 8);
    lane.take_queue();
    for _ in 0..100 {
        lane.finish(t + MS, t, Some(MS), Pace::Good);
        while lane.in_flight < lane.limit {
            assert_eq!(lane.admit_stored(t + MS, AMPLE, 0), Admission::Start);
        }
    }
    assert_eq!(lane.in_flight, 12);
}

#[tokio::test]
async fn a_burst_of_timeouts_halves_once() {
    let (mut lane, t) = lane(64);
    assert_eq!(admit(&mut lane, t, AMPLE, 8)[0], 8);
    let late = t + 15_000 * MS;
    for _ in 0..8 {
        lane.finish(late, t, None, Pace::Timeout);
    }
    assert_eq!(lane.limit, 4);
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_nothing_waiting_in_memory() {
    let (mut lane, t) = lane(64);
    assert_eq!(admit(&mut lane, t, AMPLE, 50), [8, 42, 0]);
    assert!(lane.overdue(t + 900 * MS, AMPLE).is_empty(), "a first answer may take its time");
    assert_eq!(lane.overdue(t + 1000 * MS, AMPLE).len(), 42);
    assert_eq!(lane.waiting_bytes(), 0);
    let full = Admission::PutBack(PendingReason::LaneFull);
    assert_eq!(lane.admit(t + 1000 * MS, AMPLE, 0), full);
    assert_eq!(lane.credit(t + 1000 * MS, AMPLE), 0);
}

#[tokio::test]
async fn a_receiver_that_took_moments_hangs_after_two_hundred_of_them() {
    let (mut lane, t) = grown(8, 2 * MS);
    assert_eq!(admit(&mut lane, t, AMPLE, 50), [8, 42, 0]);
    assert!(lane.overdue(t + 190 * MS, AMPLE).is_empty());
    assert_eq!(lane.overdue(t + 200 * MS, AMPLE).len(), 42);
}

#[tokio::test]
async fn a_receiver_that_takes_half_a_second_does_not_hang() {
    let (mut lane, t) = grown(8, 500 * MS);
    assert_eq!(admit(&mut lane, t, AMPLE, 50), [8, 42, 0]);
    assert!(lane.overdue(t + 1900 * MS, AMPLE).is_empty());
    assert_eq!(lane.overdue(t + 2000 * MS, AMPLE).len(), 42);
}

#[tokio::test]
async fn what_a_receiver_answers_in_time_waits_in_memory_and_the_rest_does_not() {
    // 64 slots of 20 ms: 3,200 a second.
    let (mut lane, t) = grown(64, 20 * MS);
    assert_eq!(admit(&mut lane, t, AMPLE, 40_000), [64, 32_000, 7_936]);
    let (mut lane, t) = grown(64, 20 * MS);
    assert_eq!(admit(&mut lane, t, SHORT, 40_000), [64, 640, 39_296]);
}

#[tokio::test]
async fn what_waits_for_the_receiver_does_not_wait_for_the_node() {
    let (mut lane, t) = grown(64, 20 * MS);
    admit(&mut lane, t, AMPLE, 64 + 640);
    assert_eq!(lane.ahead(t), 640);
    admit(&mut lane, t, AMPLE, 1);
    assert_eq!(lane.ahead(t), 0);
}

#[tokio::test]
async fn the_store_hands_out_ahead_of_slots() {
    let (mut lane, t) = grown(64, 20 * MS);
    lane.note_stored(0, t);
    assert_eq!(lane.credit(t, AMPLE), 64 + 640);
    let admitted = |lane: &mut LaneFlow<u32>| lane.admit_stored(t, AMPLE, 0);
    assert!((0..64).all(|_| admitted(&mut lane) == Admission::Start));
    assert_eq!(admitted(&mut lane), Admission::Queue);
    lane.enqueue(0, t);
    assert_eq!(lane.credit(t, AMPLE), 639);
    assert_eq!(lane.credit(t, Means { full: true, ..AMPLE }), 639);
}

#[tokio::test]
async fn new_deliveries_leave_half_to_those_that_wait_in_the_store() {
    let (mut lane, t) = grown(64, 20 * MS);
    lane.note_stored(0, t);
    assert_eq!(admit(&mut lane, t, AMPLE, 1000), [32, 320, 648]);
    assert_eq!(lane.credit(t, AMPLE), 32 + 320);
}

#[tokio::test]
async fn a_closed_lane_starts_nothing_until_its_time() {
    let (mut lane, t) = lane(64);
    lane.close(t + 1000 * MS, t);
    assert_eq!(lane.admit(t, AMPLE, 0), Admission::PutBack(PendingReason::RateLimited));
    assert_eq!(lane.credit(t, AMPLE), 0);
    assert_eq!(lane.admit(t + 1000 * MS, AMPLE, 0), Admission::Start);
}

#[tokio::test]
async fn an_operator_opens_a_lane_and_what_was_asked_before_closes_it_no_more() {
    let (mut lane, t) = lane(64);
    lane.close(t + 86_400_000 * MS, t);
    lane.open(t + 10 * MS);
    assert_eq!(lane.admit(t + 10 * MS, AMPLE, 0), Admission::Start);
    lane.close(t + 86_400_000 * MS, t + 5 * MS);
    assert!(!lane.closed(t + 20 * MS), "the answer to a request of before");
    lane.close(t + 1000 * MS, t + 15 * MS);
    assert!(lane.closed(t + 20 * MS), "the receiver asks anew");
}

#[tokio::test]
async fn a_lane_without_progress_gets_two_slots_when_the_node_is_short() {
    let (mut lane, t) = lane(64);
    let tight = Means { tight: true, ..AMPLE };
    assert_eq!(admit(&mut lane, t + 1000 * MS, tight, 1)[0], 1);
    let (mut lane, t) = self::lane(64);
    lane.start(t);
    assert_eq!(lane.effective_limit(t + 1000 * MS, tight), 2);
    assert_eq!(lane.effective_limit(t + 1000 * MS, AMPLE), 8);
}

#[tokio::test]
async fn a_node_without_slots_keeps_what_is_new_in_memory() {
    let (mut lane, t) = lane(64);
    let full = Means { full: true, ..AMPLE };
    assert_eq!(admit(&mut lane, t, full, 100), [0, 100, 0]);
    assert_eq!(lane.next_queued(t, AMPLE), Some(0));
}

/// A lane whose deliveries go out together: three of them, within a second.
fn batching() -> (LaneFlow<u32>, Instant) {
    let (mut lane, t) = lane(4);
    let max_wait = Duration::from_secs(1);
    let batch = Batch { list: Default::default(), max_events: 3, max_bytes: 1024, max_wait };
    lane.set_batch(Some(&batch));
    (lane, t)
}

/// What goes out now, by requests.
fn requests(lane: &mut LaneFlow<u32>, now: Instant, means: Means) -> Vec<Vec<u32>> {
    let mut requests = Vec::new();
    while let Some(first) = lane.next_queued(now, means) {
        let company = lane.company(&first);
        requests.push(std::iter::once(first).chain(company).collect());
    }
    requests
}

#[tokio::test]
async fn what_goes_out_together_waits_until_it_is_full_or_has_waited() {
    let (mut lane, t) = batching();
    assert_eq!(admit(&mut lane, t, AMPLE, 8), [0, 8, 0], "nothing starts by itself");
    assert_eq!(requests(&mut lane, t, AMPLE), [vec![0, 1, 2], vec![3, 4, 5]]);
    assert_eq!((lane.in_flight, lane.waiting()), (2, 2), "a slot for each request");
    let late = t + 1000 * MS;
    assert_eq!(requests(&mut lane, late - MS, AMPLE), Vec::<Vec<u32>>::new());
    assert_eq!(requests(&mut lane, late, AMPLE), [vec![6, 7]]);
    assert_eq!(lane.waiting_bytes(), 0);
}

#[tokio::test]
async fn what_goes_out_together_is_of_one_number() {
    let (mut lane, t) = batching();
    for job in [0, 100, 1, 101, 102, 200] {
        assert_eq!(lane.admit(t, AMPLE, 0), Admission::Queue);
        lane.enqueue(job, t);
    }
    assert_eq!(
        requests(&mut lane, t, AMPLE),
        [vec![100, 101, 102]],
        "nobody waits for another number"
    );
    assert_eq!(requests(&mut lane, t + 1000 * MS, AMPLE), [vec![0, 1], vec![200]]);
}

#[tokio::test]
async fn what_goes_out_together_does_not_wait_where_memory_is_short() {
    let (mut lane, t) = batching();
    assert_eq!(admit(&mut lane, t, AMPLE, 2), [0, 2, 0]);
    assert_eq!(requests(&mut lane, t, SHORT), [vec![0, 1]]);
}

#[tokio::test]
async fn what_goes_out_together_has_places_by_requests() {
    let (mut lane, t) = batching();
    let none = Means { patience: Duration::ZERO, ..AMPLE };
    assert_eq!(lane.credit(t, none), 4 * 3, "a request for each free slot");
    assert_eq!(admit(&mut lane, t, none, 20), [0, 12, 8]);
    assert_eq!(requests(&mut lane, t, none).len(), 4);
    assert_eq!(lane.credit(t, none), 0);
}

#[tokio::test]
async fn what_a_rate_holds_back_waits_for_no_answer() {
    let (mut lane, t) = grown(8, Duration::from_secs(15));
    let pass = Pass { held: true, rate: Rate::new(5.0, 0), sharers: 1 };
    let means = Means { pass, ..AMPLE };
    lane.note_stored(0, t);
    assert!(lane.credit(t, means) > 0, "a slow receiver is sent to at its rate");
    assert_eq!(lane.admit_stored(t, means, 0), Admission::Queue);
    lane.enqueue(1, t);
    assert!(lane.overdue(t, means).is_empty());
    let open = Means { pass: Pass { held: false, ..pass }, ..AMPLE };
    assert_eq!(lane.next_queued(t, open), Some(1));
}

#[tokio::test]
async fn what_a_recovering_receiver_holds_back_is_not_put_back_at_once() {
    let (mut lane, t) = grown(8, Duration::from_secs(15));
    for _ in 0..15 {
        lane.start(t);
        lane.finish(t, t, None, Pace::Other);
        lane.ended(t, t, Signal::Failed);
    }
    assert_eq!(lane.closed_for(t), Some(PendingReason::BreakerOpen));
    let later = t + Duration::from_secs(5);
    lane.note_stored(0, later);
    assert_eq!(lane.credit(later, AMPLE), 1, "a probe");
    assert_eq!(lane.admit_stored(later, AMPLE, 0), Admission::Start);
    let answered = later + Duration::from_secs(15);
    lane.finish(answered, later, Some(Duration::from_secs(15)), Pace::Good);
    lane.ended(answered, later, Signal::Good);
    // The rate has just let one out; the next waits for its time.
    while lane.admit_stored(answered, AMPLE, 0) == Admission::Start {}
    for job in 0..lane.credit(answered, AMPLE) {
        assert_eq!(lane.admit_stored(answered, AMPLE, 0), Admission::Queue, "{job} finds no place");
        lane.enqueue(job, answered);
    }
    assert_eq!(lane.ahead(answered), 0, "nobody waits for this node");
}

#[tokio::test]
async fn what_began_before_an_operators_word_does_not_open_the_breaker() {
    let (mut lane, t) = lane(64);
    for _ in 0..20 {
        lane.start(t);
    }
    lane.open(t + MS);
    for _ in 0..20 {
        lane.finish(t + 2 * MS, t, None, Pace::Other);
        assert_eq!(lane.ended(t + 2 * MS, t, Signal::Failed), None);
    }
    assert_eq!(lane.closed_for(t + 2 * MS), None);
}
