//! The file of the master keys: what is read of it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use pregon_core::seal::GivenKeys;
use pregon_rpc::files::{BadFile, Contents, Source};
use zeroize::Zeroizing;

/// A key file above so many bytes is refused unread: 16 wrapped keys at their longest.
pub const FILE_LEN: u64 = 16 * 1024 + 1024;

/// A key file, as something that is read again when it changes.
pub struct KeyFile(pub PathBuf);

impl Source for KeyFile {
    type Made = GivenKeys;
    const WHAT: &'static str = "master keys";
    const LEN: u64 = FILE_LEN;

    fn files(&self) -> Vec<&Path> {
        vec![&self.0]
    }

    fn make(&self, contents: &Contents) -> Result<GivenKeys, BadFile> {
        let bytes = contents.first().map_or(&[][..], |bytes| bytes.as_slice());
        let text = std::str::from_utf8(bytes).map_err(|_| BadFile::new(&self.0, "is not text"))?;
        GivenKeys::parse(text).map_err(|wrong| BadFile::new(&self.0, wrong))
    }
}

/// The keys of a file, as they stand in it.
///
/// # Errors
///
/// It cannot be read, or holds something else.
pub fn read(path: &Path) -> anyhow::Result<GivenKeys> {
    if std::fs::metadata(path)?.len() > FILE_LEN {
        bail!("must have {FILE_LEN} bytes at most");
    }
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(GivenKeys::parse(&text)?)
}
