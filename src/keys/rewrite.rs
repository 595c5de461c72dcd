//! A key file written anew: its keys wrapped by a KMS, or wrapped under the newest version of the KMS's
//! key.
//!
//! A file is replaced as a whole, by another of the same owner and mode, so that a crash leaves the old or
//! the new one and processes never read half of one. It is replaced only once every key that was wrapped
//! here was opened again and is the one that it was: with a key that no KMS opens the secrets would be
//! lost.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, ensure};
use pregon_core::seal::{GivenKey, GivenKeys, WrappedKey};
use pregon_core::secret::SecretBytes;

use super::file;
use super::kms::{Kms as _, Transit};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Keys that are wrapped anew.
    pub changed: usize,
    /// All keys of the file.
    pub keys: usize,
}

/// Wraps a key, and sees to it that the KMS opens it again.
///
/// # Errors
///
/// The KMS does not, or opens it to something else.
pub async fn wrap_key(kms: &Transit, key: &SecretBytes) -> anyhow::Result<WrappedKey> {
    let wrapped = kms.wrap(key).await?;
    let opened = kms.open(&wrapped).await.context("the wrapped key is not opened again")?;
    ensure!(opened == *key, "the KMS opens the wrapped key to something else: it is not used");
    Ok(wrapped)
}

/// Wraps those keys of a file that stand in it in clear.
///
/// # Errors
///
/// Then the file is as it was.
pub async fn wrap(path: &Path, kms: &Transit) -> anyhow::Result<Rewritten> {
    let given = read(path)?;
    let mut keys = Vec::with_capacity(given.keys().len());
    let mut changed = 0;
    for key in given.keys() {
        keys.push(match key {
            GivenKey::Wrapped(wrapped) => wrapped.clone(),
            GivenKey::Clear(key) => {
                changed += 1;
                wrap_key(kms, key).await?
            }
        });
    }
    if changed > 0 {
        let lines: Vec<_> = keys.iter().map(WrappedKey::as_str).collect();
        replace(path, &given, &lines)?;
    }
    Ok(Rewritten { changed, keys: keys.len() })
}

/// Wraps the wrapped keys of a file under the newest version of the KMS's key. Nobody sees them.
///
/// # Errors
///
/// Then the file is as it was. One with keys in clear is left alone: they would be written once more.
pub async fn rewrap(path: &Path, kms: &Transit) -> anyhow::Result<Rewritten> {
    let given = read(path)?;
    let clear = given.keys().len() - given.wrapped().count();
    ensure!(clear == 0, "{clear} keys of {} are not wrapped: pregon keys wrap", path.display());
    let (mut keys, mut changed) = (Vec::with_capacity(given.keys().len()), 0);
    for (_, wrapped) in given.wrapped() {
        let anew = kms.rewrap(wrapped).await?;
        ensure!(
            anew.version() >= wrapped.version(),
            "the KMS wraps under version {} what is under version {} already",
            anew.version(),
            wrapped.version()
        );
        // Each call makes another text: what is under the newest version stays as it is.
        let newer = anew.version() > wrapped.version();
        changed += usize::from(newer);
        keys.push(if newer { anew } else { wrapped.clone() });
    }
    if changed > 0 {
        let lines: Vec<_> = keys.iter().map(WrappedKey::as_str).collect();
        replace(path, &given, &lines)?;
    }
    Ok(Rewritten { changed, keys: keys.len() })
}

fn read(path: &Path) -> anyhow::Result<GivenKeys> {
    file::read(path).with_context(|| path.display().to_string())
}

/// Puts another file in the place of one that holds what was given. Where it is reached by links, they
/// stay.
fn replace(path: &Path, given: &GivenKeys, lines: &[&str]) -> anyhow::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let before = std::fs::metadata(&path)?;
    let directory = path.parent().context("it lies in no directory")?;
    // Behind the whole name: `master.new` may be a key file, this one too.
    let mut name = path.file_name().context("it has no name")?.to_owned();
    name.push(".pregon-new");
    let new = path.with_file_name(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| new.display().to_string());
        }
        _ => {}
    }
    let written = || -> anyhow::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(before.mode() & 0o777).open(&new)?;
        chown(&new, Some(before.uid()), Some(before.gid()))?;
        for line in lines {
            writeln!(file, "{line}")?;
        }
        // The umask has cut the mode, and another owner its special bits.
        file.set_permissions(before.permissions())?;
        file.sync_all()?;
        ensure!(read(&path)? == *given, "it was changed meanwhile: run the command again");
        std::fs::rename(&new, &path)?;
        std::fs::File::open(directory)?.sync_all()?;
        Ok(())
    };
    written()
        .with_context(|| format!("cannot put {} in the place of {}", new.display(), path.display()))
}

#[cfg(test)]
mod tests;
