//! Filters of runs that the store does not know: what an event says of itself, and how the latest
//! attempt was answered.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use pregon_core::attempt::AttemptRecord;
use pregon_core::error::{Refusal, Violations};
use pregon_core::event::{Attributes, Event, parse_attributes};
use pregon_core::id::{LaneNo, SubscriptionName, TenantId};
use pregon_core::model::Subscription;
use pregon_proto::v1::AnswerClass;
use pregon_store::log::DeliveryRecord;

use super::attempt::is_attempt;
use crate::catalog::Kind as _;
use crate::{Control, parse};

/// Deliveries whose attempts are read at the same time.
const READ_AT_ONCE: usize = 8;

/// Which of the deliveries, or events, that a query finds are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    attributes: Attributes,
    last_answer: Option<AnswerClass>,
}

impl Chosen {
    /// Parses `attributes` and `last_answer`.
    pub(super) fn parse(
        attributes: HashMap<String, String>,
        last_answer: i32,
        wrong: &mut Violations,
    ) -> Self {
        let last_answer = parse::known("last_answer", last_answer, wrong);
        Self {
            attributes: parse_attributes("attributes", attributes, wrong),
            last_answer: last_answer.filter(|class| *class != AnswerClass::Unspecified),
        }
    }

    /// Whether an event has all that is asked for. Of one that was erased nothing is known.
    pub(super) fn has(&self, event: &Event) -> bool {
        self.attributes.iter().all(|(key, value)| event.attributes.get(key) == Some(value))
    }

    /// Those of a page that are meant, in their order.
    pub(super) async fn of(
        &self,
        control: &Control,
        page: Vec<DeliveryRecord>,
    ) -> Result<Vec<DeliveryRecord>, Refusal> {
        let found = page.into_iter().filter(|record| self.has(&record.event));
        let Some(wanted) = self.last_answer else { return Ok(found.collect()) };
        let tried = found.filter(|record| record.attempts > 0);
        let answered = stream::iter(tried).map(|record| async move {
            let logged = control.store.log.attempts(record.key).await?;
            Ok::<_, Refusal>((latest(&logged) == Some(wanted)).then_some(record))
        });
        let answered: Vec<_> = answered.buffered(READ_AT_ONCE).try_collect().await?;
        Ok(answered.into_iter().flatten().collect())
    }
}

impl Control {
    /// The lane of a tenant's subscription, also of one that was deleted.
    pub(super) async fn own_lane(
        &self,
        name: &SubscriptionName,
        tenant: &TenantId,
    ) -> Result<LaneNo, Refusal> {
        let lane = match name.tenant == *tenant {
            true => self.lane_of(name).await?,
            false => None,
        };
        lane.ok_or_else(|| Refusal::not_found(Subscription::WORD, name.to_string()))
    }
}

/// How the latest attempt was answered, if there was one.
fn latest(logged: &[AttemptRecord]) -> Option<AnswerClass> {
    let last = logged.iter().rfind(|it| is_attempt(it) && !it.late)?;
    Some(match last.status {
        0 => AnswerClass::None,
        200..=299 => AnswerClass::Success,
        300..=399 => AnswerClass::Redirect,
        400..=499 => AnswerClass::ClientError,
        _ => AnswerClass::ServerError,
    })
}
