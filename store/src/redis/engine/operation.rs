//! Operations: steps that must not run twice, one of a kind and partition at a time.
//!
//! Sent again under its sequence, an operation is answered as it was the first time. So one whose
//! answer was lost is asked for before the next of its kind. What a claim leased would otherwise be
//! nobody's until its lease ends. A settlement that is repeated as a whole, because a part of it
//! was not answered, would find the batches of its other parts gone, and take their leases for
//! lost.

use std::hash::BuildHasher;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::Token;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::operations::Open;
use crate::redis::engine::partition::{Kind, Partition};
use crate::redis::engine::script::Script;
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::sure::Proof;

/// Answers to parts of settlements that are kept: more than one settlement has.
const ANSWERED: usize = 64;

/// What a claim was answered.
pub(in crate::redis) struct Claimed<T> {
    /// The answer.
    pub answer: T,
    /// The token that it was asked with.
    pub token: Token,
    /// It is the answer to an earlier claim: its leases have been running since.
    pub earlier: bool,
}

impl Engine {
    /// Claims; or, if the answer to the last claim of this kind was lost, asks for that instead.
    pub(in crate::redis) async fn claim<T: DeserializeOwned>(
        &self,
        partition: &Partition,
        kind: Kind,
        script: &Script,
        token: Token,
        args: Args,
    ) -> Result<Claimed<T>> {
        let mut operations = partition.operations(kind).await;
        if let Some((token, answer)) = operations.found.pop_front() {
            let answer = rmp_serde::from_slice(&answer).map_err(|error| bad("a claim", error))?;
            return Ok(Claimed { answer, token, earlier: true });
        }
        let earlier = operations.open.is_some();
        if !earlier {
            operations.sequence += 1;
        }
        // Noted before it is sent: whoever waits for it may go.
        let open = operations.open.get_or_insert(Open { token, args }).clone();
        let operation = Some((kind, operations.sequence));
        let answer = self.send(&self.main, partition, script, operation, open.args).await;
        if !answer.as_ref().is_err_and(crate::redis::engine::fault::Fault::is_passing) {
            operations.open = None;
        }
        Ok(Claimed { answer: answer?, token: open.token, earlier })
    }

    /// What a claim leased could not be read: the next one of its kind has it.
    pub(in crate::redis) async fn claim_later<T: Serialize>(
        &self,
        partition: &Partition,
        kind: Kind,
        claimed: &Claimed<T>,
    ) {
        if let Ok(answer) = rmp_serde::to_vec(&claimed.answer) {
            partition.operations(kind).await.found.push_back((claimed.token, answer));
        }
    }

    /// Runs a part of a settlement, unless it is known to have run; answers with lost leases, and
    /// with the part's name for [`Self::settled`].
    pub(in crate::redis) async fn settle(
        &self,
        partition: &Partition,
        args: Args,
    ) -> Result<(Vec<String>, u64)> {
        let kind = Kind::Settle;
        let mut operations = partition.operations(kind).await;
        let name = operations.names.hash_one(&args);
        for again in [true, false] {
            let known = operations.answered.iter().find(|(known, _)| *known == name);
            if let Some((_, lost)) = known {
                return Ok((lost.clone(), name));
            }
            let earlier = operations.open.is_some();
            if !earlier {
                operations.sequence += 1;
            }
            let token = Token { incarnation: self.incarnation, sequence: operations.sequence };
            let open = operations.open.get_or_insert_with(|| Open { token, args: args.clone() });
            let sent = open.args.clone();
            let of = operations.names.hash_one(&sent);
            let operation = Some((kind, operations.sequence));
            let answer = self.send(&self.main, partition, &STEPS.settle, operation, sent).await;
            if !answer.as_ref().is_err_and(crate::redis::engine::fault::Fault::is_passing) {
                operations.open = None;
            }
            match answer {
                Ok(lost) => {
                    operations.answered.push_back((of, lost));
                    if operations.answered.len() > ANSWERED {
                        operations.answered.pop_front();
                    }
                }
                // What another part came to is not this one's.
                Err(fault) if of == name || fault.is_passing() || !again => return Err(fault),
                Err(_) => {}
            }
        }
        let last = operations.answered.back().filter(|(known, _)| *known == name);
        last.map(|(_, lost)| (lost.clone(), name))
            .ok_or_else(|| bad("an operation", "that did not run"))
    }

    /// A settlement was taken as a whole: nobody repeats its parts.
    pub(in crate::redis) async fn settled(&self, partition: &Partition, names: &[u64]) {
        let mut operations = partition.operations(Kind::Settle).await;
        operations.answered.retain(|(known, _)| !names.contains(known));
    }

    /// Publishes; and says by what it is known to be there, for it is not confirmed yet.
    pub(in crate::redis) async fn publish<T: DeserializeOwned>(
        &self,
        partition: &Partition,
        args: Args,
    ) -> Result<(T, Proof)> {
        let kind = Kind::Publish;
        let mut operations = partition.operations(kind).await;
        operations.sequence += 1;
        let sequence = operations.sequence;
        let operation = Some((kind, sequence));
        let answer = self.send(&self.publish, partition, &STEPS.publish, operation, args).await?;
        let (key, field) =
            (partition.keys.key(crate::redis::layout::keys::Key::Ops), self.field(kind));
        Ok((answer, Proof::Operation { key, field, sequence }))
    }
}
