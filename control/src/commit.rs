//! Writes: decide on what was read, commit only if it still holds.
//!
//! A handler's write is a function that reads, checks and commits, and answers `None` when a
//! precondition no longer held at the commit. [`until_settled`] runs it again then, so that its
//! checks see what changed and refuse with the right reason, or pass. Preconditions therefore are
//! never the caller's: an etag, an id that is taken, a parent that is gone are all found by
//! reading.

use std::future::Future;

use bytes::Bytes;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::model::Resource;
use pregon_proto::v1;
use pregon_rpc::caller::Caller;
use pregon_store::config::{Commit, Committed, Expect, RequestKey};
use prost::Message;
use std::time::Duration;

use crate::audit::entry::{Before, Told};
use crate::repeat::{self, Canonical, Repeat};
use crate::{Control, etag, parse, service};
use writing::Writing;

mod writing;

/// Times that a write is decided anew before the caller is told to come back: others may write
/// without end.
const TRIES: usize = 10;

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// All checks, no effect.
    pub validate_only: bool,
    /// How repeats are recognised, if they are.
    pub repeat: Option<Repeat>,
}

impl How {
    /// A write that is not known by a `request_id`.
    pub(crate) fn plain(validate_only: bool) -> Self {
        Self { validate_only, repeat: None }
    }

    /// A write that may have a `request_id`.
    pub(crate) fn parse<M: Canonical>(
        caller: &Caller,
        method: &str,
        request: &M,
        (validate_only, request_id): (bool, &str),
        wrong: &mut Violations,
    ) -> Self {
        if wrong.check("request_id", parse::request_id(request_id)).is_some()
            && !request_id.is_empty()
            && let Some(call) = service::current()
        {
            let _ = call.request_id.set(request_id.to_owned()); // it is parsed once
        }
        // Users of portals have the same names under the next tenant of the same id.
        let actor = match caller.portal() {
            Some((_, since)) => format!("{}@{}", caller.actor(), since.millis()),
            None => caller.actor().to_string(),
        };
        let repeat = Repeat::of(&actor, method, request_id, request);
        Self { validate_only, repeat: repeat.filter(|_| !validate_only) }
    }
}

/// An answer to a write; it can be remembered before its revision is known.
pub(crate) trait Answer: Message + Default {
    /// Puts the revision in, everywhere.
    fn stamp(&mut self, revision: i64);
}

macro_rules! answers {
    ($($answer:ident: $($resource:ident)? $(+ $more:ident)?;)*) => {$(
        impl Answer for v1::$answer {
            fn stamp(&mut self, revision: i64) {
                self.revision = revision;
                $(for resource in self.$resource.iter_mut() {
                    resource.revision = revision;
                    resource.etag = etag::of(revision);
                })?
                $(for resource in self.$more.iter_mut() {
                    resource.revision = revision;
                    resource.etag = etag::of(revision);
                })?
            }
        }
    )*};
}

answers! {
    CreateTenantResponse: tenant;
    UpdateTenantResponse: tenant;
    DeleteTenantResponse: ;
    CreateEventTypeResponse: event_type;
    UpdateEventTypeResponse: event_type;
    DeleteEventTypeResponse: ;
    CreateSubscriptionResponse: subscription;
    UpdateSubscriptionResponse: subscription;
    DeleteSubscriptionResponse: ;
    PauseSubscriptionResponse: subscription;
    ResumeSubscriptionResponse: subscription;
    OpenLaneResponse: subscription;
    DisableSubscriptionResponse: subscription;
    ApproveSubscriptionResponse: subscription;
    RejectSubscriptionResponse: subscription;
    VerifySubscriptionResponse: subscription;
    CreateContractResponse: contract;
    UpdateContractResponse: contract;
    DeleteContractResponse: ;
    CreateCallbackResponse: callback;
    UpdateCallbackResponse: callback;
    DeleteCallbackResponse: ;
    PauseCallbackResponse: callback;
    ResumeCallbackResponse: callback;
    CreateSecretResponse: secret;
    DeleteSecretResponse: ;
    RotateSecretResponse: secret + previous;
    RevokeSecretResponse: secret;
    CreateApiKeyResponse: api_key;
    RotateApiKeyResponse: api_key;
    RevokeApiKeyResponse: api_key;
    ResealDocumentsResponse: ;
}

impl Answer for v1::ImportEventTypesResponse {
    /// Types that were there before have their own revision.
    fn stamp(&mut self, revision: i64) {
        self.revision = revision;
        for kind in self.event_types.iter_mut().filter(|kind| kind.revision == 0) {
            kind.revision = revision;
            kind.etag = etag::of(revision);
        }
    }
}

/// What a write does, and what it relies on.
#[derive(Debug, Default)]
pub(crate) struct Plan(Commit);

impl Plan {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Relies on a document as it was read: of this revision, or (`None`) not there.
    pub(crate) fn relies_on(mut self, name: impl Into<String>, revision: Option<i64>) -> Self {
        let expect = revision.map_or(Expect::Absent, Expect::Revision);
        self.0.expect.push((name.into(), expect));
        self
    }

    /// Relies on a document being there, whatever it says.
    pub(crate) fn needs(mut self, name: impl Into<String>) -> Self {
        self.0.expect.push((name.into(), Expect::Present));
        self
    }

    /// Writes a resource in the place of what was read: revision 0 where there was nothing.
    pub(crate) fn put(self, resource: &Resource, read: i64) -> Self {
        let name = resource.name().to_string();
        self.relies_on(name.clone(), (read != 0).then_some(read)).write(name, resource.encode())
    }

    /// Deletes a resource as it was read.
    pub(crate) fn remove(self, name: impl Into<String>, read: i64) -> Self {
        let name = name.into();
        self.relies_on(name.clone(), Some(read)).delete(name)
    }

    /// Writes a document.
    pub(crate) fn write(mut self, name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        self.0.write.push((name.into(), Some(bytes.into())));
        self
    }

    /// Deletes a document.
    pub(crate) fn delete(mut self, name: impl Into<String>) -> Self {
        self.0.write.push((name.into(), None));
        self
    }
}

impl Plan {
    /// As the store takes it, for work that is no call of anybody's.
    pub(crate) fn into_commit(self) -> Commit {
        self.0
    }
}

impl Control {
    /// The answer to an earlier request with the same `request_id`, if there was one.
    pub(crate) async fn recall<A: Answer>(&self, how: &How) -> Result<Option<A>, Refusal> {
        let Some(repeat) = how.repeat else { return Ok(None) };
        match self.store.config.recall(repeat.id, repeat.digest).await? {
            None | Some(Committed::Done { .. } | Committed::Conflict { .. }) => Ok(None),
            Some(Committed::Repeated { revision, reply }) => remembered(revision, &reply).map(Some),
            Some(Committed::RequestReused) => Err(repeat::reused()),
        }
    }

    /// Commits what is no call's own; none: what it relied on has changed.
    pub(crate) async fn note(&self, plan: Plan) -> Result<Option<i64>, Refusal> {
        match self.store.config.commit(plan.into_commit()).await? {
            Committed::Done { revision } => {
                self.heads.saw(revision, self.clock.now());
                Ok(Some(revision))
            }
            Committed::Conflict { .. } | Committed::Repeated { .. } | Committed::RequestReused => {
                Ok(None)
            }
        }
    }

    /// Carries a plan out and completes its answer; `None` when what it relied on has changed.
    pub(crate) async fn commit<A: Answer>(
        &self,
        plan: Plan,
        mut answer: A,
        how: &How,
    ) -> Result<Option<A>, Refusal> {
        if how.validate_only {
            return Ok(Some(answer));
        }
        let Plan(mut commit) = plan;
        let Before::Held(told) = self.of_commit(&commit).await? else { return Ok(None) };
        commit.audit = told.as_ref().map(Told::stored);
        commit.request = how.repeat.map(|repeat| RequestKey {
            id: repeat.id,
            digest: repeat.digest,
            reply: answer.encode_to_vec().into(),
        });
        let writing = Writing::begin(&self.telemetry, &commit);
        commit.write.push(writing.author(self.clock.now()).document());
        match self.store.config.commit(commit).await? {
            Committed::Done { revision } => {
                writing.end(revision);
                if let Some(told) = told {
                    self.telemetry.audited(told.id(), revision, &told.entry);
                }
                self.heads.saw(revision, self.clock.now());
                answer.stamp(revision);
                Ok(Some(answer))
            }
            Committed::Repeated { revision, reply } => remembered(revision, &reply).map(Some),
            Committed::Conflict { name, .. } => {
                tracing::debug!(name, "somebody else wrote first; deciding again");
                Ok(None)
            }
            Committed::RequestReused => Err(repeat::reused()),
        }
    }
}

fn remembered<A: Answer>(revision: i64, reply: &[u8]) -> Result<A, Refusal> {
    let mut answer = A::decode(reply).map_err(|_| {
        Refusal::new(Reason::Internal, "the answer to the first request cannot be read")
    })?;
    answer.stamp(revision);
    Ok(answer)
}

/// What a deletion comes to where there is nothing of this name.
pub(crate) fn nothing<A: Answer>(
    allow_missing: bool,
    kind: &'static str,
    name: String,
) -> Result<Option<A>, Refusal> {
    match allow_missing {
        true => Ok(Some(A::default())),
        false => Err(Refusal::not_found(kind, name)),
    }
}

/// Runs a write until nobody else got in its way.
pub(crate) async fn until_settled<T, F>(attempt: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<Option<T>, Refusal>>,
{
    for _ in 0..TRIES {
        if let Some(settled) = attempt().await? {
            return Ok(settled);
        }
    }
    let message = "others keep writing the same resources; nothing was changed";
    Err(Refusal::new(Reason::LoadShed, message).retry_after(Duration::from_secs(1)))
}
