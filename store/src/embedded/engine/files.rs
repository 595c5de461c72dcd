//! The files of an embedded store: its directory, the lock in it, and whom they belong to.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::embedded::OpenError;

/// Makes the directory for its owner alone, and takes the lock in it.
pub(in crate::embedded) fn lock(path: &Path) -> std::result::Result<File, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::File { path, source }
    };
    make_directory(path).map_err(failed(path))?;
    let name = path.join("lock");
    let file = private_file(&name).map_err(failed(&name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(OpenError::File { path: name, source }),
    }
}

#[cfg(unix)]
fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Opens a file for its owner alone, made if it is missing. SQLite gives its own files beside the
/// database the database's mode.
pub(in crate::embedded) fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
