//! Looking resources up in the store, by name and by prefix.

use pregon_core::error::Refusal;
use pregon_store::config::ListRange;

use crate::Control;
use crate::catalog::{Kind, Stored, read};

/// Documents that one call to the store lists at most.
const CHUNK: usize = 1000;

impl Control {
    /// A resource, if it exists.
    pub(crate) async fn find<T: Kind>(&self, name: &str) -> Result<Option<Stored<T>>, Refusal> {
        let mut found = self.store.config.get(&[name.to_owned()]).await?;
        found.pop().flatten().map(|document| read(&document)).transpose()
    }

    /// A resource, or the refusal that says it does not exist.
    pub(crate) async fn fetch<T: Kind>(&self, name: &str) -> Result<Stored<T>, Refusal> {
        self.find(name).await?.ok_or_else(|| Refusal::not_found(T::WORD, name))
    }

    /// Resources whose names begin with `prefix` and come after `after`, by name.
    pub(crate) async fn list<T: Kind>(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, Refusal> {
        self.list_in(T::collections(prefix), prefix, after, limit).await
    }

    /// The same, of the names that run through these collections.
    pub(crate) async fn list_in<T: Kind>(
        &self,
        collections: &'static str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, Refusal> {
        let range =
            ListRange { collections, prefix: prefix.to_owned(), after: after.to_owned(), limit };
        self.store.config.list(range).await?.iter().map(read).collect()
    }

    /// All resources whose names begin with `prefix`, by name.
    pub(crate) async fn all_below<T: Kind>(
        &self,
        prefix: &str,
        name: impl Fn(&T) -> String + Send,
    ) -> Result<Vec<Stored<T>>, Refusal> {
        let mut all: Vec<Stored<T>> = Vec::new();
        loop {
            let after = all.last().map(|last| name(&last.value)).unwrap_or_default();
            let page = self.list::<T>(prefix, &after, CHUNK).await?;
            let last = page.len() < CHUNK;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// The names of all documents of a kind whose names begin with `prefix`.
    pub(crate) async fn names_below(
        &self,
        collections: &'static str,
        prefix: &str,
    ) -> Result<Vec<String>, Refusal> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let after = names.last().cloned().unwrap_or_default();
            let range = ListRange { collections, prefix: prefix.to_owned(), after, limit: CHUNK };
            let page = self.store.config.list(range).await?;
            let last = page.len() < CHUNK;
            names.extend(page.into_iter().map(|document| document.name));
            if last {
                return Ok(names);
            }
        }
    }
}
