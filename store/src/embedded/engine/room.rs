//! Room for finishing: what keeps settles going when there is none for publishes.
//!
//! Two things can end: the disk, and the size that the operator allows. Against the first a file
//! of zeros is kept beside the database and deleted when the disk is full; against the second the
//! database may grow by as much beyond its bound. While the reserve is open new work is refused.
//! It is closed again when the file could be made anew and the database is back within its bound.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::embedded::engine::schema::{CHECKPOINT_PAGES, PAGE};

/// SQLite's own bound on the pages of a database, when the operator sets none.
const PAGES_MAX: u64 = 0xffff_fffe;

/// Pages of the log after which it is folded in while the store is full: an eighth of the
/// reserve.
const CHECKPOINT_FULL: i64 = 256;

/// The reserve.
#[derive(Debug)]
pub(in crate::embedded) struct Room {
    file: Option<PathBuf>,
    bytes: u64,
    pages: u64,
    /// It was set aside, or does not have to be.
    ready: bool,
    /// A thread is at it: that many zeros take longer than callers want to wait.
    making: Option<JoinHandle<std::io::Result<()>>>,
    full: Option<String>,
}

impl Room {
    /// A reserve that the first [`Room::look`] sets aside, so that opening is not delayed by it. A
    /// disk that is full from the start is not an error: what can be finished is.
    pub fn new(db: &Connection, file: Option<PathBuf>, bytes: u64, max_size: u64) -> Room {
        let pages = if max_size == 0 { PAGES_MAX } else { (max_size / PAGE).max(64) };
        limit(db, pages);
        Room { ready: file.is_none(), file, bytes, pages, making: None, full: None }
    }

    /// Whether new work is refused.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// Why.
    pub fn reason(&self) -> &str {
        self.full.as_deref().unwrap_or("there is room")
    }

    /// Lets work in progress use the reserve; false if it does so already.
    pub fn open_reserve(&mut self, db: &Connection, reason: &str) -> bool {
        if self.full.is_some() {
            return false;
        }
        tracing::error!(reason, "the store is full: new work is refused, the reserve is open");
        self.full = Some(reason.to_owned());
        if self.file.is_some() {
            self.wait_for_thread();
            self.remove_file();
            // The log takes room of its own: fold it in now, and keep it small meanwhile.
            checkpoint(db, CHECKPOINT_FULL);
        }
        limit(db, self.pages.saturating_add(self.bytes / PAGE).min(PAGES_MAX));
        true
    }

    /// Sets the reserve aside for the first time, or closes it if there is room again.
    pub fn look(&mut self, db: &Connection) {
        if self.ready && self.full.is_none() {
            return;
        }
        let bound = self.pages.saturating_sub(spare(self.pages));
        if self.full.is_some() && used(db).is_none_or(|used| used > bound) {
            return;
        }
        match self.set_aside() {
            None => return,
            Some(Ok(())) => self.ready = true,
            Some(Err(error)) => {
                self.remove_file();
                self.open_reserve(db, &format!("the reserve cannot be set aside: {error}"));
                return;
            }
        }
        limit(db, self.pages);
        if let Some(was) = self.full.take() {
            if self.file.is_some() {
                checkpoint(db, CHECKPOINT_PAGES);
            }
            tracing::info!(was, "the store has room");
        }
    }

    /// A thread that still makes the file would take the room that removing it gives.
    fn wait_for_thread(&mut self) {
        if let Some(thread) = self.making.take() {
            let _ = thread.join();
        }
    }

    /// Makes the file on a thread of its own; answers when it is done.
    fn set_aside(&mut self) -> Option<std::io::Result<()>> {
        let Some(file) = &self.file else { return Some(Ok(())) };
        match self.making.take() {
            Some(thread) if thread.is_finished() => {
                let died = |_| Err(std::io::Error::other("the thread died"));
                Some(thread.join().unwrap_or_else(died))
            }
            Some(thread) => {
                self.making = Some(thread);
                None
            }
            None => {
                let (file, bytes) = (file.clone(), self.bytes);
                let work = move || set_aside(&file, bytes);
                match std::thread::Builder::new().name("store-reserve".to_owned()).spawn(work) {
                    Ok(thread) => {
                        self.making = Some(thread);
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }

    fn remove_file(&self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Drop for Room {
    /// The directory is let go of only when nobody writes in it.
    fn drop(&mut self) {
        self.wait_for_thread();
    }
}

/// Pages that must be free before a database with a bound takes new work again: a sixteenth, so
/// that it does not go to and fro.
fn spare(pages: u64) -> u64 {
    if pages == PAGES_MAX { 0 } else { pages / 16 }
}

/// Pages in use.
fn used(db: &Connection) -> Option<u64> {
    let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0)).ok()?;
    let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0)).ok()?;
    u64::try_from(pages - free).ok()
}

/// Copies the log into the database and cuts it off; from now on again after so many pages.
fn checkpoint(db: &Connection, pages: i64) {
    let cut = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    let set = db.pragma_update(None, "wal_autocheckpoint", pages);
    if let Err(error) = cut.and(set) {
        tracing::debug!(%error, "the log cannot be folded in");
    }
}

/// Bounds the database. A bound below its present size leaves it as large as it is.
fn limit(db: &Connection, pages: u64) {
    let pages = i64::try_from(pages).unwrap_or(i64::MAX);
    let set = db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0));
    if let Err(error) = set {
        tracing::warn!(%error, "the size of the database cannot be bounded");
    }
}

/// Makes the file, unless it is there. It is written, not merely sized: a hole reserves nothing.
fn set_aside(path: &Path, bytes: u64) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() >= bytes) {
        return Ok(());
    }
    let mut file = crate::embedded::engine::files::private_file(path)?;
    let zeros = vec![0u8; 1024 * 1024];
    let mut rest = bytes;
    while rest > 0 {
        let part = usize::try_from(rest).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(&zeros[..part])?;
        rest -= u64::try_from(part).unwrap_or(rest);
    }
    File::sync_all(&file)
}
