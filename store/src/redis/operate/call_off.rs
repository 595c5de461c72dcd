//! Calling events off whose time has not come: each is a member of lane 0 until then.

use pregon_core::id::Position;
use pregon_core::outcome::EndReason;

use crate::codec::stored;
use crate::operate::EventCancelled;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::steps::STEPS;

/// Calls an event off, for a caller.
pub(in crate::redis) async fn cancel(
    engine: &Engine,
    position: Position,
) -> Result<EventCancelled> {
    let Ok(partition) = engine.partition(position.partition) else {
        return Ok(EventCancelled::Unknown);
    };
    let args = Args::default()
        .text(position.n)
        .text(position.ms)
        .text(stored::end_code(EndReason::ByCaller));
    match engine.step::<char>(partition, &STEPS.cancel_event, args).await? {
        'U' => Ok(EventCancelled::Unknown),
        'D' => Ok(EventCancelled::Done),
        'H' => Ok(EventCancelled::InHand),
        'O' => Ok(EventCancelled::Over),
        other => Err(bad("a cancel's answer", other)),
    }
}
