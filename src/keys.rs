//! The master keys that secrets are sealed under: given by a file, or made beside the store.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pregon_core::model::{Resource, ResourceName};
use pregon_core::seal::{KeyRing, SealError, new_key};
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_store::ConfigStore;

/// What the page tokens' key is derived for.
const PAGES: &str = "pregon page tokens";
/// What the portal tokens' keys are derived for.
const PORTAL: &str = "pregon portal tokens";

/// The key file that standalone makes in its directory.
const FILE: &str = "master.key";

/// Documents in a page while the store's secrets are looked through.
const PAGE: usize = 500;

/// The keys of the given file, else of the directory's, else, in memory, new ones. `configured`: the
/// store has configuration already, so its key exists somewhere and a new one would be wrong.
pub fn load(
    file: Option<&Path>,
    directory: Option<&Path>,
    configured: bool,
) -> anyhow::Result<KeyRing> {
    if let Some(path) = file {
        return given(path);
    }
    let Some(directory) = directory else {
        let key = new_key(&mut |bytes| crate::random::fill(bytes));
        return Ok(KeyRing::parse(&key)?);
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
    read(&path).with_context(|| format!("cannot read the master key {}", path.display()))
}

/// Whether the keys are those of the store: every secret is sealed under one of them.
///
/// # Errors
///
/// The first secret that is not, with the id of the key it needs; or the store does not answer.
pub async fn fit(keys: &KeyRing, store: &dyn ConfigStore) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let page = store.documents(&after, PAGE).await.context("cannot read the store")?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.name);
        for document in &page {
            let Some(name) = ResourceName::parse(&document.name) else { continue };
            // What cannot be read at all is for whoever serves it to say.
            let Ok(Resource::Secret(secret)) = Resource::decode(&name, &document.bytes) else {
                continue;
            };
            let Ok(sealed) = BASE64.decode(&secret.sealed) else { continue };
            if let Err(error @ SealError::UnknownKey(_)) = keys.has_key_of(&sealed) {
                bail!("{}: {error}: add that key behind the others", document.name);
            }
        }
    }
}

/// The key of page and resume tokens, which outlive the process as the master keys do: control planes
/// continue each other's lists, and a watch goes on where one before it was cut.
pub fn page_key(keys: &KeyRing) -> PageKey {
    PageKey::derive(&*keys.derive(PAGES))
}

/// The keys of portal tokens, which every control plane with the same master keys lets in.
pub fn portal_keys(keys: &KeyRing) -> PortalKeys {
    PortalKeys::new(keys.derive_each(PORTAL))
}

/// The keys of the file that the setting names.
pub fn given(path: &Path) -> anyhow::Result<KeyRing> {
    read(path).with_context(|| format!("--master-key-file {}", path.display()))
}

/// The keys of a file.
pub fn read(path: &Path) -> anyhow::Result<KeyRing> {
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
