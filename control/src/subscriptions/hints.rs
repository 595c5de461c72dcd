//! What may be meant otherwise than it is written, though nothing is wrong with it.

use pregon_core::error::Refusal;
use pregon_core::id::EventTypeId;
use pregon_core::model::Subscription;
use pregon_core::pattern::{Pattern, PatternKind};

use crate::Control;

impl Control {
    /// Hints for whoever wrote a subscription: event types that do not exist.
    pub(super) async fn hints(&self, subscription: &Subscription) -> Result<Vec<String>, Refusal> {
        let exact = |text: &String| {
            let pattern = Pattern::parse(text).ok()?;
            matches!(pattern.kind(), PatternKind::Exactly(_))
                .then(|| EventTypeId::parse(text).ok())?
        };
        let types: Vec<EventTypeId> = subscription.event_types.iter().filter_map(exact).collect();
        let names: Vec<String> = types.iter().map(EventTypeId::name).collect();
        let found = self.store.config.get(&names).await?;
        let missing = names.into_iter().zip(found).filter(|(_, found)| found.is_none());
        Ok(missing.map(|(name, _)| format!("{name} does not exist yet")).collect())
    }
}
