//! Answers that their peers have not taken yet: how many bytes they may be, and for how long.
//!
//! HTTP/2 lets a peer ask much and take nothing: with a window of nothing every answer waits in
//! this process, for as long as the peer answers pings. So each answer is encoded before it begins
//! to leave, and its bytes are counted until the transport lets go of them: against the
//! connection's room, its caller's and everybody's. A call that reads what is stored may have a
//! large answer; it takes room for one before its handler runs, and waits for that within its
//! deadline. Other calls have small answers, and room of their own, so that nobody who reads keeps
//! those who publish waiting.
//!
//! A connection with an answer that its peer does not take whole within two turns is cut. So is one
//! with a stream of whose last message it takes nothing for as long; a stream has one message on its
//! way, and makes the next when that is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a connection is looked at for answers that nobody takes: they have two turns at least.
pub(crate) const TURN: Duration = Duration::from_secs(30);

/// What one permit is.
const UNIT: usize = 1024;

/// What a page takes while it is made. It has a MiB, and a little more by its last item: once as
/// what was read, four times while it is encoded into bytes that grow, and once as it leaves.
const PAGE_MADE: usize = 5 << 20;

/// How large answers are thought to be before they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// A page of what is stored.
    Page,
    /// One stored thing, with its bodies.
    One,
    /// What a write, a publish or a wait answers: hardly anything, and it is not waited for.
    Small,
}

impl Size {
    /// Bytes for which room is taken while there is no answer yet.
    fn reserve(self) -> usize {
        match self {
            Size::Page => PAGE_MADE,
            Size::One => 1024 * UNIT,
            Size::Small => 0,
        }
    }
}

/// Room for bytes.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Room for so many bytes, but one page at least.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(units(bytes.max(PAGE_MADE)))))
    }

    /// Waits for so many units of it.
    pub(crate) async fn take(&self, units: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(units).ok()?;
        // It is never closed.
        Arc::clone(&self.0).acquire_many_owned(units).await.ok()
    }

    /// Bytes that are not taken.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.available_permits() * UNIT
    }
}

/// Room for large answers and, apart from it, for small ones.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    large: Room,
    small: Room,
}

impl Rooms {
    /// Three quarters of so many bytes are for large answers.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { large: Room::new(bytes / 4 * 3), small: Room::new(bytes / 4) }
    }

    fn of(&self, size: Size) -> &Room {
        match size {
            Size::Page | Size::One => &self.large,
            Size::Small => &self.small,
        }
    }
}

/// Which rooms an answer takes its bytes from: its connection's, its caller's, everybody's.
#[derive(Debug)]
pub(crate) struct Taking {
    size: Size,
    rooms: Vec<Room>,
    held: Vec<OwnedSemaphorePermit>,
}

impl Taking {
    /// Takes nothing yet. The widest room stands last: who waits for it holds what is his own.
    pub(crate) fn new(size: Size, connection: Option<&Room>, shared: &[&Rooms]) -> Self {
        let shared = shared.iter().map(|rooms| rooms.of(size));
        let rooms = connection.into_iter().chain(shared).cloned().collect();
        Self { size, rooms, held: Vec::new() }
    }

    /// Takes room for an answer that is not there yet.
    pub(crate) async fn reserve(&mut self) {
        let units = units(self.size.reserve());
        if units > 0 {
            self.take(units).await;
        }
    }

    /// Takes what an answer of so many bytes wants, and gives back what it does not.
    pub(crate) async fn settle(&mut self, bytes: usize) {
        let (wanted, reserved) = (units(bytes), units(self.size.reserve()));
        if wanted > reserved {
            // As large as a message may be, or it would wait for ever for room that is not there.
            self.take(wanted.min(units(crate::MESSAGE_LEN)) - reserved).await;
        } else {
            for permit in &mut self.held {
                drop(permit.split(reserved - wanted));
            }
        }
    }

    async fn take(&mut self, units: usize) {
        for room in &self.rooms {
            self.held.extend(room.take(units).await);
        }
    }

    /// The bytes, which hold their room until the last of them is sent or dropped.
    pub(crate) fn hold(self, bytes: Bytes, waiting: Option<Waiting>) -> Bytes {
        Bytes::from_owner(Held { bytes, _room: self.held, _waiting: waiting })
    }
}

struct Held {
    bytes: Bytes,
    _room: Vec<OwnedSemaphorePermit>,
    _waiting: Option<Waiting>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Permits for so many bytes, rounded up.
pub(crate) fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

/// The answers of one connection that wait to be taken, by the turn in which they began to.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    turn: AtomicUsize,
    waiting: [AtomicUsize; 3],
}

/// One of them, until it is taken.
#[derive(Debug)]
pub(crate) struct Waiting {
    among: Arc<Answers>,
    turn: usize,
}

impl Answers {
    /// An answer begins to wait.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        let turn = self.turn.load(Ordering::Relaxed);
        self.waiting[turn].fetch_add(1, Ordering::Relaxed);
        Waiting { among: Arc::clone(self), turn }
    }

    /// Begins another turn. Says whether an answer has waited for two.
    pub(crate) fn turn(&self) -> bool {
        let next = (self.turn.load(Ordering::Relaxed) + 1) % self.waiting.len();
        if self.waiting[next].load(Ordering::Relaxed) > 0 {
            return true;
        }
        self.turn.store(next, Ordering::Relaxed);
        false
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.among.waiting[self.turn].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn bytes_hold_their_room_until_the_last_is_gone() {
        let (own, all) = (Room::new(8 * MIB), Rooms::new(32 * MIB));
        let mut taking = Taking::new(Size::Page, Some(&own), &[&all]);
        taking.reserve().await;
        assert_eq!((own.left(), all.large.left()), (3 * MIB, 19 * MIB));
        taking.settle(MIB + 1).await;
        assert_eq!(own.left(), 7 * MIB - UNIT);
        let mut bytes = taking.hold(Bytes::from(vec![0; MIB + 1]), None);
        let rest = bytes.split_off(10);
        drop(bytes);
        assert_eq!(own.left(), 7 * MIB - UNIT);
        drop(rest);
        assert_eq!((own.left(), all.large.left()), (8 * MIB, 24 * MIB));
    }

    #[tokio::test]
    async fn who_reads_does_not_keep_others_waiting() {
        let all = Rooms::new(20 * MIB);
        let mut pages: Vec<_> = (0..3).map(|_| Taking::new(Size::Page, None, &[&all])).collect();
        for page in &mut pages {
            page.reserve().await;
        }
        let mut more = Taking::new(Size::One, None, &[&all]);
        let waits = tokio::time::timeout(Duration::from_millis(20), more.reserve());
        assert!(waits.await.is_err());
        let mut small = Taking::new(Size::Small, None, &[&all]);
        small.reserve().await;
        small.settle(100).await;
        assert_eq!(all.small.left(), 5 * MIB - UNIT);
    }

    #[tokio::test]
    async fn an_answer_above_all_room_does_not_wait_for_ever() {
        let own = Room::new(0);
        let mut taking = Taking::new(Size::One, Some(&own), &[]);
        taking.reserve().await;
        taking.settle(100 * MIB).await;
        assert_eq!(own.left(), PAGE_MADE - crate::MESSAGE_LEN);
    }

    #[test]
    fn an_answer_that_waits_for_two_turns_is_found() {
        let answers = Arc::new(Answers::default());
        assert!((0..5).all(|_| !answers.turn()));
        let waiting = answers.wait();
        assert!(!answers.turn());
        let later = answers.wait();
        assert!(!answers.turn());
        assert!(answers.turn());
        drop(waiting);
        assert!(!answers.turn());
        assert!(answers.turn(), "the later one has had its two turns");
        drop(later);
        assert!((0..5).all(|_| !answers.turn()));
    }
}
