//! Random histories: sequences of everything that nodes and callers do, against a simple model of
//! what must hold.
//!
//! The model keeps every event and delivery in exactly one place. After each step the books must
//! say what the model says; whatever is handed out must have been free for it; at the end every
//! event and every delivery is brought to its end and compared one by one. A seed makes a history
//! as far as the engine is deterministic; a failure prints its seed, its steps, and how to repeat
//! it.

use std::ops::Range;
use std::time::Duration;

use super::Rig;

mod chance;
mod drive;
mod model;

use chance::Chance;
use drive::Driver;

/// Steps of one history.
const STEPS: usize = 120;
/// Seeds that are run one after the other on the same engine.
const SEEDS: u64 = 40;
/// Names the environment variable that runs other seeds: one, as in `17`, or many, as in
/// `1..10000`.
const SEED: &str = "PREGON_SEED";

/// Random sequences of publish, take, settle, lapse, takeover, cancel, replay, end and restart.
pub async fn random_histories_keep_every_promise(rig: &mut Rig) {
    let chosen = std::env::var(SEED).ok();
    let mut driver = Driver::default();
    for seed in chosen.as_deref().map_or(1..SEEDS + 1, seeds) {
        driver.begin(seed);
        let mut chance = Chance::of(seed);
        for _ in 0..STEPS {
            driver.step(rig, &mut chance).await;
        }
        driver.bring_to_an_end(rig).await;
        rig.advance(Duration::from_secs(3600)).await;
    }
}

fn seeds(text: &str) -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("seeds as 17 or 1..10000");
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(text)..number(text) + 1,
    }
}
