//! CancelEvent: an event is called off before its time comes.
//!
//! An event is put on its schedule by a node, some milliseconds after it was accepted. Until then, and
//! while a node matches it since its time has come, nobody can say whether it will be matched: the
//! call waits for that, [`PATIENCE`] at most.

use std::time::Duration;

use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::event::Event;
use pregon_core::id::EventName;
use pregon_proto::v1;
use pregon_rpc::caller::Caller;
use pregon_store::audit::WhenFull;
use pregon_store::log::EventStage;
use pregon_store::operate::EventCancelled;
use tokio::time::Instant;

use super::explain::wire_stage;
use super::show;
use crate::commit::How;
use crate::{Control, parse};

/// How long a call waits for a node to have put an event on its schedule.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Control {
    pub(crate) async fn cancel_event(
        &self,
        request: v1::CancelEventRequest,
        caller: &Caller,
    ) -> Result<v1::CancelEventResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", EventName::parse(&request.name));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CancelEvent", &request, options, &mut wrong);
        let name = parse::done(wrong, name)?;
        if let Some(repeat) = &how.repeat {
            self.recent.note(repeat, self.clock.now())?;
        }
        let (event, stage) = self.event(&name).await?;
        let open = check(&name, &event, &stage)?;
        let stage = if open && !how.validate_only {
            let cancel = self.call_off(&name, &event);
            // It makes room, so it passes where there is none. What is older than history goes with it.
            self.with_entry(&name.to_string(), WhenFull::Written, cancel).await?;
            EventStage::Cancelled
        } else {
            stage
        };
        let event = Some(show::event(self.redacted(event).await?));
        Ok(v1::CancelEventResponse { event, stage: wire_stage(&stage).into() })
    }

    async fn call_off(&self, name: &EventName, event: &Event) -> Result<(), Refusal> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.store.operate.cancel_event(event.position).await? {
                EventCancelled::Done => return Ok(()),
                EventCancelled::Unknown => {
                    return Err(Refusal::not_found("event", name.to_string()));
                }
                EventCancelled::Over => return Err(over(name)),
                EventCancelled::InHand if Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                EventCancelled::InHand => {
                    let text = format!("no node has said yet whether {name} is to be matched");
                    let refusal = Refusal::new(Reason::NoNode, text);
                    return Err(refusal.retry_after(PATIENCE));
                }
            }
        }
    }
}

/// Whether there is something to call off.
fn check(name: &EventName, event: &Event, stage: &EventStage) -> Result<bool, Refusal> {
    match stage {
        EventStage::Cancelled => Ok(false),
        EventStage::Matched => Err(over(name)),
        EventStage::Waiting | EventStage::Claimed(_) | EventStage::Scheduled => {
            match event.scheduled() {
                Some(_) => Ok(true),
                None => Err(over(name)),
            }
        }
    }
}

fn over(name: &EventName) -> Refusal {
    let text = format!("{name} waits for no time: its deliveries can be cancelled, each by itself");
    Refusal::new(Reason::StateConflict, text).about("event", name)
}
