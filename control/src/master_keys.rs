//! MasterKeyService: which master keys there are and who has them, and sealing anew what lies under
//! others than the first.
//!
//! Sealing anew is a walk over all documents, a page a call, which the caller repeats. It keeps nothing
//! of its own: what is under the first key already is passed over, so a walk that was cut off is begun
//! again. A document is written only if it is as it was read, and in it only the sealed texts are
//! replaced, so that nothing of another release's is lost; each group of them is one commit, with its
//! entry in the audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::model::{Resource, ResourceName};
use pregon_core::seal::{Held, KeyId, KeyRing, SealError, key_of};
use pregon_proto::v1;
use pregon_proto::v1::master_key_service_server::MasterKeyService;
use pregon_store::config::Document;
use pregon_store::node::NodeStatus;

use crate::commit::{How, Plan, until_settled};
use crate::service::service;
use crate::{Control, map};

service! {
    /// The service of master keys.
    MasterKeys: MasterKeyService {
        list_master_keys(ListMasterKeysRequest) -> ListMasterKeysResponse;
        reseal_documents(ResealDocumentsRequest) -> ResealDocumentsResponse;
    }
}

/// Keys, and processes that lack one, that are shown at most.
const SHOWN: usize = 100;
/// Documents that one call looks at, at most: the largest are contracts, of some 100 KiB.
const EXAMINED: usize = 200;
/// Documents of one commit: as many as its entry in the audit log shows.
const TOGETHER: usize = 16;

/// A document that is to be written with other sealed texts in it.
enum Resealed {
    /// Everything in it is under the key that seals.
    Current,
    /// The same with other sealed texts.
    Anew(String),
    /// It cannot be read, or does not open.
    Failed,
}

impl Control {
    pub(crate) async fn list_master_keys(
        &self,
        _: v1::ListMasterKeysRequest,
    ) -> Result<v1::ListMasterKeysResponse, Refusal> {
        let held = Arc::clone(&self.keys.borrow());
        let processes = self.processes().await?;
        let mut ids = held.given.clone();
        let others = held.documents.keys().copied().chain(held.ring.ids());
        ids.extend(others.filter(|id| !held.given.contains(id)).collect::<BTreeSet<_>>());
        let shown = |id: KeyId| v1::MasterKey {
            id: id.to_string(),
            given: held.given.contains(&id),
            seals: held.ring.current() == id,
            wrapped: held.ring.wrapped().any(|it| it == id),
            documents: map::count(held.documents.get(&id).copied().unwrap_or(0)),
            lacking: lacking(&processes, id, &held).take(SHOWN).collect(),
            sealing: sealing(&processes, |it| it == id).take(SHOWN).map(|(who, _)| who).collect(),
        };
        let master_keys = ids.into_iter().take(SHOWN).map(shown).collect();
        let unreadable_documents = map::count(held.unreadable);
        Ok(v1::ListMasterKeysResponse { master_keys, unreadable_documents })
    }

    pub(crate) async fn reseal_documents(
        &self,
        mut request: v1::ResealDocumentsRequest,
    ) -> Result<v1::ResealDocumentsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        let held = Arc::clone(&self.keys.borrow());
        self.first_seals(&held).await?;
        let after = paging.from.as_deref().unwrap_or("");
        let page = self.store.config.documents(after, paging.size.min(EXAMINED)).await?;
        let stale = page.iter().filter(|it| is_stale(it, held.ring.current()));
        let stale: Vec<_> = stale.map(|it| it.name.clone()).collect();
        let mut answer = v1::ResealDocumentsResponse {
            examined: map::small(page.len()),
            master_key_id: held.ring.current().to_string(),
            next_page_token: self.next_page(&paging, page.last().map(|it| it.name.as_str())),
            ..Default::default()
        };
        for names in stale.chunks(TOGETHER) {
            let done = until_settled(|| self.reseal(&held.ring, names)).await?;
            answer.resealed += done.resealed;
            answer.failed.extend(done.failed);
            answer.revision = answer.revision.max(done.revision);
        }
        Ok(answer)
    }

    /// Seals documents anew, in one commit; none where one of them was written meanwhile.
    async fn reseal(
        &self,
        ring: &KeyRing,
        names: &[String],
    ) -> Result<Option<v1::ResealDocumentsResponse>, Refusal> {
        let mut done = v1::ResealDocumentsResponse::default();
        let mut plan = Plan::new();
        for document in self.store.config.get(names).await?.into_iter().flatten() {
            match self.resealed(ring, &document) {
                Resealed::Current => {}
                Resealed::Failed => done.failed.push(document.name),
                Resealed::Anew(text) => {
                    let (name, revision) = (document.name, document.revision);
                    plan = plan.relies_on(name.clone(), Some(revision)).write(name, text);
                    done.resealed += 1;
                }
            }
        }
        if done.resealed == 0 {
            return Ok(Some(done));
        }
        self.commit(plan, done, &How::plain(false)).await
    }

    fn resealed(&self, ring: &KeyRing, document: &Document) -> Resealed {
        let failed = |why: &dyn std::fmt::Display| {
            tracing::error!(document = document.name, %why, "a document is not sealed anew");
            Resealed::Failed
        };
        let read = ResourceName::parse(&document.name)
            .and_then(|name| Resource::decode(&name, &document.bytes).ok())
            .zip(std::str::from_utf8(&document.bytes).ok());
        let Some((mut resource, text)) = read else { return failed(&"it cannot be read") };
        let mut text = text.to_owned();
        let mut anew = false;
        let mut change = |sealed: &mut String, binding: &str| -> Result<(), SealError> {
            if key_of(sealed)? == ring.current() {
                return Ok(());
            }
            let secret = ring.open_text(sealed, binding)?;
            let other = self.seal_under(ring, &secret, binding);
            text = text.replace(&format!("\"{sealed}\""), &format!("\"{other}\""));
            *sealed = other;
            anew = true;
            Ok(())
        };
        if let Err(why) = resource.each_sealed(&mut change) {
            return failed(&why);
        }
        // Base64 needs no escapes in JSON, but another writer may have made some.
        match Resource::decode(&resource.name(), text.as_bytes()) {
            Ok(written) if written == resource && anew => Resealed::Anew(text),
            Ok(written) if written == resource => Resealed::Current,
            Ok(_) | Err(_) => failed(&"its sealed text was not found in it"),
        }
    }

    /// Refuses while the first key of the file does not seal everywhere, with who lacks it or seals
    /// under another.
    async fn first_seals(&self, held: &Held) -> Result<(), Refusal> {
        let Some(first) = held.given.first().copied() else { return Ok(()) };
        let processes = self.processes().await?;
        let lack: Vec<_> = lacking(&processes, first, held).take(SHOWN).collect();
        let others = sealing(&processes, |it| it != first).take(SHOWN);
        let others: Vec<_> = others.map(|(who, id)| format!("{who} seals under {id}")).collect();
        let text = if !lack.is_empty() {
            format!("master key {first} does not seal everywhere: {} lack it", lack.join(", "))
        } else if held.ring.current() != first || !held.settled {
            format!("master key {first} is about to seal; call again")
        } else if !others.is_empty() {
            format!("master key {first} does not seal everywhere: {}", others.join(", "))
        } else {
            return Ok(());
        };
        Err(Refusal::new(Reason::StateConflict, text))
    }

    /// The processes that are there.
    async fn processes(&self) -> Result<Vec<NodeStatus>, Refusal> {
        let (mut processes, now) = self.store.nodes.nodes().await?;
        processes.retain(|it| it.is_alive(now));
        Ok(processes)
    }
}

/// Whether something in a document is sealed under another key; or a kind of document that may have
/// something sealed cannot be read.
fn is_stale(document: &Document, current: KeyId) -> bool {
    let Some(name) = ResourceName::parse(&document.name) else { return false };
    match Resource::decode(&name, &document.bytes) {
        Ok(resource) => resource.master_keys().iter().any(|id| *id != current),
        Err(_) => name.may_be_sealed(),
    }
}

/// The processes that lack a key. One that does not say which it has works, so it has what the store
/// needs; of others it is not known.
fn lacking(processes: &[NodeStatus], id: KeyId, held: &Held) -> impl Iterator<Item = String> {
    let needed = held.documents.get(&id).is_some_and(|count| *count > 0);
    let lack = move |it: &&NodeStatus| match it.master_keys.is_empty() {
        true => !needed,
        false => !it.master_keys.contains(&id),
    };
    processes.iter().filter(lack).map(NodeStatus::name)
}

/// The processes that seal under such a key, and under which.
fn sealing(
    processes: &[NodeStatus],
    such: impl Fn(KeyId) -> bool,
) -> impl Iterator<Item = (String, KeyId)> {
    let seals = processes.iter().filter_map(|it| it.sealing.map(|id| (it, id)));
    seals.filter(move |(_, id)| such(*id)).map(|(it, id)| (it.name(), id))
}
