//! The settings of `pregon init`.

use clap::Args;
use pregon_core::id::PartitionNo;
use pregon_store::redis::RedisOptions;

use super::redis::RedisArgs;
use super::{WrongSetting, Wrongs};

/// Settings of `pregon init`, as text.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    redis: RedisArgs,

    /// Partitions of the queue, 1 to 4096; they cannot be changed later.
    ///
    /// 4: each call to Redis costs the same whatever it carries, and partitions divide every batch.
    #[arg(long, env = "PREGON_PARTITIONS", default_value = "4", value_name = "N")]
    partitions: String,
}

/// Settings of `pregon init`, read.
#[derive(Clone, Debug)]
pub struct InitSettings {
    /// The Redis.
    pub redis: RedisOptions,
    /// Partitions of the queue.
    pub partitions: PartitionNo,
}

impl InitArgs {
    /// Reads all settings, or reports every wrong one.
    ///
    /// # Errors
    ///
    /// All settings that cannot be used.
    pub fn read(self) -> Result<InitSettings, Vec<WrongSetting>> {
        let mut wrong = Wrongs::default();
        let redis = self.redis.read(&mut wrong);
        let partitions = wrong.number("--partitions", &self.partitions, 1, 4096);
        let partitions = PartitionNo::try_from(partitions).unwrap_or(1);
        wrong.or(InitSettings { redis, partitions })
    }
}
