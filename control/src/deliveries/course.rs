//! Runs: calls that go through many deliveries or events, and stream how far they got.
//!
//! A run goes page by page and step by step, at the pace that was asked for. Each step is one call
//! to the store that does nothing twice; so a run that was cut off may go on from any of its
//! cursors, and several runs may go over the same at once. What it needs to go on is in the cursor;
//! nothing of it is kept in memory or in the store once its stream has ended.
//!
//! Between steps a run looks whether it may go on: whether this process stays, whether the caller
//! and the tenant are still who they were.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Rule, Violations};
use pregon_core::id::TenantId;
use pregon_core::limits;
use pregon_core::model::Tenant;
use pregon_store::audit::WhenFull;
use tokio::time::Instant;

use super::Scope;
use crate::audit::Begun;
use crate::catalog::Kind as _;
use crate::reach::Reaches;
use crate::service::{CALL, Call, draining, enter, standing};
use crate::{Control, parse};

/// The stream of answers of a run.
pub(super) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, tonic::Status>> + Send>>;

/// How far a run may go, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Deliveries at most.
    limit: usize,
    /// Deliveries a second at most; 0: as fast as the store takes them.
    per_second: u32,
    /// It only counts.
    pub(super) validate_only: bool,
}

impl Bounds {
    /// Parses `limit` and `per_second`.
    pub(super) fn parse(
        limit: i32,
        per_second: i32,
        validate_only: bool,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let (most, default) = (i64::from(limits::REPLAY_MAX), i64::from(limits::REPLAY_DEFAULT));
        let limit = match limit {
            0 => Some(default),
            _ => wrong.check("limit", parse::within(i64::from(limit), 1, most)),
        };
        let per_second = u32::try_from(per_second).ok();
        if per_second.is_none() {
            wrong.add("per_second", Rule::OutOfRange, "must not be negative");
        }
        let limit = usize::try_from(limit?).unwrap_or(usize::MAX);
        Some(Self { limit, per_second: per_second?, validate_only })
    }
}

/// Where and for whom a run goes on.
pub(super) struct Course {
    pub(super) control: Arc<Control>,
    call: Arc<Call>,
    pub(super) tenant: TenantId,
    /// From when on what there is is the tenant's own.
    since: Option<Timestamp>,
    /// What its cursors belong to.
    scope: [u8; 32],
    pub(super) bounds: Bounds,
    /// Deliveries still to be moved or made at most.
    left: usize,
    next_step: Instant,
    /// Its entry in the audit log, until its end is written there.
    begun: Option<Begun>,
    ended: bool,
}

impl Course {
    /// Begins a run that was found to be in order; writes that down, unless it only counts.
    pub(super) async fn begin(
        control: Arc<Control>,
        call: Arc<Call>,
        tenant: TenantId,
        scope: [u8; 32],
        bounds: Bounds,
    ) -> Result<Self, Refusal> {
        let since = control.check_scope(&Scope::Tenant(tenant.clone())).await?;
        let begun = match bounds.validate_only {
            true => None,
            false => Some(control.begin_step(&tenant.name(), WhenFull::Refused).await?),
        };
        Ok(Self {
            control,
            call,
            tenant,
            since,
            scope,
            bounds,
            left: bounds.limit,
            next_step: Instant::now(),
            begun,
            ended: false,
        })
    }

    /// From when on what there is is the tenant's own.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Waits for the time of the next step, and refuses to go on where the run has lost its ground.
    pub(super) async fn wait(&self) -> Result<(), Refusal> {
        tokio::select! {
            biased;
            () = self.control.drain.cancelled() => return Err(draining()),
            () = tokio::time::sleep_until(self.next_step) => {}
        }
        standing(&self.control, &self.call).await?;
        let since = self.control.check_scope(&Scope::Tenant(self.tenant.clone())).await?;
        match since == self.since {
            true => Ok(()),
            false => Err(Refusal::not_found(Tenant::WORD, self.tenant.name())),
        }
    }

    /// How many deliveries the next step may move or make, up to what it takes. Counting has no pace.
    pub(super) fn most(&self, step: usize) -> usize {
        let pace = match self.bounds.per_second {
            pace if pace > 0 && !self.bounds.validate_only => {
                usize::try_from(pace).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        };
        step.min(self.left).min(pace)
    }

    /// How many more deliveries of the tenant may come to wait: others fill it meanwhile.
    ///
    /// # Errors
    ///
    /// TENANT_SUSPENDED.
    pub(super) async fn room(&self) -> Result<usize, Refusal> {
        let room = self.control.room(&self.tenant).await?;
        Ok(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Notes that so many deliveries were moved, made or counted.
    pub(super) fn did(&mut self, done: usize) {
        self.left = self.left.saturating_sub(done);
        if self.bounds.validate_only {
            return;
        }
        if self.bounds.per_second > 0 {
            let seconds = done as f64 / f64::from(self.bounds.per_second);
            self.next_step = Instant::now() + Duration::from_secs_f64(seconds);
        }
    }

    /// Whether it did as much as was asked for.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// This was its last step.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// A place, for the caller to come back with.
    pub(super) fn cursor(&self, place: &str) -> String {
        self.control.page_key.seal(&self.scope, place, self.control.clock.now())
    }
}

/// Begins a run over many deliveries or events.
pub(super) async fn run<T, S, F>(
    control: &Arc<Control>,
    request: tonic::Request<T>,
    method: (&'static str, &'static str),
    begin: impl FnOnce(Arc<Control>, T, Arc<Call>) -> F,
) -> Result<tonic::Response<S>, tonic::Status>
where
    T: Reaches,
    F: Future<Output = Result<S, Refusal>>,
{
    let (call, request) = enter(control, request, method).await?;
    let run = begin(Arc::clone(control), request, Arc::clone(&call));
    let run = CALL.scope(call, run).await;
    run.map(tonic::Response::new).map_err(pregon_rpc::status::status)
}

/// From when on an event may have been accepted whose deliveries were created since `from`: they are
/// made when it is due, up to [`limits::DELIVER_AHEAD`] later.
pub(super) fn accepted_from(
    from: Option<Timestamp>,
    since: Option<Timestamp>,
) -> Option<Timestamp> {
    from.map(|from| from.minus(limits::DELIVER_AHEAD)).max(since)
}

/// A page that a run goes through, in as many steps as its pace makes of it. Until that is done, the
/// run's cursor leads back to where the page began.
#[derive(Debug)]
pub(super) struct Pages<T> {
    /// Where the page begins; none: at the beginning.
    place: Option<String>,
    /// Where the next one does; none: this is the last.
    next: Option<String>,
    /// What of the page is still to be done.
    open: VecDeque<T>,
}

impl<T: Copy> Pages<T> {
    /// From the place that an opened cursor names.
    pub(super) fn from(cursor: Option<String>) -> Self {
        let place = cursor.filter(|place| !place.is_empty());
        Self { place, next: None, open: VecDeque::new() }
    }

    /// Where the page is to be read that comes now; none: what was read is not done yet.
    pub(super) fn wanted(&self) -> Option<Option<&str>> {
        self.open.is_empty().then_some(self.place.as_deref())
    }

    /// Takes in a page that was read, and where the next one begins.
    pub(super) fn turn(&mut self, open: impl IntoIterator<Item = T>, next: Option<String>) {
        self.open.extend(open);
        self.next = next;
    }

    /// What is to be done next, so many at most.
    pub(super) fn some(&self, most: usize) -> Vec<T> {
        self.open.iter().take(most).copied().collect()
    }

    /// Goes on behind that, and answers with the run's cursor: empty, and the run is at its end, where
    /// nothing is left.
    pub(super) fn did(&mut self, some: usize, course: &mut Course) -> String {
        self.open.drain(..some.min(self.open.len()));
        if self.open.is_empty() {
            self.place = self.next.take();
            if self.place.is_none() {
                course.end();
                return String::new();
            }
        }
        if course.is_full() {
            course.end();
        }
        course.cursor(self.place.as_deref().unwrap_or_default())
    }
}

/// What makes the steps of a run.
pub(super) trait Run: Send + 'static {
    /// What the stream has one of for each step.
    type Answer: Send + Sync + 'static;

    /// Where it is.
    fn course(&mut self) -> &mut Course;

    /// The next step.
    fn step(&mut self) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;

    /// What the audit log tells of it at its end.
    fn told(&self) -> serde_json::Value;
}

/// The steps of a run as a stream. It ends with the last one, or with the first that is refused.
pub(super) fn answers<R: Run>(run: R) -> Answers<R::Answer> {
    Box::pin(try_unfold(run, |mut run| async move {
        if run.course().ended {
            return Ok(None);
        }
        let answer = run.step().await;
        let told = run.told();
        let course = run.course();
        if (course.ended || answer.is_err())
            && let Some(mut begun) = course.begun.take()
        {
            begun.did(&told);
            course.control.end_step(begun, &answer).await;
        }
        Ok(Some((answer.map_err(pregon_rpc::status::status)?, run)))
    }))
}
