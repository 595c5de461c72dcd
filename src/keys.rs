//! The master keys that secrets are sealed under: given by a file, or made beside the store, and kept
//! up with while the process runs ([`Keeper`]).

mod announce;
mod choice;
pub mod command;
mod keeper;
mod tally;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pregon_core::seal::{KeyRing, new_key};
use pregon_rpc::files::{BadFile, Contents, Source};

pub use announce::announce;
pub use keeper::{Keeper, KeeperOptions, Seals};

/// The key file that standalone makes in its directory.
const FILE: &str = "master.key";
/// A key file above so many bytes is refused unread.
const FILE_LEN: u64 = 16 * 1024;

/// Keys, and the file that they came from; none: they are nowhere else.
pub struct Loaded {
    /// The keys.
    pub ring: KeyRing,
    /// Their file.
    pub file: Option<PathBuf>,
}

/// A key file, as something that is read again when it changes.
pub struct KeyFile(pub PathBuf);

impl Source for KeyFile {
    type Made = KeyRing;
    const WHAT: &'static str = "master keys";
    const LEN: u64 = FILE_LEN;

    fn files(&self) -> Vec<&Path> {
        vec![&self.0]
    }

    fn make(&self, contents: &Contents) -> Result<KeyRing, BadFile> {
        let bytes = contents.first().map_or(&[][..], |bytes| bytes.as_slice());
        let text = std::str::from_utf8(bytes).map_err(|_| BadFile::new(&self.0, "is not text"))?;
        KeyRing::parse(text).map_err(|wrong| BadFile::new(&self.0, wrong))
    }
}

/// The keys of the given file, else of the directory's, else, in memory, new ones. `configured`: the
/// store has configuration already, so its key exists somewhere and a new one would be wrong.
pub fn load(
    file: Option<&Path>,
    directory: Option<&Path>,
    configured: bool,
) -> anyhow::Result<Loaded> {
    if let Some(path) = file {
        return given(path);
    }
    let Some(directory) = directory else {
        let key = new_key(&mut |bytes| crate::random::fill(bytes));
        return Ok(Loaded { ring: KeyRing::parse(&key)?, file: None });
    };
    let path = directory.join(FILE);
    if configured && !path.try_exists()? {
        bail!(
            "{} is not there, but the store beside it has configuration, whose secrets are sealed \
             under its key: put the file back, or name the key's file with --master-key-file",
            path.display()
        );
    }
    make(&path).with_context(|| format!("cannot make the master key {}", path.display()))?;
    let ring = read(&path);
    let ring = ring.with_context(|| format!("cannot read the master key {}", path.display()))?;
    Ok(Loaded { ring, file: Some(path) })
}

/// The keys of the file that the setting names.
pub fn given(path: &Path) -> anyhow::Result<Loaded> {
    let ring = read(path).with_context(|| format!("--master-key-file {}", path.display()))?;
    Ok(Loaded { ring, file: Some(path.to_owned()) })
}

/// The keys of a file.
pub fn read(path: &Path) -> anyhow::Result<KeyRing> {
    if std::fs::metadata(path)?.len() > FILE_LEN {
        bail!("must have {FILE_LEN} bytes at most");
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(KeyRing::parse(&text)?)
}

/// Makes a key unless there is one. It is whole and on disk before it has its name, so that a
/// crash leaves a key or none.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(new_key(&mut |bytes| crate::random::fill(bytes)).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(directory) = path.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    tracing::info!(path = %path.display(), "made a master key; back it up together with the store");
    Ok(())
}
