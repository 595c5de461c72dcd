//! Connections: kept up by themselves, with a bound on how long a call may take.
//!
//! A process has three: one for publishes (`WAIT` holds up whatever follows it), one for all other
//! calls, both pipelined, and one that blocks for bells and changes. A call that meets a cut
//! connection is sent again until [`PATIENCE`] is over, so callers send only what can be repeated:
//! reads, scripts with an operation's sequence, and steps that are the same the second time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisResult, Value};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::fault::{Fault, Result};
use super::script::{self, Script};

/// How long a call is tried before its caller is told that Redis does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Pause between two tries of a call.
const PAUSE: Duration = Duration::from_millis(50);

/// One connection, made anew when it breaks, and when it falls silent: behind a network that drops
/// what it does not know any more, a connection never breaks.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    current: Mutex<Current>,
}

/// The connection in use.
#[derive(Clone)]
struct Current {
    manager: ConnectionManager,
    /// Which one it is, so that of many calls that met its silence one replaces it.
    number: u64,
}

impl Link {
    /// A link that connects when it is first used.
    pub fn new(client: &Client) -> Result<Self> {
        let current = Current { manager: manager(client)?, number: 0 };
        Ok(Self(Arc::new(Shared { client: client.clone(), current: Mutex::new(current) })))
    }

    fn current(&self) -> Current {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves a connection that fell silent to itself, and takes another.
    fn replace(&self, silent: u64) {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == silent
            && let Ok(manager) = manager(&self.0.client)
        {
            *current = Current { manager, number: silent + 1 };
        }
    }

    /// One command that can be repeated.
    pub async fn query(&self, cmd: &Cmd) -> Result<Value> {
        let mut answers = self.send(Request::One(cmd)).await?;
        answers.pop().ok_or_else(silent)
    }

    /// Commands that can be repeated, sent together; answers one by one, errors among them.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        self.send(Request::Many(pipeline)).await
    }

    async fn send(&self, request: Request<'_>) -> Result<Vec<Value>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut current = self.current();
            match timeout_at(until, request.send(&mut current.manager)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    let refused = matches!(error.kind(), ErrorKind::AuthenticationFailed);
                    let fault = Fault::from(error);
                    if refused || !fault.is_passing() || Instant::now() + PAUSE >= until {
                        return Err(fault);
                    }
                    sleep(PAUSE).await;
                }
                Err(_) => {
                    self.replace(current.number);
                    return Err(silent());
                }
            }
        }
    }

    /// A command that waits at Redis for up to `wait`; not repeated.
    pub async fn block(&self, cmd: &Cmd, wait: Duration) -> Result<Value> {
        let mut current = self.current();
        match timeout(wait + PATIENCE, current.manager.req_packed_command(cmd)).await {
            Ok(answer) => Ok(answer.and_then(Value::extract_error)?),
            Err(_) => {
                self.replace(current.number);
                Err(silent())
            }
        }
    }

    /// Runs a script on a key.
    pub async fn run<T: DeserializeOwned>(
        &self,
        script: &Script,
        key: &str,
        args: &[Vec<u8>],
    ) -> Result<T> {
        let answer = match self.query(&script.by_hash(key, args)).await {
            Err(Fault::NoScript) => self.query(&script.whole(key, args)).await?,
            other => other?,
        };
        script::answer(answer)
    }
}

/// What is sent.
#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Request<'_> {
    async fn send(self, manager: &mut ConnectionManager) -> RedisResult<Vec<Value>> {
        match self {
            Request::One(cmd) => Ok(vec![manager.req_packed_command(cmd).await?.extract_error()?]),
            Request::Many(pipeline) => {
                manager.req_packed_commands(pipeline, 0, pipeline.len()).await
            }
        }
    }
}

/// A connection that is made when it is first used.
fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(3)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(200))
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None); // each call has its own
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn silent() -> Fault {
    Fault::Silent(format!("Redis did not answer within {} s", PATIENCE.as_secs()))
}
