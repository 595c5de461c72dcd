//! Connections: kept up by themselves, with a bound on how long a call may take.
//!
//! A process has five: one for publishes and one for all other calls, both pipelined; one that
//! waits for bells, one for changes, and one for confirmations of writes. A call that meets a cut
//! connection is sent again until [`PATIENCE`] is over, so callers send only what can be repeated:
//! reads, scripts with an operation's sequence, and steps that are the same the second time.
//!
//! A server that refuses writes because it is a replica was the primary when the connection was
//! made. The name may lead to another one since, so all connections of the process are made anew, and
//! the name is resolved again, until one leads to a primary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::look::look;
use crate::redis::engine::script::{self, Script};

/// How long a call is tried before its caller is told that Redis does not answer.
pub(in crate::redis) const PATIENCE: Duration = Duration::from_secs(2);
/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Pause between two tries of a call.
const PAUSE: Duration = Duration::from_millis(50);
/// How often connections are made anew, at most, while they lead to a replica.
const MOVE_PAUSE: Duration = Duration::from_millis(200);
/// After how long without a replica one is told of again.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How long what was found out about a silent server is told.
const KNOWN: Duration = Duration::from_secs(10);

/// One connection, made anew when it breaks, and when it falls silent: behind a network that drops
/// what it does not know any more, a connection never breaks.
#[derive(Clone)]
pub(in crate::redis) struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    current: Mutex<Current>,
    moves: Arc<Moves>,
    /// What was found out when it fell silent last, if anything, and when.
    why: Mutex<Option<(Instant, String)>>,
    /// It is being found out.
    looking: AtomicBool,
}

/// How often connections led to a replica, over all links of a process.
#[derive(Default)]
struct Moves(Mutex<(u64, Option<Instant>)>);

impl Moves {
    fn count(&self) -> u64 {
        locked(&self.0).0
    }

    /// A connection that was made after so many led to a replica.
    fn note(&self, known: u64) {
        let mut moves = locked(&self.0);
        if moves.0 == known && moves.1.is_none_or(|last| last.elapsed() >= MOVE_PAUSE) {
            if moves.1.is_none_or(|last| last.elapsed() >= SAID_AGAIN) {
                tracing::warn!("the server is a replica and refuses writes: connecting anew");
            }
            *moves = (known + 1, Some(Instant::now()));
        }
    }
}

/// A lock whose holders cannot panic.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection in use.
#[derive(Clone)]
struct Current {
    manager: ConnectionManager,
    /// Which one it is, so that of many calls that met its silence one replaces it.
    number: u64,
    /// How often connections had led to a replica when it was made.
    moves: u64,
}

impl Link {
    /// A link that connects when it is first used.
    pub fn new(client: &Client) -> Result<Self> {
        Self::with(client, Arc::default())
    }

    /// Another one, that learns with this one when the primary is elsewhere.
    pub fn another(&self) -> Result<Self> {
        Self::with(&self.0.client, Arc::clone(&self.0.moves))
    }

    fn with(client: &Client, moves: Arc<Moves>) -> Result<Self> {
        let current = Current { manager: manager(client)?, number: 0, moves: moves.count() };
        let (client, current) = (client.clone(), Mutex::new(current));
        let (why, looking) = (Mutex::default(), AtomicBool::default());
        Ok(Self(Arc::new(Shared { client, current, moves, why, looking })))
    }

    fn current(&self) -> Current {
        let (mut current, moves) = (locked(&self.0.current), self.0.moves.count());
        if current.moves != moves
            && let Ok(manager) = manager(&self.0.client)
        {
            *current = Current { manager, number: current.number + 1, moves };
        }
        current.clone()
    }

    /// Leaves a connection that fell silent to itself, and takes another.
    fn replace(&self, silent: u64) {
        let mut current = locked(&self.0.current);
        if current.number == silent
            && let Ok(manager) = manager(&self.0.client)
        {
            *current = Current { manager, number: silent + 1, ..*current };
        }
    }

    /// A call was not answered: says so, and what was found out about it at the last such call.
    /// What is the matter now is found out meanwhile.
    fn silent(&self, patience: Duration) -> Fault {
        let known = locked(&self.0.why).clone().filter(|(at, _)| at.elapsed() < KNOWN);
        if !self.0.looking.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(&self.0);
            tokio::spawn(async move {
                let found = look(&shared.client).await;
                *locked(&shared.why) = found.map(|why| (Instant::now(), why));
                shared.looking.store(false, Ordering::Relaxed);
            });
        }
        let text = format!("Redis did not answer within {} s", patience.as_secs());
        Fault::Silent(known.map_or(text.clone(), |(_, why)| format!("{text}: {why}")))
    }

    /// Why the server does not answer, as far as a connection of its own shows.
    pub async fn why(&self) -> Option<String> {
        look(&self.0.client).await
    }

    /// One command that can be repeated.
    pub async fn query(&self, cmd: &Cmd) -> Result<Value> {
        let mut answers = self.send(Request::One(cmd), PATIENCE).await?;
        answers.pop().ok_or_else(|| bad("so many answers:", 0))
    }

    /// Commands that can be repeated, sent together; answers one by one, errors among them.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        self.send(Request::Many(pipeline), PATIENCE).await
    }

    /// The same, for what may wait at Redis.
    pub async fn patiently(&self, pipeline: &Pipeline, patience: Duration) -> Result<Vec<Value>> {
        self.send(Request::Many(pipeline), patience).await
    }

    async fn send(&self, request: Request<'_>, patience: Duration) -> Result<Vec<Value>> {
        let until = Instant::now() + patience;
        let mut last = None;
        loop {
            let mut current = self.current();
            match timeout_at(until, request.send(&mut current.manager)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    let refused = matches!(error.kind(), ErrorKind::AuthenticationFailed);
                    if is_replica(&error) {
                        self.0.moves.note(current.moves);
                    }
                    let fault = Fault::from(error);
                    if refused || !fault.is_passing() || Instant::now() + PAUSE >= until {
                        return Err(fault);
                    }
                    last = Some(fault);
                    sleep(PAUSE).await;
                }
                Err(_) => {
                    self.replace(current.number);
                    // A server that is away for the whole time said so before.
                    return Err(last.unwrap_or_else(|| self.silent(patience)));
                }
            }
        }
    }

    /// A command that waits at Redis for up to `wait`; not repeated.
    pub async fn block(&self, cmd: &Cmd, wait: Duration) -> Result<Value> {
        let mut current = self.current();
        match timeout(wait + PATIENCE, current.manager.req_packed_command(cmd)).await {
            Ok(answer) => {
                let answer = answer.and_then(Value::extract_error);
                if answer.as_ref().is_err_and(is_replica) {
                    self.0.moves.note(current.moves);
                }
                Ok(answer?)
            }
            Err(_) => {
                self.replace(current.number);
                Err(self.silent(wait + PATIENCE))
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
                let answers = manager.req_packed_commands(pipeline, 0, pipeline.len()).await?;
                match answers.iter().find_map(refusal) {
                    Some(error) => Err(error),
                    None => Ok(answers),
                }
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

/// Whether a server refuses writes because it is a replica.
fn is_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// The same, among the answers to several commands.
fn refusal(answer: &Value) -> Option<RedisError> {
    match answer {
        Value::ServerError(error) if error.kind() == Some(ServerErrorKind::ReadOnly) => {
            Some(RedisError::from(error.clone()))
        }
        _ => None,
    }
}
