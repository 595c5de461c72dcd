//! Tasks that do one job after the other.
//!
//! A task that makes an attempt is some kilobytes large. One for each attempt costs more to make and
//! to throw away than to wake one that is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Tasks that are kept while they have nothing to do.
const IDLE_MAX: usize = 512;

/// Those that have nothing to do; `J` is a job. They end with it.
#[derive(Debug)]
pub(super) struct Runners<J> {
    idle: Mutex<Vec<Arc<Runner<J>>>>,
}

/// A task, as whoever has a job for it sees it.
#[derive(Debug)]
struct Runner<J> {
    job: Mutex<Option<J>>,
    called: Notify,
}

impl<J: Send + 'static> Runners<J> {
    /// None at first.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default() })
    }

    /// Has a job done by a task that has nothing to do, or by a new one that does all its jobs in
    /// the way of `work`.
    pub(super) fn run<F, W>(self: &Arc<Self>, job: J, work: impl FnOnce() -> W)
    where
        W: Fn(J) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let idle = locked(&self.idle).pop();
        if let Some(runner) = idle {
            *locked(&runner.job) = Some(job);
            runner.called.notify_one();
            return;
        }
        let runner = Arc::new(Runner { job: Mutex::new(Some(job)), called: Notify::new() });
        tokio::spawn(runner.go(work(), Arc::downgrade(self)));
    }

    /// Whether the task is kept for another job.
    fn rest(&self, runner: &Arc<Runner<J>>) -> bool {
        let mut idle = locked(&self.idle);
        let kept = idle.len() < IDLE_MAX;
        if kept {
            idle.push(Arc::clone(runner));
        }
        kept
    }
}

impl<J> Drop for Runners<J> {
    fn drop(&mut self) {
        for runner in locked(&self.idle).drain(..) {
            runner.called.notify_one();
        }
    }
}

impl<J> Runner<J> {
    async fn go<F, W>(self: Arc<Self>, work: W, runners: Weak<Runners<J>>)
    where
        J: Send + 'static,
        W: Fn(J) -> F,
        F: Future<Output = ()>,
    {
        loop {
            let job = locked(&self.job).take();
            if let Some(job) = job {
                work(job).await;
                if !runners.upgrade().is_some_and(|runners| runners.rest(&self)) {
                    return;
                }
            } else if runners.strong_count() == 0 {
                return;
            }
            self.called.notified().await;
        }
    }
}

/// A lock whose holders cannot panic.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_does_one_job_after_the_other() {
        let runners = Runners::new();
        let (done, mut results) = mpsc::channel(2 * IDLE_MAX);
        let work = |done: mpsc::Sender<_>| {
            move |job: u32| {
                let done = done.clone();
                async move { done.send((job, tokio::task::id())).await.unwrap() }
            }
        };
        let mut tasks = BTreeSet::new();
        for job in 0..10 {
            runners.run(job, || work(done.clone()));
            let (known, task) = results.recv().await.unwrap();
            assert_eq!(known, job);
            tasks.insert(task.to_string());
            tokio::task::yield_now().await; // it rests
        }
        assert_eq!(tasks.len(), 1);
        (0..10).for_each(|job| runners.run(job, || work(done.clone())));
        let mut jobs = BTreeSet::new();
        for _ in 0..10 {
            jobs.insert(results.recv().await.unwrap().0);
        }
        assert_eq!(jobs, (0..10).collect());
        // With it go those that rest: nobody else has the channel.
        drop((runners, done));
        assert!(results.recv().await.is_none());
    }

    #[tokio::test]
    async fn few_are_kept() {
        let runners = Runners::new();
        let (done, mut results) = mpsc::channel(2 * IDLE_MAX);
        let count = IDLE_MAX + 10;
        for job in 0..count {
            let done = done.clone();
            runners.run(job, || {
                move |job| {
                    let done = done.clone();
                    async move { done.send(job).await.unwrap() }
                }
            });
        }
        for _ in 0..count {
            results.recv().await.unwrap();
        }
        assert_eq!(locked(&runners.idle).len(), IDLE_MAX);
    }
}
