//! How calls reach the database: the writer's thread, the readers' threads, and their queues.
//!
//! Every queue is bounded: a call first waits for a place in it. A call waits [`DEADLINE`] in all
//! and is then told that the store does not answer; a write that nobody waits for any more is not
//! begun. In memory there are no threads: calls run where they are made, one at a time.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::StoreError;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::files::{lock, private_file};
use crate::embedded::engine::room::Room;
use crate::embedded::engine::schema;
use crate::embedded::engine::slots::Slots;
use crate::embedded::engine::standing::{Alive, Standing};
use crate::embedded::engine::state::Tx;
use crate::embedded::engine::{Bells, Class, Engine, Gate, Job};
use crate::embedded::test_sends::board::Board;
use crate::embedded::{EmbeddedOptions, Location, OpenError, SyncMode};
use crate::intake::Durability;

/// How long a caller waits.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long whoever settles waits. A settle that was begun is carried out however long the disk takes,
/// and a repeat would find its batch gone: so its answer is waited for.
pub(in crate::embedded) const DEADLINE_SETTLE: Duration = Duration::from_secs(60);
/// How long a caller waits who has everything counted: a million deliveries take 100 ms.
const DEADLINE_ALL: Duration = Duration::from_secs(30);
/// Calls that wait for the writer or for a reader; with the largest publishes 64 MiB.
const QUEUE: usize = 1024;
/// Events and deliveries that one group writes, about: 10 ms of work, and the size of a commit.
const GROUP_ITEMS: usize = 1024;

/// The engine as its callers have it.
pub(in crate::embedded) struct Handle {
    mode: Mode,
    bells: Arc<Bells>,
    board: Board,
    slots: Slots,
    pub(in crate::embedded) durability: Durability,
    clock: pregon_core::clock::SharedClock,
}

enum Mode {
    Inline(Mutex<Option<Box<Engine>>>),
    Threads(Threads),
}

struct Threads {
    writer: Port<Write>,
    reader: Port<Read>,
    running: Mutex<Vec<JoinHandle<()>>>,
    readers: usize,
}

struct Write {
    job: Box<dyn Job>,
    items: usize,
}

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The sending end of a bounded queue to a thread.
struct Port<T> {
    sender: SyncSender<Message<T>>,
    places: Arc<Semaphore>,
}

enum Message<T> {
    Work(T, OwnedSemaphorePermit),
    Stop,
}

impl<T> Port<T> {
    fn new(stops: usize) -> (Self, Receiver<Message<T>>) {
        let (sender, receiver) = sync_channel(QUEUE + stops);
        (Self { sender, places: Arc::new(Semaphore::new(QUEUE)) }, receiver)
    }

    /// Waits for a place and sends.
    async fn send(&self, work: T) -> std::result::Result<(), StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        // The place guarantees that there is room: this never blocks.
        self.sender.try_send(Message::Work(work, place)).map_err(|_| StoreError::Closed)
    }

    fn stop(&self) {
        self.places.close();
        let _ = self.sender.try_send(Message::Stop);
    }
}

/// A write and who waits for it.
struct Task<T, F> {
    class: Class,
    work: F,
    value: Option<T>,
    reply: Option<oneshot::Sender<std::result::Result<T, StoreError>>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
{
    fn class(&self) -> Class {
        self.class
    }

    fn abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.value = Some((self.work)(tx)?);
        Ok(())
    }

    fn answer(&mut self, outcome: std::result::Result<(), StoreError>) {
        let Some(reply) = self.reply.take() else { return };
        let unrun = || StoreError::Unavailable("the write did not run".to_owned());
        let answer = outcome.and_then(|()| self.value.take().ok_or_else(unrun));
        let _ = reply.send(answer);
    }
}

impl Handle {
    /// Opens the database and starts the threads.
    pub fn open(options: EmbeddedOptions) -> std::result::Result<Handle, OpenError> {
        let boot = random()?;
        let bells = Arc::new(Bells {
            queue: Notify::new(),
            revision: watch::Sender::new(0),
            chunk: watch::Sender::new(0),
            gate: Gate::default(),
            standing: Standing::default(),
        });
        let mode = match options.location.clone() {
            Location::Memory => {
                Mode::Inline(Mutex::new(Some(Box::new(in_memory(&options, boot, &bells)?))))
            }
            Location::Directory(path) => {
                Mode::Threads(Threads::start(&path, &options, boot, &bells)?)
            }
        };
        let durability = match (&mode, options.sync) {
            (Mode::Threads(_), SyncMode::Fsync) => Durability::Fsync,
            (Mode::Threads(_), SyncMode::Memory) | (Mode::Inline(_), _) => Durability::Memory,
        };
        let slots = Slots::new(options.clock.now());
        let board = Board::default();
        Ok(Handle { mode, bells, board, slots, durability, clock: options.clock })
    }

    /// Rung when there may be something to claim.
    pub fn bell(&self) -> &Notify {
        &self.bells.queue
    }

    /// Test sends under way.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What was handed out of rates.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The latest revision.
    pub fn revision(&self) -> watch::Receiver<i64> {
        self.bells.revision.subscribe()
    }

    /// Number of the latest chunk of the log.
    pub fn chunks(&self) -> watch::Receiver<i64> {
        self.bells.chunk.subscribe()
    }

    /// How the writer is.
    pub fn standing(&self) -> &Standing {
        &self.bells.standing
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs a write; `items` is how many events or deliveries it moves, about. It may run again
    /// after a rollback.
    pub async fn write<T, F>(
        &self,
        class: Class,
        items: usize,
        work: F,
    ) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.write_within(DEADLINE, class, items, work).await
    }

    /// As [`Self::write`], with patience of the caller's.
    pub async fn write_within<T, F>(
        &self,
        deadline: Duration,
        class: Class,
        items: usize,
        work: F,
    ) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { class, work, value: None, reply: Some(reply) });
        match &self.mode {
            Mode::Inline(engine) => {
                run_inline(engine, |engine| {
                    engine.run(vec![job]);
                    engine.tend();
                })?;
                answer.await.unwrap_or_else(|_| Err(gone()))
            }
            Mode::Threads(threads) => {
                let call = async {
                    threads.writer.send(Write { job, items }).await?;
                    answer.await.unwrap_or_else(|_| Err(gone()))
                };
                in_time(deadline, call).await
            }
        }
    }

    /// Runs a read in a transaction of its own: it sees one committed moment.
    pub async fn read<T, F>(&self, work: F) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.read_within(DEADLINE, work).await
    }

    /// Runs a read of everything there is.
    pub async fn read_all<T, F>(&self, work: F) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.read_within(DEADLINE_ALL, work).await
    }

    async fn read_within<T, F>(
        &self,
        deadline: Duration,
        work: F,
    ) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        match &self.mode {
            Mode::Inline(engine) => {
                run_inline(engine, |engine| work(&engine.db))?.map_err(StoreError::from)
            }
            Mode::Threads(threads) => {
                let (reply, answer) = oneshot::channel();
                let bells = self.bells.clone();
                let read: Read = Box::new(move |db| {
                    if !reply.is_closed() {
                        bells.gate.pass();
                        let _ = reply.send(in_one_moment(db, work).map_err(StoreError::from));
                    }
                });
                let call = async {
                    threads.reader.send(read).await?;
                    answer.await.unwrap_or_else(|_| Err(gone()))
                };
                in_time(deadline, call).await
            }
        }
    }

    /// Runs something with the engine itself, where there is no thread.
    #[cfg(test)]
    pub fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        match &self.mode {
            Mode::Inline(engine) => run_inline(engine, work).ok(),
            Mode::Threads(_) => None,
        }
    }

    /// Finishes what was asked, closes the database and lets the lock go.
    pub fn close(&self) {
        self.board.close();
        match &self.mode {
            Mode::Inline(engine) => {
                if let Ok(mut engine) = engine.lock() {
                    engine.take();
                }
            }
            Mode::Threads(threads) => threads.stop(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the engine stopped".to_owned())
}

async fn in_time<T>(
    deadline: Duration,
    call: impl Future<Output = std::result::Result<T, StoreError>>,
) -> std::result::Result<T, StoreError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(StoreError::Unavailable(format!("no answer within {} s", deadline.as_secs())))
        }
    }
}

fn run_inline<T>(
    engine: &Mutex<Option<Box<Engine>>>,
    work: impl FnOnce(&mut Engine) -> T,
) -> std::result::Result<T, StoreError> {
    let mut engine = engine.lock().map_err(|_| gone())?;
    engine.as_deref_mut().map(work).ok_or(StoreError::Closed)
}

fn in_one_moment<T>(db: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    db.prepare_cached("BEGIN")?.execute([])?;
    let result = work(db);
    db.prepare_cached("ROLLBACK")?.execute([])?; // a read has nothing to commit
    result
}

fn in_memory(
    options: &EmbeddedOptions,
    boot: i64,
    bells: &Arc<Bells>,
) -> std::result::Result<Engine, OpenError> {
    let db = Connection::open_in_memory().map_err(wrong)?;
    schema::prepare(&db, SyncMode::Memory, false, random()?)?;
    let room = Room::new(&db, None, options.reserve, options.max_size);
    let options = EmbeddedOptions { sync: SyncMode::Memory, ..options.clone() };
    Engine::new(db, &options, room, boot, bells.clone())
        .map_err(|fault| OpenError::Database(StoreError::from(fault).to_string()))
}

impl Threads {
    fn start(
        path: &Path,
        options: &EmbeddedOptions,
        boot: i64,
        bells: &Arc<Bells>,
    ) -> std::result::Result<Threads, OpenError> {
        let lock = lock(path)?;
        let file = path.join("pregon.db");
        private_file(&file).map_err(|source| OpenError::File { path: file.clone(), source })?;
        let db = Connection::open(&file).map_err(wrong)?;
        schema::prepare(&db, options.sync, true, random()?)?;
        let room = Room::new(&db, Some(path.join("reserve")), options.reserve, options.max_size);
        let engine = Engine::new(db, options, room, boot, bells.clone())
            .map_err(|fault| OpenError::Database(StoreError::from(fault).to_string()))?;

        let readers = options.readers.max(1);
        let (writer, writes) = Port::new(1);
        let (reader, reads) = Port::new(readers);
        let alive = Alive(bells.clone());
        let mut running = vec![spawn("store-writer", move || {
            let _alive = alive;
            write_on(engine, &writes, lock);
        })?];
        let reads = Arc::new(Mutex::new(reads));
        for _ in 0..readers {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(&file, flags).map_err(wrong)?;
            schema::prepare_reader(&db).map_err(wrong)?;
            let reads = reads.clone();
            running.push(spawn("store-reader", move || read_on(&db, &reads))?);
        }
        Ok(Threads { writer, reader, running: Mutex::new(running), readers })
    }

    fn stop(&self) {
        let Ok(mut running) = self.running.lock() else { return };
        if running.is_empty() {
            return;
        }
        for _ in 0..self.readers {
            self.reader.stop();
        }
        self.writer.stop();
        // Readers end first, so that the writer's connection is the last and tidies the log up.
        for thread in running.drain(..).rev() {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// The writer's thread: what waits, to a bound, is one group. Lets the lock go when it ends.
fn write_on(mut engine: Engine, writes: &Receiver<Message<Write>>, lock: File) {
    let mut stopping = false;
    while !stopping {
        let first = match writes.recv_timeout(engine.pause()) {
            Ok(Message::Work(write, place)) => {
                drop(place);
                write
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                engine.tend();
                continue;
            }
        };
        let mut items = first.items;
        let mut group = vec![first.job];
        while items < GROUP_ITEMS {
            match writes.try_recv() {
                Ok(Message::Work(write, place)) => {
                    drop(place);
                    items += write.items;
                    group.push(write.job);
                }
                Ok(Message::Stop) => {
                    stopping = true;
                    break;
                }
                Err(_) => break,
            }
        }
        engine.run(group);
        engine.tend();
    }
    drop(engine);
    drop(lock);
}

/// A reader's thread.
fn read_on(db: &Connection, reads: &Mutex<Receiver<Message<Read>>>) {
    loop {
        let message = match reads.lock() {
            Ok(reads) => reads.recv(),
            Err(_) => return,
        };
        match message {
            Ok(Message::Work(read, place)) => {
                drop(place);
                read(db);
            }
            Ok(Message::Stop) | Err(_) => return,
        }
    }
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::result::Result<JoinHandle<()>, OpenError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map_err(|error| OpenError::Database(format!("no thread: {error}")))
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` passes it
fn wrong(error: rusqlite::Error) -> OpenError {
    OpenError::Database(error.to_string())
}

fn random() -> std::result::Result<i64, OpenError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| OpenError::Database(format!("no randomness: {error}")))?;
    Ok(i64::from_le_bytes(bytes))
}
