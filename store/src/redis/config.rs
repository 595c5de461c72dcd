//! Configuration: documents, their change log, remembered requests.
//!
//! A commit is one script. It carries a random id of its own, so that a copy sent again after a
//! lost reply is answered as the first one was, instead of conflicting with itself. Every answer
//! is preceded by a look at `{pgc}:meta`, which only setting up writes: where it is missing Redis
//! was emptied, and no call takes that for a configuration with nothing in it.
//!
//! The change log is a stream with ids `<revision>-<nonce>`, read from the revision that the
//! follower knows, so that one answer shows whether both speak of the same history. Documents and
//! log are read by two commands that are sent together; what the log does not show yet comes with
//! the next look.

pub(super) mod audit;
pub(super) mod log_entry;
pub(super) mod nodes;
pub(super) mod watcher;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::id::LaneNo;
use pregon_core::limits;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use crate::StoreError;
use crate::config::{
    CHANGES_KEPT, Change, Changes, Commit, Committed, ConfigStore, Document, Expect, Head,
    ListRange, RequestKey, collections_of,
};
use crate::redis::Ahead;
use crate::redis::config::watcher::Watcher;
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::scripts::Scripts;
use crate::redis::engine::sure::{Confirmer, Proof};
use crate::redis::engine::value::{self, Blob};
use crate::redis::layout;
use crate::redis::layout::config::{Remembered, Stamped, member};
use crate::redis::layout::keys::ConfigKey;

/// Commits in one answer at most: of [`log_entry::ENTRY_MAX`] each they make 8 MiB.
const CHANGES_AT_ONCE: usize = 128;
/// Documents got by one command: a few hundred KiB, so that others' commands do not wait.
const DOCUMENTS_AT_ONCE: usize = 100;

/// The configuration of one Redis.
pub(super) struct Config {
    link: Link,
    /// Where commits go, which are large.
    publish: Link,
    confirmer: Confirmer,
    watcher: Watcher,
    scripts: Scripts,
    ahead: Ahead,
}

/// `{pgc}:meta` as far as it is read: `base` is the revision before the first.
struct Meta {
    head: Head,
    base: i64,
}

impl Config {
    /// Calls over `link`, commits over `publish`, and follows over `follow`, which nobody else has.
    pub fn new(
        link: Link,
        publish: Link,
        follow: Link,
        confirmer: Confirmer,
        ahead: Ahead,
    ) -> Self {
        let (watcher, scripts) = (Watcher::new(follow), Scripts::new());
        Self { link, publish, confirmer, watcher, scripts, ahead }
    }

    async fn try_commit(&self, commit: Commit) -> Result<Committed> {
        let id: [u8; 16] = random()?;
        let args = self.commit_args(id, &commit)?;
        let meta = ConfigKey::Meta.to_string();
        let (code, revision, text): (u8, i64, Blob) =
            self.publish.run(&self.scripts.commit, &meta, &args).await?;
        let text = Bytes::from(text.0);
        let wrote = match (code, &commit.request) {
            (0, _) => Some(ConfigKey::Commit(id)),
            // What was asked for first may not be at its level yet.
            (2, Some(request)) => Some(ConfigKey::Request(request.id)),
            _ => None,
        };
        if let Some(key) = wrote {
            self.confirmer.confirm(Proof::Key(key.to_string())).await?;
        }
        match code {
            0 => Ok(Committed::Done { revision }),
            1 => Ok(Committed::Conflict {
                name: String::from_utf8(text.into()).map_err(|error| bad("a name", error))?,
                found: (revision > 0).then_some(revision),
            }),
            2 => Ok(Committed::Repeated { revision, reply: text }),
            3 => Ok(Committed::RequestReused),
            other => Err(bad("what became of a commit:", other)),
        }
    }

    /// As `commit.lua` reads them.
    fn commit_args(&self, id: [u8; 16], commit: &Commit) -> Result<Vec<Vec<u8>>> {
        let nonce = u32::from_le_bytes(random()?);
        let (kind, entry) = log_entry::write(&commit.write)?;
        let (request, digest, reply) = match &commit.request {
            Some(RequestKey { id, digest, reply }) => {
                (ConfigKey::Request(*id).to_string(), &digest[..], &reply[..])
            }
            None => (String::new(), &[][..], &[][..]),
        };
        let mut args: Vec<Vec<u8>> = vec![
            print(self.ahead.millis()),
            ConfigKey::Commit(id).to_string().into(),
            print(nonce),
            kind.into(),
            entry,
            request.into(),
            digest.into(),
            reply.into(),
            print(limits::REQUEST_ID_KEPT.as_millis()),
            print(CHANGES_KEPT),
            audit::class(commit.audit.as_ref()),
            commit.audit.as_ref().map_or(Vec::new(), |entry| entry.id.as_str().into()),
            commit.audit.as_ref().map_or(Vec::new(), |entry| entry.bytes.to_vec()),
            print(commit.expect.len()),
        ];
        for (name, expect) in &commit.expect {
            args.push(name.as_bytes().into());
            args.push(match expect {
                Expect::Absent => b"a".to_vec(),
                Expect::Present => b"p".to_vec(),
                Expect::Revision(revision) => print(revision),
            });
        }
        for (name, bytes) in &commit.write {
            args.push(name.as_bytes().into());
            args.push(member(&collections_of(name), name).into());
            args.push(if bytes.is_some() { b"+" } else { b"-" }.to_vec());
            args.push(bytes.as_deref().unwrap_or_default().into());
        }
        Ok(args)
    }

    async fn try_recall(&self, id: [u8; 16], digest: [u8; 16]) -> Result<Option<Committed>> {
        let mut look = Pipeline::with_capacity(3);
        look.cmd("GET").arg(ConfigKey::Request(id).to_string());
        look.cmd("TIME");
        look.add_command(meta_cmd());
        let [stored, time, meta] = value::exactly(self.link.pipeline(&look).await?)?;
        read_meta(meta)?;
        let Some(remembered) = value::stored(stored)? else { return Ok(None) };
        let Remembered { ms, revision, digest: known, reply } = remembered;
        let kept = i64::try_from(limits::REQUEST_ID_KEPT.as_millis()).unwrap_or(i64::MAX);
        if ms <= value::time(time)? + self.ahead.millis() - kept {
            return Ok(None);
        }
        Ok(Some(if known == digest {
            Committed::Repeated { revision, reply: Bytes::from(reply) }
        } else {
            Committed::RequestReused
        }))
    }

    async fn try_get(&self, names: &[String]) -> Result<Vec<Option<Document>>> {
        let mut documents = Vec::with_capacity(names.len());
        for names in names.chunks(DOCUMENTS_AT_ONCE) {
            let mut look = Pipeline::with_capacity(2);
            look.cmd("HMGET").arg(ConfigKey::Doc.to_string()).arg(names);
            // After the documents: had Redis been emptied before they were read, this would tell.
            look.add_command(meta_cmd());
            let [found, meta] = value::exactly(self.link.pipeline(&look).await?)?;
            read_meta(meta)?;
            let found = value::array(found)?;
            if found.len() != names.len() {
                return Err(bad("so many documents:", found.len()));
            }
            for (name, stored) in names.iter().zip(found) {
                documents.push(value::stored(stored)?.map(|stored| document(name, stored)));
            }
        }
        Ok(documents)
    }

    /// Documents from a range of the index; those that went meanwhile make room for the next.
    async fn scan(&self, mut from: String, to: String, limit: usize) -> Result<Vec<Document>> {
        let mut documents = Vec::with_capacity(limit.min(1024));
        while documents.len() < limit {
            let wanted = limit - documents.len();
            let mut look = Pipeline::with_capacity(2);
            look.cmd("ZRANGEBYLEX").arg(ConfigKey::Names.to_string());
            look.arg(&from).arg(&to).arg("LIMIT").arg(0).arg(wanted);
            look.add_command(meta_cmd());
            let [members, meta] = value::exactly(self.link.pipeline(&look).await?)?;
            read_meta(meta)?;
            let members = value::array(members)?.into_iter().map(value::text);
            let members = members.collect::<Result<Vec<_>>>()?;
            let Some(last) = members.last() else { break };
            from = format!("({last}");
            let named = |member: &String| {
                let name = layout::config::parse_member(member);
                name.map(str::to_owned).ok_or_else(|| bad("an entry of the index:", member))
            };
            let names = members.iter().map(named).collect::<Result<Vec<_>>>()?;
            documents.extend(self.try_get(&names).await?.into_iter().flatten());
            if names.len() < wanted {
                break;
            }
        }
        Ok(documents)
    }

    async fn try_head(&self) -> Result<Head> {
        Ok(read_meta(self.link.query(&meta_cmd()).await?)?.head)
    }

    /// A delete of nothing is refused where writes are: on a replica, after a disk's error, or with
    /// too few replicas. It runs where memory is short, and it leaves no trace.
    async fn try_head_if_writable(&self) -> Result<Head> {
        let mut look = Pipeline::with_capacity(2);
        look.cmd("DEL").arg(ConfigKey::None.to_string());
        look.add_command(meta_cmd());
        let [deleted, meta] = value::exactly(self.link.pipeline(&look).await?)?;
        value::count(deleted)?;
        Ok(read_meta(meta)?.head)
    }

    async fn try_head_at(&self, revision: i64) -> Result<Option<Head>> {
        let mut look = Pipeline::with_capacity(2);
        look.add_command(meta_cmd());
        look.cmd("XRANGE").arg(ConfigKey::Changes.to_string());
        look.arg(revision.max(0)).arg(revision.max(0)).arg("COUNT").arg(1);
        let [meta, entries] = value::exactly(self.link.pipeline(&look).await?)?;
        let Meta { head, .. } = read_meta(meta)?;
        let entry = value::array(entries)?.pop().map(log_entry::read).transpose()?;
        Ok(entry.map(|entry| Head { revision: entry.revision, nonce: entry.nonce, ..head }))
    }

    /// What came after `known`, without waiting.
    async fn look(&self, known: Head, limit: usize) -> Result<Changes> {
        let mut look = Pipeline::with_capacity(2);
        look.add_command(meta_cmd());
        let from = known.revision.max(0);
        let count = limit.min(CHANGES_AT_ONCE) + 1;
        look.cmd("XRANGE").arg(ConfigKey::Changes.to_string());
        look.arg(from).arg("+").arg("COUNT").arg(count);
        let [meta, entries] = value::exactly(self.link.pipeline(&look).await?)?;
        let Meta { head, base } = read_meta(meta)?;
        let same = known.revision != head.revision || known.nonce == head.nonce;
        if known.epoch != head.epoch || known.revision > head.revision || !same {
            return Ok(Changes::Gap);
        }
        let mut after = if known.revision == 0 { base } else { known.revision };
        let mut next = Vec::new();
        for entry in value::array(entries)? {
            let entry = log_entry::read(entry)?;
            if entry.revision == known.revision {
                if entry.nonce != known.nonce {
                    return Ok(Changes::Gap);
                }
                continue;
            }
            if entry.revision != after + 1 {
                return Ok(Changes::Gap);
            }
            after = entry.revision;
            if next.len() < limit {
                next.push(self.whole(entry).await?);
            }
        }
        Ok(Changes::Next(next))
    }

    /// A change with its documents. Those that were too large for the log are as they are now:
    /// what is newer than the revision comes again with a later change.
    async fn whole(&self, entry: log_entry::Entry) -> Result<Change> {
        let documents = match entry.documents {
            log_entry::Documents::Whole(documents) => documents,
            log_entry::Documents::Names(names) => {
                let found = self.try_get(&names).await?;
                names.into_iter().zip(found.into_iter().map(|d| d.map(|d| d.bytes))).collect()
            }
        };
        Ok(Change { revision: entry.revision, nonce: entry.nonce, documents })
    }

    async fn try_next_lane(&self) -> Result<LaneNo> {
        let args = [print(self.ahead.millis())];
        let meta = ConfigKey::Meta.to_string();
        Ok(LaneNo(self.link.run(&self.scripts.lane, &meta, &args).await?))
    }
}

fn print<T: ToString + Copy>(number: T) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Fault::Busy(format!("no randomness: {error}")))?;
    Ok(bytes)
}

fn meta_cmd() -> Cmd {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(ConfigKey::Meta.to_string()).arg(&["epoch", "base", "revision", "nonce"]);
    cmd
}

fn read_meta(value: Value) -> Result<Meta> {
    let [epoch, base, revision, nonce] = value::exactly(value::array(value)?)?;
    let Some(epoch) = value::number(epoch)? else {
        return Err(Fault::Emptied("there is no configuration here any more".to_owned()));
    };
    let base = value::number(base)?.ok_or_else(|| bad("the setup has", "no first revision"))?;
    let revision = value::number(revision)?.unwrap_or(0);
    let nonce = value::number(nonce)?.unwrap_or(0);
    Ok(Meta { head: Head { epoch, revision, nonce }, base })
}

fn document(name: &str, Stamped { stamp, bytes }: Stamped) -> Document {
    Document { name: name.to_owned(), revision: stamp, bytes }
}

#[async_trait]
impl ConfigStore for Config {
    async fn commit(&self, commit: Commit) -> std::result::Result<Committed, StoreError> {
        Ok(self.try_commit(commit).await?)
    }

    async fn recall(
        &self,
        id: [u8; 16],
        digest: [u8; 16],
    ) -> std::result::Result<Option<Committed>, StoreError> {
        Ok(self.try_recall(id, digest).await?)
    }

    async fn get(
        &self,
        names: &[String],
    ) -> std::result::Result<Vec<Option<Document>>, StoreError> {
        Ok(self.try_get(names).await?)
    }

    async fn list(&self, range: ListRange) -> std::result::Result<Vec<Document>, StoreError> {
        let ListRange { collections, prefix, after, limit } = range;
        let from = if after >= prefix {
            format!("({}", member(collections, &after))
        } else {
            format!("[{}", member(collections, &prefix))
        };
        // Above every name with the prefix: no name has the highest character.
        let to = format!("({}\u{10ffff}", member(collections, &prefix));
        Ok(self.scan(from, to, limit).await?)
    }

    async fn head(&self) -> std::result::Result<Head, StoreError> {
        Ok(self.try_head().await?)
    }

    async fn head_if_writable(&self) -> std::result::Result<Head, StoreError> {
        Ok(self.try_head_if_writable().await?)
    }

    async fn head_at(&self, revision: i64) -> std::result::Result<Option<Head>, StoreError> {
        Ok(self.try_head_at(revision).await?)
    }

    async fn documents(
        &self,
        after: &str,
        limit: usize,
    ) -> std::result::Result<Vec<Document>, StoreError> {
        let from = match after {
            "" => "-".to_owned(),
            after => format!("({}", member(&collections_of(after), after)),
        };
        Ok(self.scan(from, "+".to_owned(), limit).await?)
    }

    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> std::result::Result<Changes, StoreError> {
        if wait.is_zero() {
            return Ok(self.look(known, limit).await?);
        }
        let mut bell = self.watcher.listen();
        let end = Instant::now() + wait;
        loop {
            // Marked as heard before the look: a commit meanwhile ends the wait below.
            bell.mark_unchanged();
            let found = self.look(known, limit).await?;
            if found != Changes::Next(Vec::new()) {
                return Ok(found);
            }
            match timeout_at(end, bell.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StoreError::Closed),
                Err(_) => return Ok(found),
            }
        }
    }

    async fn next_lane(&self) -> std::result::Result<LaneNo, StoreError> {
        Ok(self.try_next_lane().await?)
    }
}
