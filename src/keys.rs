//! The master keys that secrets are sealed under: given by a file, or made beside the store.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use pregon_core::seal::{KeyRing, new_key};
use pregon_rpc::page::PageKey;

use crate::settings::Settings;

/// What the page tokens' key is derived for.
const PAGES: &str = "pregon page tokens";

/// The key file that standalone makes in its directory.
const FILE: &str = "master.key";

/// The keys of the given file, else of the directory's, else, in memory, new ones.
pub fn load(settings: &Settings) -> anyhow::Result<KeyRing> {
    if let Some(path) = &settings.master_key_file {
        return given(path);
    }
    let Some(directory) = &settings.data_dir else {
        let key = new_key(&mut |bytes| crate::random::fill(bytes));
        return Ok(KeyRing::parse(&key)?);
    };
    let path = directory.join(FILE);
    make(&path).with_context(|| format!("cannot make the master key {}", path.display()))?;
    read(&path).with_context(|| format!("cannot read the master key {}", path.display()))
}

/// The key of page and resume tokens, which outlive the process as the master keys do: control planes
/// continue each other's lists, and a watch goes on where one before it was cut.
pub fn page_key(keys: &KeyRing) -> PageKey {
    PageKey::derive(&*keys.derive(PAGES))
}

/// The keys of the file that the setting names.
pub fn given(path: &Path) -> anyhow::Result<KeyRing> {
    read(path).with_context(|| format!("--master-key-file {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<KeyRing> {
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path)?);
    if text.len() > 16 * 1024 {
        bail!("is larger than any key file");
    }
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
