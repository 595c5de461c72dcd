//! The meter, and the functions that need one.
//!
//! A short expression can ask for a lot: `["x"].map(a, a + a).map(a, a + a)…` doubles at every
//! stage, `replace` multiplies lengths, a loop body may search a large string ten thousand times.
//! So each evaluation has a budget. Reading text costs a unit per byte, making new text costs more
//! (it takes memory), and a loop pays for its passes when it starts. When the budget is gone every
//! further charge fails, and whatever the expression answers after that is not believed.
//!
//! The engine calls overloads as plain functions without captures, which is why the meter lives in
//! a thread-local: it is set when an evaluation begins and read when it ends, on the same thread.

use super::Site;
use cel::ExecutionError;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Units of one evaluation: reading 32 MiB (the largest event 128 times), or a comprehension over as
/// many elements as allowed with a body of 200 nodes.
const BUDGET: usize = 32 << 20;

/// Units per byte of new text: at most 4 MiB are made in one evaluation.
const GROWTH: usize = 8;

/// Units after which a thread that [gives way](give_way) does so: some ten microseconds of work.
const STRIDE: usize = 16 << 10;

/// How long it takes to offer a core that nobody wants: some microseconds at most.
const UNWANTED: Duration = Duration::from_micros(20);
/// How long who offered a core that was wanted stays away from it.
const AWAY: Duration = Duration::from_micros(500);

/// Bytes that any value counts for, beside its text.
pub(super) const VALUE: usize = 16;

/// What is said of an evaluation whose budget is gone.
pub(super) fn too_much(site: Site) -> &'static str {
    match site {
        Site::Filter => "the filter does more work than it may",
        Site::Template
        | Site::Answer
        | Site::Verdict
        | Site::CheckTemplate
        | Site::Challenge
        | Site::ChallengeAnswer => "the expression does more work than it may",
    }
}

#[derive(Clone, Copy)]
struct Meter {
    left: usize,
    too_much: &'static str,
    refusal: Option<&'static str>,
}

thread_local! {
    static METER: Cell<Meter> = const { Cell::new(Meter { left: 0, too_much: "", refusal: None }) };
    /// Units since this thread last gave way; none: it does not.
    static UNINTERRUPTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// From now on this thread offers its core to others after each bit of work of an evaluation. It is
/// meant for a thread of low priority: where kernels let a thread run until its time slice is over,
/// whoever was woken meanwhile waits for some milliseconds behind it.
pub fn give_way() {
    UNINTERRUPTED.set(Some(0));
}

/// Offers the core of this thread to others. Where somebody took it, the thread stays away for a
/// moment: what was woken wakes others in turn, and each of them would wait behind it.
pub fn offer_core() {
    let offered = Instant::now();
    std::thread::yield_now();
    if offered.elapsed() > UNWANTED {
        std::thread::sleep(AWAY);
    }
}

/// Starts an evaluation on this thread; `too_much` is what is said when its budget is gone.
pub(super) fn begin(too_much: &'static str) {
    METER.set(Meter { left: BUDGET, too_much, refusal: None });
}

/// Why the evaluation on this thread was stopped, if it was.
pub(super) fn refusal() -> Option<&'static str> {
    METER.get().refusal
}

/// Pays for reading `units` bytes.
pub(super) fn charge(units: usize) -> Result<(), ExecutionError> {
    if let Some(done) = UNINTERRUPTED.get() {
        let done = done.saturating_add(units);
        UNINTERRUPTED.set(Some(if done < STRIDE { done } else { 0 }));
        if done >= STRIDE {
            offer_core();
        }
    }
    let mut meter = METER.get();
    let outcome = match meter.left.checked_sub(units) {
        Some(left) if meter.refusal.is_none() => {
            meter.left = left;
            Ok(())
        }
        Some(_) | None => {
            meter.refusal = meter.refusal.or(Some(meter.too_much));
            Err(failed("@work"))
        }
    };
    METER.set(meter);
    outcome
}

/// Pays for making `bytes` of new text.
pub(super) fn charge_growth(bytes: usize) -> Result<(), ExecutionError> {
    charge(bytes.saturating_add(VALUE).saturating_mul(GROWTH))
}

/// Stops the evaluation for a reason of its own.
pub(super) fn refuse(reason: &'static str) -> ExecutionError {
    let meter = METER.get();
    METER.set(Meter { refusal: meter.refusal.or(Some(reason)), ..meter });
    failed("@work")
}

/// The error of a function that cannot answer.
pub(super) fn failed(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "failed")
}
