//! The keys of a file, opened: at the start and whenever the file changes.
//!
//! A process that cannot open its keys at the start does not begin: it would have to seal, or sign,
//! without them. It waits, says why to whoever asks whether it is ready, and asks the KMS again. One that
//! runs goes on with the keys that it has, however long the KMS is away: a file that cannot be opened is
//! said as an error, and tried again until it can or is another. What was opened before is not asked for
//! again, so that a file may be put in another order without the KMS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::error::Wrong;
use pregon_core::seal::{GivenKey, GivenKeys, KeyRing, WrappedKey};
use pregon_core::secret::SecretBytes;
use pregon_rpc::files::{BadFile, Followed};
use tokio::sync::watch;
use tokio::time::sleep;

use super::file::KeyFile;
use super::kms::{Kms, KmsFault};

/// How soon a KMS that failed is asked again first.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon at most: one that was mended is used within this.
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// Why the keys of a file are not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The file itself.
    #[error("{0}")]
    File(#[from] BadFile),
    /// One of them cannot be opened.
    #[error("key {place} of {}: {fault}", file.display())]
    Kms {
        /// The file.
        file: PathBuf,
        /// Which key, from 1.
        place: usize,
        /// Why.
        fault: KmsFault,
    },
    /// One of them is not what it should be.
    #[error("{}: {}", file.display(), wrong.description)]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        wrong: Wrong,
    },
}

impl Closed {
    /// Whether it may pass without anybody touching this process.
    pub fn may_pass(&self) -> bool {
        match self {
            Closed::Kms { fault: KmsFault::At { .. }, .. } => true,
            Closed::Kms { fault: KmsFault::Unnamed, .. } => false,
            Closed::File(_) | Closed::Key { .. } => false,
        }
    }
}

/// Opens the keys of one file.
pub struct Opener {
    file: PathBuf,
    kms: Arc<dyn Kms>,
    /// What was opened of the keys in use.
    known: Vec<(WrappedKey, SecretBytes)>,
}

impl Opener {
    /// Of this file, by this KMS; nothing is asked yet.
    pub fn new(file: PathBuf, kms: Arc<dyn Kms>) -> Self {
        Self { file, kms, known: Vec::new() }
    }

    /// Opens keys of the file, in its order.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened, or what they are not.
    pub async fn open(&mut self, given: &GivenKeys) -> Result<KeyRing, Closed> {
        let mut known = Vec::new();
        for (place, wrapped) in given.wrapped() {
            let before = self.known.iter().find(|(it, _)| it == wrapped);
            let key = match before {
                Some((_, key)) => key.clone(),
                None => self.kms.open(wrapped).await.map_err(|fault| {
                    let file = self.file.clone();
                    Closed::Kms { file, place, fault }
                })?,
            };
            known.push((wrapped.clone(), key));
        }
        let opened: Vec<_> = known.iter().map(|(_, key)| key.clone()).collect();
        let ring = given.ring(&opened).map_err(|wrong| {
            let file = self.file.clone();
            Closed::Key { file, wrong }
        })?;
        self.known = known;
        Ok(ring)
    }
}

/// Waits between two tries: 1 s, 2 s, 4 s and so on.
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(AGAIN)
    }
}

impl Pause {
    /// How long this time.
    pub fn next(&mut self) -> Duration {
        let longer = (self.0 * 2).min(AGAIN_MOST);
        std::mem::replace(&mut self.0, longer)
    }
}

/// A key file in use, and what opens its keys.
pub struct OpenFile {
    followed: Followed<KeyFile>,
    opener: Opener,
    ring: watch::Sender<Arc<KeyRing>>,
}

impl OpenFile {
    /// Reads the file and opens its keys, once.
    ///
    /// # Errors
    ///
    /// It cannot be read, or opened now.
    pub async fn open(file: PathBuf, kms: Arc<dyn Kms>) -> Result<Self, Closed> {
        let followed = Followed::load(KeyFile(file.clone())).await?;
        let given = Arc::clone(&followed.current().borrow());
        let mut opener = Opener::new(file, kms);
        let ring = opener.open(&given).await?;
        Ok(Self { followed, opener, ring: watch::Sender::new(Arc::new(ring)) })
    }

    /// The keys that were opened last.
    pub fn current(&self) -> watch::Receiver<Arc<KeyRing>> {
        self.ring.subscribe()
    }

    /// Follows the file, without end.
    pub async fn follow(self) {
        let Self { followed, mut opener, ring } = self;
        let given = followed.current();
        tokio::join!(followed.follow(), take(&mut opener, given, &ring));
    }
}

/// Opens what the file has become, whenever it does.
async fn take(
    opener: &mut Opener,
    mut given: watch::Receiver<Arc<GivenKeys>>,
    ring: &watch::Sender<Arc<KeyRing>>,
) {
    while given.changed().await.is_ok() {
        let (mut pause, mut said) = (Pause::default(), None);
        loop {
            let now = Arc::clone(&given.borrow_and_update());
            match opener.open(&now).await {
                Ok(opened) => {
                    if said.is_some() {
                        tracing::info!("the master keys of the file are open");
                    }
                    ring.send_replace(Arc::new(opened));
                    break;
                }
                Err(closed) if said.as_ref() != Some(&closed) => {
                    tracing::error!(
                        error = %closed,
                        "the file's master keys cannot be opened; those that were open stay in use"
                    );
                    said = Some(closed);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(pause.next()) => {}
                changed = given.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Whether some key of a file has to be opened, and which first.
pub fn first_wrapped(given: &GivenKeys) -> Option<usize> {
    given.keys().iter().position(|key| matches!(key, GivenKey::Wrapped(_))).map(|at| at + 1)
}

#[cfg(test)]
mod tests;
