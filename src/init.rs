//! `pregon init`: sets a Redis up, once. A store that is there is left as it is, and told of.

use pregon_store::redis::{self, Setup};

use crate::settings::InitSettings;

/// Sets it up and says what is there now.
pub async fn run(settings: InitSettings) -> anyhow::Result<()> {
    let Setup { created, epoch, partitions } =
        redis::setup(&settings.redis, settings.partitions).await?;
    let found = if created { "set up a new store" } else { "a store is there already" };
    println!("{found}: epoch {epoch:016x}, {partitions} partitions");
    if partitions != settings.partitions {
        println!("its partitions cannot be changed");
    }
    Ok(())
}
