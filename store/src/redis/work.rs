//! Claiming and settling.

pub(super) mod claim;
pub(super) mod runs;
pub(super) mod settle;

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::id::PartitionNo;

use crate::StoreError;
use crate::batch::{Batch, Token};
use crate::redis::handle::Handle;
use crate::settlement::{Settled, Settlement};
use crate::work::{Claim, Due, DueRequest, Work};

#[async_trait]
impl Work for Handle {
    fn partitions(&self) -> PartitionNo {
        PartitionNo::try_from(self.engine.partitions.len()).unwrap_or(PartitionNo::MAX)
    }

    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::take(&self.engine, partition, claim, want, bytes).await?)
    }

    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::due(&self.engine, partition, claim, &request).await?)
    }

    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::take_over(&self.engine, partition, claim, limit, suspects).await?)
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError> {
        Ok(claim::extend(&self.engine, tokens, lease).await?)
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        Ok(settle::settle(&self.engine, settlement).await?)
    }

    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError> {
        Ok(claim::release(&self.engine, tokens).await?)
    }

    async fn wait(&self, at_most: Duration) {
        claim::wait(&self.engine, at_most).await;
    }
}
