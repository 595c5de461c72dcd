//! Attempts and test sends, each by a task of its own.

use std::sync::Arc;

use pregon_store::test_send::TakenTest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::WorkerOptions;
use super::attempt::{Context, Fired, Shot, Together, fire, fire_together};
use super::job::{Also, Job, Report};
use super::runners::Runners;
use super::test_send::{self, Tester};

/// Makes attempts, each by a task of its own.
pub(super) struct Attempts {
    context: Arc<Context>,
    runners: Arc<Runners<Job>>,
    tester: Arc<Tester>,
    reports: mpsc::Sender<Report>,
}

impl Attempts {
    pub(super) fn new(options: &WorkerOptions, reports: mpsc::Sender<Report>) -> Self {
        let context = Arc::new(Context::new(options));
        let tester = Tester {
            context: Arc::clone(&context),
            configuration: options.configuration.clone(),
            store: Arc::clone(&options.tests),
        };
        Self { context, runners: Runners::new(), tester: Arc::new(tester), reports }
    }

    /// Makes an attempt; its report comes over the channel, whatever happens.
    pub(super) fn start(&self, job: Job) {
        self.runners.run(job, || {
            let (context, reports) = (Arc::clone(&self.context), self.reports.clone());
            move |job| {
                let (context, reports) = (Arc::clone(&context), reports.clone());
                async move {
                    let report = make(&context, job).await;
                    // The loop is gone only when the process goes; the lease runs out then.
                    let _ = reports.send(report).await;
                }
            }
        });
    }

    /// Makes a test send and answers it; `going`: the node is going down, and says so instead.
    pub(super) fn test(&self, taken: TakenTest, going: bool) -> JoinHandle<()> {
        tokio::spawn(test_send::answer(Arc::clone(&self.tester), taken, going))
    }
}

async fn make(context: &Context, job: Job) -> Report {
    let started = Instant::now();
    for due in std::iter::once(&job).chain(&job.company).filter_map(|job| job.due) {
        context.telemetry.metrics().began_after(context.clock.now().since(due));
    }
    if !job.company.is_empty() {
        return make_together(context, job, started).await;
    }
    let fired = fire(context, &shot(&job)).await;
    report(job, started, fired)
}

/// Makes one attempt for a delivery and what goes with it.
async fn make_together(context: &Context, mut job: Job, started: Instant) -> Report {
    let company = std::mem::take(&mut job.company);
    // They are retried together, too.
    let chance = job.chance;
    let mut jobs: Vec<_> = std::iter::once(job).chain(company).collect();
    let together = {
        let shots: Vec<_> = jobs.iter().map(|job| Shot { chance, ..shot(job) }).collect();
        fire_together(context, &shots).await
    };
    let Together { first, fired, others } = together;
    let mut report = report(jobs.remove(first), started, fired);
    for (job, outcome) in jobs.into_iter().zip(others) {
        match outcome {
            Some((decision, record)) => report.company.push(Also { job, decision, record }),
            None => report.left.push(job),
        }
    }
    report
}

fn shot(job: &Job) -> Shot<'_> {
    Shot {
        key: job.key,
        lane: &job.lane,
        event: &job.event,
        number: job.number,
        create_time: job.create_time,
        revision: job.revision,
        share: job.share.as_deref(),
        timeout: job.lane.contract.timeout(job.number),
        chance: job.chance,
        test: false,
    }
}

fn report(job: Job, started: Instant, fired: Fired) -> Report {
    let Fired { decision, pace, ended, record, request: _, render, ended_at } = fired;
    let (company, left) = (Vec::new(), Vec::new());
    Report { job, started, ended, decision, pace, record, render, ended_at, company, left }
}
