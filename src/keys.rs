//! The master keys that secrets are sealed under: given by a file, or made beside the store, opened by a
//! KMS where it has wrapped them ([`kms`]), and kept up with while the process runs ([`Keeper`]).

mod announce;
mod choice;
pub mod command;
mod file;
mod keeper;
pub mod kms;
mod opener;
mod rewrite;
mod tally;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use pregon_core::seal::{KeyRing, new_key};
use pregon_rpc::server::Listener;
use tokio::time::sleep;

use crate::serving::KEYS;
use crate::waiting::Waiting;
use kms::{Kms, NoKms, Transit, TransitOptions};
use opener::{OpenFile, Pause};

pub use announce::announce;
pub use file::read;
pub use keeper::{Keeper, KeeperOptions, Seals};
pub use opener::first_wrapped;

/// The key file that standalone makes in its directory.
const FILE: &str = "master.key";

/// The keys at the start.
pub enum Loaded {
    /// Those of a file.
    File(OpenFile),
    /// They are nowhere else.
    Memory(Arc<KeyRing>),
}

/// The keys of the given file, else of the directory's, else, in memory, new ones. `configured`: the
/// store has configuration already, so its key exists somewhere and a new one would be wrong.
///
/// # Errors
///
/// As [`given`]; or a new key would be wrong, or cannot be made.
pub async fn load(
    file: Option<&Path>,
    directory: Option<&Path>,
    configured: bool,
    kms: Option<TransitOptions>,
    listener: &Listener,
) -> anyhow::Result<Loaded> {
    if let Some(path) = file {
        return given(path, kms, listener).await;
    }
    let Some(directory) = directory else {
        let key = new_key(&mut |bytes| crate::random::fill(bytes));
        return Ok(Loaded::Memory(Arc::new(KeyRing::parse(&key)?)));
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
    let opened = open(path, kms, listener).await.context("cannot read the master key")?;
    Ok(Loaded::File(opened))
}

/// The keys of the file that the setting names, opened. While its KMS does not open them, whoever comes to
/// the listener's port is told so, and the KMS is asked again.
///
/// # Errors
///
/// The file cannot be used, or its keys are wrapped and no KMS is named.
pub async fn given(
    path: &Path,
    kms: Option<TransitOptions>,
    listener: &Listener,
) -> anyhow::Result<Loaded> {
    let opened = open(path.to_owned(), kms, listener).await.context("--master-key-file")?;
    Ok(Loaded::File(opened))
}

async fn open(
    path: PathBuf,
    kms: Option<TransitOptions>,
    listener: &Listener,
) -> anyhow::Result<OpenFile> {
    let kms: Arc<dyn Kms> = match kms {
        Some(options) => Arc::new(Transit::new(options).context("--kms-ca-file")?),
        None => Arc::new(NoKms),
    };
    let (mut pause, mut waiting) = (Pause::default(), None::<Waiting>);
    loop {
        let closed = match OpenFile::open(path.clone(), Arc::clone(&kms)).await {
            Ok(opened) => {
                if let Some(waiting) = waiting {
                    waiting.end().await;
                }
                return Ok(opened);
            }
            Err(closed) => closed,
        };
        match &mut waiting {
            Some(waiting) => waiting.say(closed.to_string()).await,
            None if closed.may_pass() => {
                waiting = Some(Waiting::at(listener, KEYS, closed.to_string()).await?);
            }
            None => return Err(closed.into()),
        }
        sleep(pause.next()).await;
    }
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
