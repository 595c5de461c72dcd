//! Wakes who waits for a change of configuration.
//!
//! A blocking read holds up whatever else is on its connection, and a follower that stops waiting
//! would leave one behind. So one task per process waits at Redis, on a connection of its own, and
//! all followers wait for the task. It starts with the first of them and ends with the store.
//!
//! It learns the last entry's id anew in each round, so it survives a log that was set back; what
//! it misses while Redis is away the followers find at their own next look.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::redis::engine::fault::Result;
use crate::redis::engine::link::Link;
use crate::redis::engine::value;
use crate::redis::layout::keys::ConfigKey;
use crate::redis::layout::stream::{Id, Row};

/// How long one read waits at Redis.
const BLOCK: Duration = Duration::from_secs(5);
/// Pause after a read that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The task, and the bell that it rings.
pub(in crate::redis) struct Watcher {
    link: Link,
    bell: watch::Sender<()>,
    task: OnceLock<AbortHandle>,
}

impl Watcher {
    /// Over a connection that nobody else uses.
    pub fn new(link: Link) -> Self {
        Self { link, bell: watch::Sender::new(()), task: OnceLock::new() }
    }

    /// Changes with every commit, and sometimes without.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.task.get_or_init(|| {
            tokio::spawn(watch(self.link.clone(), self.bell.clone())).abort_handle()
        });
        self.bell.subscribe()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn watch(link: Link, bell: watch::Sender<()>) {
    let mut known = None;
    loop {
        match last(&link).await {
            Ok(id) if known.as_ref() == Some(&id) => {
                if wait(&link, id).await.is_err() {
                    sleep(PAUSE).await;
                }
            }
            Ok(id) => {
                known = Some(id);
                bell.send_replace(());
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The id of the last entry.
async fn last(link: &Link) -> Result<Id> {
    let mut cmd = redis::cmd("XREVRANGE");
    cmd.arg(ConfigKey::Changes.to_string()).arg("+").arg("-").arg("COUNT").arg(1);
    match value::array(link.query(&cmd).await?)?.pop() {
        Some(entry) => Ok(Row::read(entry)?.id),
        None => Ok(Id::default()),
    }
}

/// Waits for an entry after this one.
async fn wait(link: &Link, id: Id) -> Result<()> {
    let mut cmd = redis::cmd("XREAD");
    cmd.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis().to_string());
    cmd.arg("STREAMS").arg(ConfigKey::Changes.to_string()).arg(id.to_string());
    link.block(&cmd, BLOCK).await.map(drop)
}
