//! Files that are read again when they change, while the server runs.
//!
//! Every second all files of a source are read and compared with what was read last: contents
//! decide, not times or events, so it does not matter whether a file was written in place, renamed
//! over, or is reached through links that were swapped, as Kubernetes does. A change is taken when
//! two looks have seen the same, for files that belong together are not written at one moment.
//! What cannot be used is refused loudly, once, and the last good one stays.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

/// How often files are looked at: reading some kilobytes a second costs nothing, and a change is
/// served within about two seconds.
const LOOK: Duration = Duration::from_secs(1);

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {rule}", file.display())]
pub struct BadFile {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it; never its contents.
    pub rule: String,
}

impl BadFile {
    /// A file, and what is wrong with it.
    pub fn new(file: &Path, rule: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), rule: rule.to_string() }
    }
}

/// What the files of a source held. They may hold keys.
pub type Contents = Vec<Zeroizing<Vec<u8>>>;

/// Something that is made of files.
pub trait Source: Send + Sync + 'static {
    /// What is made of them.
    type Made: Send + Sync + 'static;

    /// What it is called in the log.
    const WHAT: &'static str;
    /// A file above so many bytes is refused unread.
    const LEN: u64;

    /// The files, in the order in which [`Self::make`] wants their contents.
    fn files(&self) -> Vec<&Path>;

    /// Makes it of the files' contents.
    fn make(&self, contents: &Contents) -> Result<Self::Made, BadFile>;
}

/// What is made of files at present, and what keeps it so.
pub struct Followed<S: Source> {
    source: Arc<S>,
    taken: [u8; 32],
    current: watch::Sender<Arc<S::Made>>,
}

impl<S: Source> fmt::Debug for Followed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("files", &self.source.files()).finish_non_exhaustive()
    }
}

impl<S: Source> Followed<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or used.
    pub async fn load(source: S) -> Result<Self, BadFile> {
        let source = Arc::new(source);
        let contents = look(&source).await?;
        let (current, _) = watch::channel(Arc::new(source.make(&contents)?));
        Ok(Self { source, taken: digest(&contents), current })
    }

    /// What was made last.
    pub fn current(&self) -> watch::Receiver<Arc<S::Made>> {
        self.current.subscribe()
    }

    /// Follows the files, without end.
    pub async fn follow(self) {
        let Self { source, taken, current } = self;
        // What was acted on, and what was seen last.
        let (mut taken, mut seen) = (Ok(taken), Ok(taken));
        loop {
            sleep(LOOK).await;
            let looked = look(&source).await;
            let now = looked.as_ref().map(digest).map_err(Clone::clone);
            if now == seen && now != taken {
                taken.clone_from(&now);
                match looked.and_then(|contents| source.make(&contents)) {
                    Ok(made) => {
                        current.send_replace(Arc::new(made));
                        tracing::info!("{} were reloaded", S::WHAT);
                    }
                    Err(error) => complain::<S>(&error),
                }
            }
            seen = now;
        }
    }
}

fn complain<S: Source>(error: &BadFile) {
    tracing::error!(%error, "{} cannot be reloaded; the last good ones stay in use", S::WHAT);
}

/// Reads all files of a source, away from the tasks that must not wait.
async fn look<S: Source>(source: &Arc<S>) -> Result<Contents, BadFile> {
    let source = Arc::clone(source);
    let read = move || {
        let read = |file: &Path| read(file, S::LEN).map_err(|error| BadFile::new(file, error));
        source.files().into_iter().map(read).collect()
    };
    let ended = tokio::task::spawn_blocking(read).await;
    ended.unwrap_or_else(|_| Err(BadFile::new(Path::new("-"), "reading was cut off")))
}

/// Reads a file of at most `len` bytes.
fn read(file: &Path, len: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(Vec::new());
    File::open(file)?.take(len + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > len {
        return Err(io::Error::other(format!("must be {len} bytes at most")));
    }
    Ok(contents)
}

fn digest(contents: &Contents) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in a file.
    struct Number(PathBuf);

    impl Source for Number {
        type Made = u32;
        const WHAT: &'static str = "numbers";
        const LEN: u64 = 8;

        fn files(&self) -> Vec<&Path> {
            vec![&self.0]
        }

        fn make(&self, contents: &Contents) -> Result<u32, BadFile> {
            let text = String::from_utf8_lossy(&contents[0]);
            text.parse().map_err(|error| BadFile::new(&self.0, error))
        }
    }

    /// Waits until the number is this one: paused time runs on while tasks wait for files.
    async fn becomes(current: &mut watch::Receiver<Arc<u32>>, wanted: u32) {
        let changed = current.wait_for(|number| **number == wanted);
        tokio::time::timeout(Duration::from_secs(60), changed).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_one_stays_until_there_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let followed = Followed::load(Number(file.clone())).await.unwrap();
        let mut current = followed.current();
        tokio::spawn(followed.follow());
        for bad in ["one", "123456789"] {
            std::fs::write(&file, bad).unwrap();
            sleep(LOOK * 10).await;
            assert_eq!(**current.borrow(), 1, "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        sleep(LOOK * 10).await;
        assert_eq!(**current.borrow(), 1);
        std::fs::write(&file, "2").unwrap();
        becomes(&mut current, 2).await;
        // Back to what was there before a fault.
        std::fs::write(&file, "").unwrap();
        sleep(LOOK * 10).await;
        std::fs::write(&file, "2").unwrap();
        sleep(LOOK * 10).await;
        assert_eq!(**current.borrow(), 2);
        std::fs::write(&file, "3").unwrap();
        becomes(&mut current, 3).await;
    }

    /// As Kubernetes mounts them: the file is a link through a link to a directory, and that
    /// second link is swapped.
    #[tokio::test(start_paused = true)]
    async fn links_may_be_swapped_above_the_file() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, number) in [("v1", "1"), ("v2", "2")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("number"), number).unwrap();
        }
        symlink("v1", at("data")).unwrap();
        symlink("data/number", at("number")).unwrap();
        let followed = Followed::load(Number(at("number"))).await.unwrap();
        let mut current = followed.current();
        tokio::spawn(followed.follow());
        symlink("v2", at("new")).unwrap();
        std::fs::rename(at("new"), at("data")).unwrap();
        becomes(&mut current, 2).await;
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        let refused = Followed::load(Number(file.clone())).await.unwrap_err();
        assert!(refused.to_string().starts_with(&file.display().to_string()), "{refused}");
        std::fs::write(&file, "123456789").unwrap();
        let refused = Followed::load(Number(file)).await.unwrap_err();
        assert!(refused.rule.contains("8 bytes"), "{refused}");
    }
}
