//! API keys of this process: read from the store's configuration and kept up to date with its
//! changes, whichever plane it is.
//!
//! While the store does not answer, the keys that were read last are good. A document that cannot
//! be read is logged and lets nobody in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pregon_core::clock::Clock;
use pregon_core::id::ApiKeyId;
use pregon_core::model::{ApiKey, ApiKeyLimits, ApiKeySecret, Common, Resource, ResourceName};
use pregon_rpc::caller::Role;
use pregon_rpc::keys::{Book, Keys, new_secret};
use pregon_rpc::server::{Listener, Server};
use pregon_store::config::{Change, Changes, Commit, Committed, Expect, Head, ListRange};
use pregon_store::{ConfigStore, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::audit;

/// Documents that one call to the store lists.
const PAGE: usize = 500;
/// Commits in one answer.
const CHANGES: usize = 500;
/// How long the store may wait for a change before it answers with none.
const POLL: Duration = Duration::from_secs(5);
/// How soon a store that failed is asked again: a revocation holds within a second.
const AGAIN: Duration = Duration::from_millis(250);

/// Who makes the first key.
const ITSELF: &str = "pregon standalone";
/// What the first key is called.
const FIRST: &str = "first admin";

/// The keys, followed by a task of its own until `stop`.
fn follow(store: Arc<dyn ConfigStore>, stop: CancellationToken) -> watch::Receiver<Arc<Keys>> {
    let book = Book::default();
    let keys = book.keys();
    tokio::spawn(async move {
        let following = async {
            let (mut known, mut follows) = (None, true);
            loop {
                match step(&*store, &book, known).await {
                    Ok(next) => {
                        if !std::mem::replace(&mut follows, true) {
                            tracing::info!("API keys are followed again");
                        }
                        known = next;
                    }
                    Err(error) => {
                        if std::mem::take(&mut follows) {
                            tracing::warn!(%error, "API keys are not followed: revocations wait");
                        }
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = following => {}
        }
    });
    keys
}

/// A server that lets API keys in, where its listener asks for credentials.
pub fn guard(
    server: Server,
    listener: &Listener,
    store: &Arc<dyn ConfigStore>,
    stop: &CancellationToken,
) -> Server {
    match listener.is_guarded() {
        true => server.with_keys(follow(Arc::clone(store), stop.clone())),
        false => server,
    }
}

/// Reads all keys, or takes over the next changes; answers with where that leads, none: read all.
async fn step(
    store: &dyn ConfigStore,
    book: &Book,
    known: Option<Head>,
) -> Result<Option<Head>, StoreError> {
    let Some(known) = known else {
        // What changes while they are read comes again as a change.
        let head = store.head().await?;
        book.replace(&all(store).await?);
        return Ok(Some(head));
    };
    match store.changes(known, CHANGES, POLL).await? {
        Changes::Gap => Ok(None),
        Changes::Next(changes) => {
            let last = changes.last().map(|last| (last.revision, last.nonce));
            let of_keys: Vec<_> = changes.iter().flat_map(keys_of).collect();
            if !of_keys.is_empty() {
                book.change(of_keys);
            }
            let (revision, nonce) = last.unwrap_or((known.revision, known.nonce));
            Ok(Some(Head { revision, nonce, ..known }))
        }
    }
}

/// What became of keys in a commit.
fn keys_of(change: &Change) -> impl Iterator<Item = (ApiKeyId, Option<ApiKey>)> {
    change.documents.iter().filter_map(|(name, bytes)| {
        let Some(ResourceName::ApiKey(id)) = ResourceName::parse(name) else { return None };
        let key = bytes.as_deref().and_then(|bytes| read(name, bytes));
        Some((id, key))
    })
}

fn read(name: &str, bytes: &[u8]) -> Option<ApiKey> {
    let parsed = ResourceName::parse(name)?;
    match Resource::decode(&parsed, bytes) {
        Ok(Resource::ApiKey(key)) if key.id.name() == name => Some(key),
        Ok(_) => {
            tracing::error!(name, "an API key belongs to another name");
            None
        }
        Err(error) => {
            tracing::error!(name, %error, "an API key cannot be read");
            None
        }
    }
}

/// Documents of keys behind a name.
fn range(after: String, limit: usize) -> ListRange {
    ListRange { collections: "apiKeys", prefix: "apiKeys/".to_owned(), after, limit }
}

async fn all(store: &dyn ConfigStore) -> Result<Vec<ApiKey>, StoreError> {
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.list(range(after.clone(), PAGE)).await?;
        keys.extend(page.iter().filter_map(|it| read(&it.name, &it.bytes)));
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.name),
            Some(_) | None => return Ok(keys),
        }
    }
}

/// Makes the first key of a store that never had one: an admin's, over all tenants. The key itself
/// is kept nowhere.
pub async fn first(
    store: &dyn ConfigStore,
    clock: &dyn Clock,
) -> anyhow::Result<Option<Zeroizing<String>>> {
    // One that this release cannot read is a key all the same.
    let any = store.list(range(String::new(), 1)).await.context("cannot read the store")?;
    if !any.is_empty() {
        return Ok(None);
    }
    let now = clock.now();
    let mut bytes = [0; 10];
    crate::random::fill(&mut bytes);
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = ApiKeyId::parse(&id)?;
    let made = new_secret(&id, crate::random::fill);
    let common = Common {
        display_name: FIRST.to_owned(),
        create_time: now,
        update_time: now,
        ..Common::default()
    };
    let key = Resource::ApiKey(ApiKey {
        id,
        common,
        role: Role::Admin.word().to_owned(),
        tenants: None,
        event_types: Vec::new(),
        environment: None,
        limits: ApiKeyLimits::default(),
        secrets: vec![ApiKeySecret { sha256: made.sha256, create_time: now, expire_time: None }],
        expire_time: None,
        revoke_time: None,
        revoked: false,
        creator: ITSELF.to_owned(),
        share: String::new(),
    });
    let name = key.name().to_string();
    let commit = Commit {
        expect: vec![(name.clone(), Expect::Absent)],
        write: vec![(name.clone(), Some(key.encode().into()))],
        audit: Some(audit::own(now, ITSELF, &name)),
        ..Commit::default()
    };
    match store.commit(commit).await.context("cannot write the first API key")? {
        Committed::Done { .. } => Ok(Some(made.key)),
        Committed::Conflict { .. } | Committed::Repeated { .. } | Committed::RequestReused => {
            bail!("the first API key could not be made")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pregon_core::clock::SystemClock;
    use pregon_store::embedded::{self, EmbeddedOptions, Location};
    use pregon_store::steady::SteadyClock;

    use super::*;

    #[tokio::test]
    async fn a_key_that_cannot_be_read_is_not_followed_by_a_first_one() {
        let clock = SteadyClock::over(Arc::new(SystemClock));
        let store = embedded::open(EmbeddedOptions::new(Location::Memory, clock)).unwrap();
        let config = store.store().config;
        let name = "apiKeys/later".to_owned();
        let commit = Commit { write: vec![(name, Some("?".into()))], ..Commit::default() };
        config.commit(commit).await.unwrap();
        assert!(all(&*config).await.unwrap().is_empty());
        assert!(first(&*config, &SystemClock).await.unwrap().is_none());

        let clock = SteadyClock::over(Arc::new(SystemClock));
        let empty = embedded::open(EmbeddedOptions::new(Location::Memory, clock)).unwrap();
        let empty = empty.store().config;
        assert!(first(&*empty, &SystemClock).await.unwrap().is_some());
        assert!(first(&*empty, &SystemClock).await.unwrap().is_none());
    }
}
