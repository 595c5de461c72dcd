//! The circuit breaker of one receiver: whether an attempt may start now, and else when.
//!
//! A machine without I/O; time comes as an argument. It sees how attempts end ([`Signal`]) and is
//! made with the first failure, so a receiver that does not fail costs nothing.
//!
//! # States
//!
//! - **Closed**: it counts, and limits nothing.
//! - **Open**: nothing starts. Deliveries wait without an attempt.
//! - **Half-open**: the wait is over. One attempt starts, the probe; nothing else until it ends.
//! - **Recovering**: attempts start at a rate, which grows from [`RATE_START`].
//!
//! # When it opens
//!
//! - [`RUN`] failures with no success between. A connection that does not come about weighs three:
//!   who does not listen will not answer the next one either. So five of them open it. A receiver
//!   that fails one time in five by chance has such a run once in 3·10¹⁰ attempts.
//! - Half of the last [`WINDOW`] attempts failed. With one failure in five by chance that is six
//!   standard deviations away. Half is where more requests do harm: what fails comes again.
//! - While recovering, a third of a run is enough, if nothing succeeded for [`SILENCE`]: the
//!   receiver was in trouble a moment ago, and it is asked slowly.
//!
//! A refusal (4xx but 408 and 429, 3xx) is an answer about what was sent, and not a sign of
//! trouble. One event type that is always refused must not hold up the others, so refusals neither
//! open it nor count among the failures. Only [`REFUSALS`] of them without one success have it
//! recover at [`RATE_REFUSED`], without being open before: a wrong URL or key costs little then. With
//! nine of ten events refused that happens by chance once in 800 attempts, and the next success ends
//! it. Faults on this side of the receiver count nowhere.
//!
//! # How it recovers
//!
//! It waits [`WAIT_MIN`], and twice as long after each probe that fails, up to [`WAIT_MAX`]. So a
//! receiver that is back is found within [`WAIT_MAX`], and a dead one costs one attempt in that time.
//! The wait begins anew when it was not open for ten times as long as the next wait would be, so it
//! opens at most seven times and then three times a minute.
//!
//! After a probe that is answered the rate doubles each second, up to where it was cut the last
//! time, and then grows by 5 % a second (a fifth of an attempt a second at least). Where more than [`TOLERATED`]
//! of the attempts fail, it is cut by a fifth, or by half where most fail. So it stays about what an
//! overloaded receiver bears, and few attempts fail for that. A receiver that fails by chance fails
//! as often at a lower rate: where [`HELPLESS`] cuts in a row do not help, as many failures are
//! tolerated from then on.
//!
//! It closes when the rate has held nothing back for [`FREE`].
//!
//! # Several nodes, and a restart
//!
//! Each node has its own. One that opens also closes the lane in the store for as long, so no
//! node is given deliveries of it; others learn of it with what they take ([`Breaker::heard`]). The
//! store keeps the mark until a breaker has closed, and hands it out with the lane's deliveries.
//! So a node that knows nothing, as after a restart, begins half-open: N nodes send N probes at most.
//!
//! The mark stays for five minutes after the wait. A node that goes down and comes back later finds out
//! again, with [`RUN`] attempts.

use std::time::Duration;

use pregon_store::batch::TRIAL;
use tokio::time::Instant;

mod guard;

pub(super) use guard::Guard;

/// Failures in a row that open it.
const RUN: u32 = 15;
/// What a connection that did not come about weighs among them.
const UNREACHABLE: u32 = 3;
/// Attempts of which half must have failed.
const WINDOW: u32 = 64;
/// How long nothing succeeds before it opens again while it recovers.
const SILENCE: Duration = Duration::from_secs(2);
/// Refusals without one success that slow it down.
const REFUSALS: u32 = 64;
/// Attempts a second to a receiver that refuses everything.
const RATE_REFUSED: f64 = 2.0;
/// The first wait.
pub(super) const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Attempts a second after the probe.
const RATE_START: f64 = 2.0;
/// The lowest rate: below, a probe tells as much.
const RATE_MIN: f64 = 0.5;
/// What a success adds to the rate while it doubles: once a second, where all are used.
const DOUBLING: f64 = 0.7;
/// Growth a second after that, as a share, and in attempts a second at least.
const GROWTH: (f64, f64) = (0.05, 0.2);
/// Share of failures that is tolerated while it recovers.
const TOLERATED: f64 = 0.1;
/// The most that is tolerated, however little cuts help.
const TOLERATED_MAX: f64 = 0.4;
/// Attempts that the share of failures remembers, about.
const MEMORY: f64 = 16.0;
/// Attempts after a cut that tell whether it helped.
const EPOCH: u32 = 32;
/// Cuts in a row that do not help, after which more is tolerated.
const HELPLESS: u32 = 4;
/// What a cut leaves of the rate at which all would have succeeded.
const CUT: f64 = 0.9;
/// Cuts are so far apart at least: receivers count by the second.
const CUT_EVERY: Duration = Duration::from_secs(1);
/// Attempts that were not due may start together as far as they were due within this: a node looks at
/// its lanes twice in that time.
const BURST: Duration = Duration::from_millis(100);
/// How long the rate holds nothing back before it closes.
const FREE: Duration = Duration::from_secs(10);
/// How long a closed one is kept without failures: for as long as the store keeps a mark, by which
/// it would begin anew.
const KEPT: Duration = TRIAL;
/// How long one is kept without attempts of which nothing was acknowledged so far: twice as long as
/// the row has to be to be written down.
const KEPT_ROW: Duration = Duration::from_secs(7200);
/// How long any one is kept without attempts.
const KEPT_SILENT: Duration = Duration::from_secs(900);

/// How an attempt ended, as far as its receiver's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// It was acknowledged.
    Good,
    /// The receiver failed, asked for time, or did not answer.
    Failed,
    /// No connection came about.
    Unreachable,
    /// It answered that it does not want what was sent.
    Refused,
    /// It says nothing of the receiver, or was not made.
    Nothing,
}

/// What a breaker does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It limits nothing.
    Closed,
    /// Nothing starts, but for a probe when the wait is over.
    Open,
    /// Attempts start at a rate.
    Recovering,
}

/// A change of state that others want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// It opened, or a probe failed (`again`): nothing starts for `wait`.
    Opened { wait: Duration, again: bool },
    /// The receiver answers again, or refuses everything: attempts start at a rate.
    Recovering,
    /// Nothing is limited any more.
    Closed,
}

/// The breaker.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    phase: Phase,
    /// When the phase began. What began before tells nothing of it.
    since: Instant,
    /// Failures since the last success, weighed.
    run: u32,
    /// Refusals since the last success.
    refusals: u32,
    /// The last attempts that were no refusals, the latest lowest; set: failed.
    last: u64,
    /// How many those are.
    seen: u32,
    /// When an attempt last ended, and when one last ended well, and badly.
    ended: Instant,
    good: Option<Instant>,
    failed: Option<Instant>,
    /// When the first ended since then that was not acknowledged.
    streak: Option<Instant>,
    /// When it opened last, and how long it waits the next time.
    opened: Option<Instant>,
    wait: Duration,
    /// Where the rate was cut the last time: up to there it doubles.
    known: f64,
    /// Share of failures that is tolerated.
    tolerated: f64,
    /// Cuts in a row that did not help.
    helpless: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Instant, probing: bool },
    Recovering(Pace),
}

/// A rate, and how it goes at it.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Attempts a second.
    rate: f64,
    /// When the next is due.
    next: Instant,
    /// When one was last held back.
    hindered: Instant,
    /// When the rate was cut, and what ended of what began since: how many, and how many badly.
    cut: Instant,
    seen: u32,
    failed: u32,
    /// Share of failures lately.
    share: f64,
}

impl Breaker {
    /// A closed one that has seen nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Closed,
            since: now,
            run: 0,
            refusals: 0,
            last: 0,
            seen: 0,
            ended: now,
            good: None,
            failed: None,
            streak: None,
            opened: None,
            wait: WAIT_MIN,
            known: f64::INFINITY,
            tolerated: TOLERATED,
            helpless: 0,
        }
    }

    /// What it does.
    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::Recovering(_) => State::Recovering,
        }
    }

    /// Whether nothing starts whatever waits.
    pub(super) fn shut(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open { until, .. } if now < until)
    }

    /// Whether an attempt may start now. Whoever asks has one that could.
    pub(super) fn may_start(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Closed => true,
            Phase::Open { until, probing } => now >= *until && !*probing,
            Phase::Recovering(pace) => {
                if now < pace.next {
                    pace.hindered = now;
                }
                now >= pace.next
            }
        }
    }

    /// How many may start within `patience`; none: it does not limit that.
    pub(super) fn places(&self, now: Instant, patience: Duration) -> Option<usize> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until, probing } => Some(usize::from(now >= until && !probing)),
            Phase::Recovering(pace) => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let within = (pace.rate * patience.as_secs_f64()) as usize;
                Some(within.max(1))
            }
        }
    }

    /// An attempt starts.
    pub(super) fn started(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Closed => {}
            Phase::Open { probing, .. } => *probing = true,
            Phase::Recovering(pace) => {
                let from = now.checked_sub(BURST).map_or(now, |from| pace.next.max(from));
                pace.next = from + Duration::from_secs_f64(1.0 / pace.rate);
            }
        }
    }

    /// An attempt that began at `started` ended.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        started: Instant,
        signal: Signal,
    ) -> Option<Shift> {
        self.note(now, signal);
        match &mut self.phase {
            Phase::Open { until, probing } if *probing && started >= *until => {
                *probing = false;
                match signal {
                    Signal::Good | Signal::Refused => Some(self.recover(now, RATE_START)),
                    Signal::Failed | Signal::Unreachable => Some(self.open(now)),
                    Signal::Nothing => None,
                }
            }
            Phase::Open { .. } => None,
            Phase::Closed | Phase::Recovering(_)
                if self.opened.is_some() && started < self.since =>
            {
                None
            }
            Phase::Closed | Phase::Recovering(_) => {
                self.count(signal);
                self.judge(now, started, signal)
            }
        }
    }

    /// How long nothing was acknowledged, from the first attempt that was not; none: the last was.
    pub(super) fn streak(&self, now: Instant) -> Option<Duration> {
        self.streak.map(|since| now.saturating_duration_since(since))
    }

    /// An attempt that was to start is not made.
    pub(super) fn not_made(&mut self) {
        if let Phase::Open { probing, .. } = &mut self.phase {
            *probing = false;
        }
    }

    /// Another node's is open for `wait` yet, or was lately where that is nothing, as of a claim that
    /// was asked for at `asked`. Who has seen more itself goes by that. Whether it opened.
    pub(super) fn heard(&mut self, now: Instant, asked: Instant, wait: Duration) -> bool {
        let knows_better = self.opened.is_some() && (wait.is_zero() || asked < self.since);
        let opens = self.state() == State::Closed && !knows_better;
        if opens {
            self.shut_for(now, wait.min(WAIT_MAX));
        }
        opens
    }

    /// Whether it can be forgotten.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        let silent = |since: Instant, long| now >= since + long;
        match self.phase {
            Phase::Closed if self.streak.is_some() => silent(self.ended, KEPT_ROW),
            Phase::Closed => {
                silent(self.since, KEPT) && self.failed.is_none_or(|failed| silent(failed, KEPT))
            }
            Phase::Open { until, .. } => silent(until.max(self.ended), KEPT_SILENT),
            Phase::Recovering(_) => silent(self.ended, KEPT_SILENT),
        }
    }

    /// Closes where the rate has held nothing back for long enough.
    pub(super) fn look(&mut self, now: Instant) -> Option<Shift> {
        let Phase::Recovering(pace) = &self.phase else { return None };
        let free = now >= pace.hindered.max(self.since).max(pace.cut) + FREE;
        let answered = self.good.is_some_and(|good| good >= self.since);
        (free && answered).then(|| {
            (self.phase, self.since) = (Phase::Closed, now);
            self.forget();
            Shift::Closed
        })
    }

    fn note(&mut self, now: Instant, signal: Signal) {
        self.ended = now;
        match signal {
            Signal::Good => (self.good, self.streak) = (Some(now), None),
            Signal::Failed | Signal::Unreachable => self.failed = Some(now),
            Signal::Refused | Signal::Nothing => {}
        }
        if !matches!(signal, Signal::Good | Signal::Nothing) {
            self.streak.get_or_insert(now);
        }
    }

    fn count(&mut self, signal: Signal) {
        match signal {
            Signal::Good => (self.run, self.refusals) = (0, 0),
            Signal::Failed => self.run += 1,
            Signal::Unreachable => self.run += UNREACHABLE,
            Signal::Refused => self.refusals += 1,
            Signal::Nothing => {}
        }
        if matches!(signal, Signal::Good | Signal::Failed | Signal::Unreachable) {
            self.last = (self.last << 1) | u64::from(signal != Signal::Good);
            self.seen = (self.seen + 1).min(WINDOW);
        }
    }

    fn judge(&mut self, now: Instant, started: Instant, signal: Signal) -> Option<Shift> {
        let failed = match signal {
            Signal::Good => false,
            Signal::Failed | Signal::Unreachable => true,
            Signal::Refused if self.state() == State::Closed && self.refusals >= REFUSALS => {
                return Some(self.recover(now, RATE_REFUSED));
            }
            Signal::Refused | Signal::Nothing => return self.look(now),
        };
        let silent = self.good.map_or(self.since, |good| good.max(self.since)) + SILENCE;
        let opens = match self.phase {
            Phase::Closed => {
                self.run >= RUN || self.seen == WINDOW && self.last.count_ones() * 2 >= WINDOW
            }
            Phase::Open { .. } => false,
            Phase::Recovering(_) => self.run >= RUN / 3 && now >= silent,
        };
        if failed && opens {
            return Some(self.open(now));
        }
        self.pace(now, started, failed);
        self.look(now)
    }

    /// Has the rate follow how an attempt ended.
    fn pace(&mut self, now: Instant, started: Instant, failed: bool) {
        let Phase::Recovering(pace) = &mut self.phase else { return };
        if started < pace.cut {
            return;
        }
        pace.seen += 1;
        pace.failed += u32::from(failed);
        pace.share += (f64::from(u8::from(failed)) - pace.share) / pace.rate.max(MEMORY);
        if pace.seen == EPOCH && pace.failed == 0 {
            self.helpless = 0;
            self.tolerated = (self.tolerated / 2.0).max(TOLERATED);
        }
        if failed && pace.share > self.tolerated && now >= pace.cut + CUT_EVERY {
            if pace.seen < EPOCH || pace.failed > pace.seen / 16 {
                self.helpless += 1;
            }
            if self.helpless >= HELPLESS {
                let base = f64::from(pace.failed) / f64::from(pace.seen);
                self.tolerated = (1.5 * base + 0.04).clamp(TOLERATED, TOLERATED_MAX);
                self.helpless = 0;
            }
            let kept = ((1.0 - pace.share) * CUT).max(0.5);
            pace.rate = (pace.rate * kept).max(RATE_MIN);
            self.known = pace.rate;
            (pace.cut, pace.seen, pace.failed, pace.share) = (now, 0, 0, 0.0);
        } else if !failed && now < pace.hindered + Duration::from_secs(1) {
            let (share, least) = GROWTH;
            pace.rate += match pace.rate < self.known {
                true => DOUBLING,
                false => (share * pace.rate).max(least) / pace.rate,
            };
        }
    }

    fn open(&mut self, now: Instant) -> Shift {
        let again = self.state() == State::Open;
        if !again && self.opened.is_some_and(|opened| now >= opened + 10 * self.wait) {
            self.wait = WAIT_MIN;
        }
        if let Phase::Recovering(pace) = &self.phase {
            self.known = (pace.rate / 2.0).max(RATE_START);
        }
        let wait = self.wait;
        self.shut_for(now, wait);
        Shift::Opened { wait, again }
    }

    fn shut_for(&mut self, now: Instant, wait: Duration) {
        (self.opened, self.since) = (Some(now), now);
        self.wait = (2 * self.wait).min(WAIT_MAX);
        self.phase = Phase::Open { until: now + wait, probing: false };
    }

    fn recover(&mut self, now: Instant, rate: f64) -> Shift {
        self.since = now;
        self.forget();
        let pace =
            Pace { rate, next: now, hindered: now, cut: now, seen: 0, failed: 0, share: 0.0 };
        self.phase = Phase::Recovering(pace);
        Shift::Recovering
    }

    /// What was counted in another state tells nothing of this one.
    fn forget(&mut self) {
        (self.run, self.last, self.seen) = (0, 0, 0);
        (self.tolerated, self.helpless) = (TOLERATED, 0);
    }
}

#[cfg(test)]
mod tests;
