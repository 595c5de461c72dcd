//! What may be meant otherwise than it is written, though nothing is wrong with it.

use futures::future::try_join_all;
use pregon_core::error::Refusal;
use pregon_core::id::EventTypeId;
use pregon_core::model::EventType;
use pregon_core::pattern::{Pattern, PatternKind};
use pregon_store::config::ListRange;

use crate::Control;
use crate::catalog::Kind as _;

impl Control {
    /// Hints for whoever wrote these patterns: event types that do not exist, and patterns that no
    /// event type matches. Types are not read: one that cannot be read is no reason to refuse a write.
    pub(super) async fn hints(&self, patterns: &[String]) -> Result<Vec<String>, Refusal> {
        let hints = patterns.iter().map(|text| self.hint(text));
        Ok(try_join_all(hints).await?.into_iter().flatten().collect())
    }

    async fn hint(&self, text: &str) -> Result<Option<String>, Refusal> {
        let Ok(pattern) = Pattern::parse(text) else { return Ok(None) };
        match pattern.kind() {
            PatternKind::Every => Ok(None),
            PatternKind::Exactly(id) => {
                let Ok(id) = EventTypeId::parse(id) else { return Ok(None) };
                let found = self.store.config.get(&[id.name()]).await?.pop().flatten();
                Ok(found.is_none().then(|| format!("{} does not exist yet", id.name())))
            }
            PatternKind::Under(start) => {
                let prefix = format!("eventTypes/{start}");
                let collections = EventType::collections(&prefix);
                let range = ListRange { collections, prefix, after: String::new(), limit: 1 };
                let found = self.store.config.list(range).await?;
                Ok(found.is_empty().then(|| format!("no event type matches {text} yet")))
            }
        }
    }
}
