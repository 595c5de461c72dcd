//! WatchConfiguration: what commits wrote, as the change log tells it.
//!
//! Resources are shown as their own services show them, so that what is never shown there is not
//! shown here: no secret has its material, and no credential its value. Documents that are no
//! resources (who uses a contract, whose lane is whose) are passed over; one of them says who made
//! the commit.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::model::{Callback, ResourceName, Subscription};
use pregon_proto::v1;
use pregon_proto::v1::watch_configuration_response::Resource as Shown;
use pregon_rpc::caller::Caller;
use pregon_store::author::Author;
use pregon_store::config::{Change, Changes, Document, Head};
use tokio::time::Instant;

use crate::receiver::to_wire;
use crate::watches::{HEARTBEAT, Messages, Watch, Watcher, expired, stream};
use crate::{Control, api_keys, catalog, event_types, map, parse, tenants};

/// Commits that one call to the store reads: of 64 KiB each at most, 4 MiB.
const CHANGES: usize = 64;
/// Kinds that a filter may name: there are no more.
const KINDS: usize = 6;

/// The stream of answers of a watch.
pub(super) type Answers = Messages<v1::WatchConfigurationResponse>;

/// A watch at work.
struct Configuration {
    control: Arc<Control>,
    kinds: Vec<v1::ResourceKind>,
    known: Head,
    ready: VecDeque<v1::WatchConfigurationResponse>,
    said: Instant,
    _place: Watcher,
}

/// Parses a request and begins its watch.
pub(super) async fn begin(
    control: Arc<Control>,
    request: v1::WatchConfigurationRequest,
    caller: &Caller,
) -> Result<Answers, Refusal> {
    let mut wrong = Violations::new();
    if request.after_revision < 0 {
        wrong.add("after_revision", Rule::OutOfRange, "must not be negative");
    }
    let kinds = kinds(&request.kinds, &mut wrong);
    wrong.finish()?;
    let permit = control.watchers.enter(caller)?;
    let head = control.store.config.head().await?;
    let known = match request.after_revision {
        0 => head,
        after if after > head.revision => {
            let text = format!("{after} is above the latest revision, {}", head.revision);
            return Err(Refusal::new(Reason::RevisionUnknown, text));
        }
        after => {
            let known = control.store.config.head_at(after).await?;
            known.ok_or_else(|| expired(&format!("revision {after} is no longer kept")))?
        }
    };
    let drain = control.drain.clone();
    let mut watch = Configuration {
        control,
        kinds,
        known,
        ready: VecDeque::new(),
        said: Instant::now(),
        _place: permit,
    };
    // At once: after which revision it begins, and that it has begun.
    watch.beat();
    Ok(stream(watch, drain))
}

fn kinds(given: &[i32], wrong: &mut Violations) -> Vec<v1::ResourceKind> {
    if given.len() > KINDS {
        wrong.add("kinds", Rule::TooMany, format!("must be {KINDS} at most, as there are"));
        return Vec::new();
    }
    let mut kinds = Vec::new();
    for (index, kind) in given.iter().enumerate() {
        let field = format!("kinds[{index}]");
        match parse::known(&field, *kind, wrong) {
            Some(v1::ResourceKind::Unspecified) => {
                wrong.add(&field, Rule::OutOfRange, "must be a kind: leave out what is not");
            }
            Some(kind) => kinds.push(kind),
            None => {}
        }
    }
    kinds
}

fn kind(name: &ResourceName) -> v1::ResourceKind {
    match name {
        ResourceName::Tenant(_) => v1::ResourceKind::Tenant,
        ResourceName::EventType(_) => v1::ResourceKind::EventType,
        ResourceName::Contract(_) => v1::ResourceKind::Contract,
        ResourceName::Subscription(_) => v1::ResourceKind::Subscription,
        ResourceName::Callback(_) => v1::ResourceKind::Callback,
        ResourceName::Secret(_) => v1::ResourceKind::Secret,
        ResourceName::ApiKey(_) => v1::ResourceKind::ApiKey,
    }
}

impl Watch for Configuration {
    type Message = v1::WatchConfigurationResponse;

    async fn next(&mut self) -> Result<v1::WatchConfigurationResponse, Refusal> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.said = Instant::now();
                return Ok(message);
            }
            let rest = (self.said + HEARTBEAT).saturating_duration_since(Instant::now());
            match self.control.store.config.changes(self.known, CHANGES, rest).await? {
                Changes::Gap => {
                    let revision = self.known.revision;
                    return Err(expired(&format!("what came after {revision} is no longer kept")));
                }
                Changes::Next(changes) => {
                    for change in changes {
                        self.known.revision = change.revision;
                        self.known.nonce = change.nonce;
                        self.take_in(change);
                    }
                }
            }
            if self.ready.is_empty() && self.said.elapsed() >= HEARTBEAT {
                self.beat();
            }
        }
    }
}

impl Configuration {
    /// Makes a heartbeat ready.
    fn beat(&mut self) {
        let time = map::moment(self.control.clock.now());
        self.ready.push_back(v1::WatchConfigurationResponse {
            revision: self.known.revision,
            heartbeat: Some(v1::WatchHeartbeat { time }),
            ..Default::default()
        });
    }

    /// Makes the messages of a commit ready.
    fn take_in(&mut self, change: Change) {
        let author = Author::of(&change);
        for (name, bytes) in change.documents {
            let Some(parsed) = ResourceName::parse(&name) else { continue };
            let kind = kind(&parsed);
            if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
                continue;
            }
            let resource = match &bytes {
                None => None,
                Some(bytes) => self.shown(kind, &name, change.revision, bytes),
            };
            self.ready.push_back(v1::WatchConfigurationResponse {
                revision: change.revision,
                kind: kind.into(),
                name,
                deleted: bytes.is_none(),
                resource,
                time: author.as_ref().and_then(|author| map::moment(author.time)),
                actor: author.as_ref().map(|author| author.actor.clone()).unwrap_or_default(),
                heartbeat: None,
            });
        }
    }

    /// A resource as its own service shows it; none for one that cannot be read, which is logged.
    fn shown(
        &self,
        kind: v1::ResourceKind,
        name: &str,
        revision: i64,
        bytes: &Bytes,
    ) -> Option<Shown> {
        let document = Document { name: name.to_owned(), revision, bytes: bytes.clone() };
        let control = &self.control;
        Some(match kind {
            v1::ResourceKind::Unspecified => return None,
            v1::ResourceKind::Tenant => {
                Shown::Tenant(tenants::to_wire(&catalog::read(&document).ok()?))
            }
            v1::ResourceKind::EventType => {
                Shown::EventType(event_types::to_wire(&catalog::read(&document).ok()?))
            }
            v1::ResourceKind::Contract => {
                Shown::Contract(control.shown_contract(&catalog::read(&document).ok()?))
            }
            v1::ResourceKind::Subscription => {
                Shown::Subscription(to_wire::<Subscription>(&catalog::read(&document).ok()?, 0))
            }
            v1::ResourceKind::Callback => {
                Shown::Callback(to_wire::<Callback>(&catalog::read(&document).ok()?, 0))
            }
            v1::ResourceKind::Secret => {
                let now = control.clock.now();
                Shown::Secret(control.shown_secret(&catalog::read(&document).ok()?, now))
            }
            v1::ResourceKind::ApiKey => {
                let now = control.clock.now();
                Shown::ApiKey(api_keys::to_wire(&catalog::read(&document).ok()?, now))
            }
        })
    }
}
