//! Claiming and settling.

pub(super) mod apply;
pub(super) mod due;
pub(super) mod runs;
pub(super) mod settle;
pub(super) mod take;
pub(super) mod takeover;

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::id::PartitionNo;

use crate::StoreError;
use crate::batch::{Batch, Token};
use crate::embedded::engine::Class;
use crate::embedded::engine::codec::PARTITION;
use crate::embedded::engine::executor::{DEADLINE_SETTLE, Handle};
use crate::embedded::engine::state::Tx;
use crate::settlement::{Settled, Settlement};
use crate::work::{Claim, Due, DueRequest, Work};

fn known(partition: PartitionNo) -> Result<(), StoreError> {
    if partition == PARTITION {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!("there is no partition {partition}")))
}

#[async_trait]
impl Work for Handle {
    fn partitions(&self) -> PartitionNo {
        1
    }

    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError> {
        known(partition)?;
        let claim = claim.clone();
        self.write(Class::Claim, 1, move |tx| take::take(tx, &claim, want, bytes)).await
    }

    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError> {
        known(partition)?;
        let claim = claim.clone();
        let want = request.want;
        self.write(Class::Claim, want, move |tx| due::due(tx, &claim, &request)).await
    }

    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError> {
        known(partition)?;
        let claim = claim.clone();
        let work = move |tx: &mut Tx<'_>| takeover::take_over(tx, &claim, limit, suspects);
        self.write(Class::Claim, 1, work).await
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = tokens.to_vec();
        self.write(Class::Finish, 1, move |tx| take::extend(tx, &tokens, lease)).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let settlement = settle::Prepared::new(settlement)?;
        let items = settlement.items();
        let work = move |tx: &mut Tx<'_>| settle::settle(tx, &settlement);
        self.write_within(DEADLINE_SETTLE, Class::Finish, items, work).await
    }

    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError> {
        let tokens = tokens.to_vec();
        self.write(Class::Finish, 1, move |tx| take::release(tx, &tokens)).await
    }

    async fn wait(&self, at_most: Duration) {
        // The bell keeps one ring for who comes late, and wakes one of several waiters.
        let _ = tokio::time::timeout(at_most, self.bell().notified()).await;
    }
}
