//! What the store remembers of a run over many deliveries: when it began, and what it came to.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal};
use pregon_store::StoreError;
use pregon_store::config::{Commit, Committed, RequestKey};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Repeat, add, half, reused};
use crate::Control;

impl Control {
    /// When a run began that is known by its request: now, unless the store remembers it.
    pub(crate) async fn first_time(
        &self,
        repeat: &Repeat,
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
        let time = Bytes::copy_from_slice(&now.millis().to_be_bytes());
        match self.remember(repeat.id, repeat, time).await? {
            Committed::Done { .. } => Ok(now),
            Committed::Repeated { reply, .. } => {
                let millis = reply.first_chunk().copied().map(i64::from_be_bytes);
                let torn = || Refusal::new(Reason::Internal, "a remembered request is torn");
                millis.map(Timestamp::from_millis).ok_or_else(torn)
            }
            Committed::RequestReused => Err(reused()),
            Committed::Conflict { name, .. } => {
                Err(Refusal::new(Reason::Internal, format!("nothing was expected of {name}")))
            }
        }
    }

    /// What a run came to that the same request began before, if it came to its end.
    pub(crate) async fn first_answer<M: Message + Default>(
        &self,
        repeat: &Repeat,
    ) -> Result<Option<M>, Refusal> {
        let found = self.store.config.recall(answer_of(repeat), repeat.digest).await?;
        let Some(Committed::Repeated { reply, .. }) = found else { return Ok(None) };
        let torn = |_| Refusal::new(Reason::Internal, "a remembered answer is torn");
        M::decode(reply).map(Some).map_err(torn)
    }

    /// Remembers what a run came to. Where that fails, a repeat goes over the same deliveries, and
    /// makes none twice.
    pub(crate) async fn remember_answer(&self, repeat: &Repeat, answer: &impl Message) {
        let answer = Bytes::from(answer.encode_to_vec());
        if let Err(error) = self.remember(answer_of(repeat), repeat, answer).await {
            tracing::warn!(%error, "what a run came to is not remembered for its repeats");
        }
    }

    async fn remember(
        &self,
        id: [u8; 16],
        repeat: &Repeat,
        reply: Bytes,
    ) -> Result<Committed, StoreError> {
        let request = Some(RequestKey { id, digest: repeat.digest, reply });
        self.store.config.commit(Commit { request, ..Commit::default() }).await
    }
}

/// The name of a run's answer beside that of its request.
fn answer_of(repeat: &Repeat) -> [u8; 16] {
    let mut hash = Sha256::new();
    add(&mut hash, &repeat.id);
    add(&mut hash, b"answer");
    half(hash.finalize().into())
}
