//! What may be meant otherwise than it is written, though nothing is wrong with it.

use futures::future::try_join_all;
use pregon_core::error::Refusal;
use pregon_core::id::EventTypeId;
use pregon_core::model::{EventType, Subscription};
use pregon_core::pattern::{Pattern, PatternKind};

use crate::Control;

impl Control {
    /// Hints for whoever wrote a subscription: event types that do not exist, and patterns that no
    /// event type matches.
    pub(super) async fn hints(&self, subscription: &Subscription) -> Result<Vec<String>, Refusal> {
        let hints = subscription.event_types.iter().map(|text| self.hint(text));
        Ok(try_join_all(hints).await?.into_iter().flatten().collect())
    }

    async fn hint(&self, text: &str) -> Result<Option<String>, Refusal> {
        let Ok(pattern) = Pattern::parse(text) else { return Ok(None) };
        match pattern.kind() {
            PatternKind::Every => Ok(None),
            PatternKind::Exactly(id) => {
                let Ok(id) = EventTypeId::parse(id) else { return Ok(None) };
                let found = self.find::<EventType>(&id.name()).await?;
                Ok(found.is_none().then(|| format!("{} does not exist yet", id.name())))
            }
            PatternKind::Under(start) => {
                let found = self.list::<EventType>(&format!("eventTypes/{start}"), "", 1).await?;
                Ok(found.is_empty().then(|| format!("no event type matches {text} yet")))
            }
        }
    }
}
