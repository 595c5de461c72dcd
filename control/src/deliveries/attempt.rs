//! Attempts, from the log to the wire.
//!
//! The log keeps what came back and what was decided. What was sent is rendered again from what
//! does not change: the event, the contract, the attempt's number and start time. The signature's
//! value is not made again (a viewer needs no key), only its header is shown, masked. Headers that
//! the subscription adds are shown as they are today.

use std::time::Duration;

use pregon_core::attempt::{AttemptRecord, RecordKind, ResponseHead};
use pregon_core::contract::{RenderInput, render};
use pregon_core::error::Refusal;
use pregon_core::id::{AttemptName, DeliveryName, SubscriptionName};
use pregon_core::model::Subscription;
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason};
use pregon_core::url::EndpointUrl;
use pregon_proto::v1;
use pregon_rpc::time;
use pregon_store::log::DeliveryRecord;
use prost::Message as _;

use crate::listing::{PAGE_BYTES, Paging};
use crate::{Control, map};

/// What stands in the place of a value that is not shown.
const MASKED: &str = "[masked]";

/// Parts of header names that carry credentials more often than not.
const CREDENTIALS: [&str; 8] =
    ["auth", "cookie", "credential", "key", "passw", "secret", "signature", "token"];

/// What is known of a delivery beside its records.
struct Context {
    name: DeliveryName,
    record: DeliveryRecord,
    owner: Option<SubscriptionName>,
    /// The subscription, if it is still there.
    subscription: Option<Subscription>,
}

/// Whether a record tells of an attempt, or of one that should have been.
fn is_attempt(record: &AttemptRecord) -> bool {
    match record.kind {
        RecordKind::Attempt | RecordKind::Lost => true,
        RecordKind::Ended => {
            record.end.is_some_and(|end| end.reason == Some(EndReason::RenderFailed))
        }
    }
}

impl Control {
    /// One attempt; where a crash made it twice, the one whose end was seen.
    pub(super) async fn attempt(&self, name: &AttemptName) -> Result<v1::Attempt, Refusal> {
        let (context, records) = self.attempt_records(&name.delivery).await?;
        let numbered = || records.iter().filter(|record| record.number == name.number);
        let seen = numbered().rfind(|it| it.kind == RecordKind::Attempt && !it.late);
        let record = seen.or_else(|| numbered().next_back());
        let record = record.ok_or_else(|| Refusal::not_found("attempt", name.to_string()))?;
        Ok(self.shown_attempt(&context, record))
    }

    /// A page of attempts that is no larger than a client takes.
    pub(super) async fn attempts(
        &self,
        parent: &DeliveryName,
        paging: &Paging,
    ) -> Result<(Vec<v1::Attempt>, Option<String>), Refusal> {
        let (context, records) = self.attempt_records(parent).await?;
        let start: usize = paging.from.as_deref().and_then(|at| at.parse().ok()).unwrap_or(0);
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (index, record) in records.iter().enumerate().skip(start) {
            let attempt = self.shown_attempt(&context, record);
            bytes += attempt.encoded_len();
            let full = items.len() == paging.size || (bytes > PAGE_BYTES && !items.is_empty());
            if full {
                return Ok((items, Some(index.to_string())));
            }
            items.push(attempt);
        }
        Ok((items, None))
    }

    async fn attempt_records(
        &self,
        name: &DeliveryName,
    ) -> Result<(Context, Vec<AttemptRecord>), Refusal> {
        let record = self.delivery(name).await?;
        let lane = record.key.lane;
        let mut owners = self.lane_owners([(name.tenant.clone(), lane)]).await?;
        let owner = owners.remove(&lane);
        let subscription = match &owner {
            Some(owner) => self.find::<Subscription>(&owner.to_string()).await?,
            None => None,
        };
        let subscription = subscription.map(|it| it.value).filter(|it| it.lane == lane);
        let mut records = self.store.log.attempts(name.delivery).await?;
        records.retain(is_attempt);
        Ok((Context { name: name.clone(), record, owner, subscription }, records))
    }

    fn shown_attempt(&self, context: &Context, record: &AttemptRecord) -> v1::Attempt {
        let name = AttemptName { delivery: context.name.clone(), number: record.number };
        v1::Attempt {
            name: name.to_string(),
            number: map::small(record.number),
            node: record.node.name(),
            start_time: map::moment(record.start),
            request: self.request(context, record),
            response: (record.status != 0).then(|| response(record)),
            timing: Some(timing(record)),
            remote_address: record.remote.map(|at| at.to_string()).unwrap_or_default(),
            outcome: outcome(record).map_or(0, |it| map::outcome(it).into()),
            reason: record.reason.clone(),
            error_class: record.error_class.map_or(0, |it| map::error_class(it).into()),
            next_attempt_time: record.next_attempt.and_then(map::moment),
            configuration_revision: record.configuration_revision,
            contract_revision: record.contract_revision,
            secrets: record.secrets.iter().map(ToString::to_string).collect(),
        }
    }

    /// What was sent, rendered again; none where nothing could be made to send.
    fn request(&self, context: &Context, record: &AttemptRecord) -> Option<v1::AttemptRequest> {
        if record.kind == RecordKind::Ended {
            return None;
        }
        let contract = self.contracts.get(&record.contract).ok()?;
        let url = EndpointUrl::parse_stored(&record.url).ok()?;
        let input = RenderInput {
            event: &context.record.event,
            delivery: record.key,
            subscription: &context.owner.as_ref()?.subscription,
            url: &url,
            attempt: record.number,
            attempt_time: record.start,
            user_agent: &self.user_agent,
        };
        let rendered = render(contract, &input).ok()?;
        let line = |name: &str, value: &str| v1::Header {
            name: name.to_owned(),
            value: if is_credential(name) { MASKED.to_owned() } else { value.to_owned() },
        };
        let mut headers: Vec<_> = rendered
            .headers
            .iter()
            .map(|header| line(&header.name, &String::from_utf8_lossy(&header.value)))
            .collect();
        for name in contract.header_names() {
            if !headers.iter().any(|header| header.name == name) {
                headers.push(v1::Header { name: name.to_owned(), value: MASKED.to_owned() });
            }
        }
        let own = context.subscription.iter().flat_map(|subscription| &subscription.headers);
        headers.extend(own.map(|(name, value)| line(name, value)));
        Some(v1::AttemptRequest {
            method: "POST".to_owned(),
            url: record.url.to_string(),
            headers,
            body: String::from_utf8_lossy(&rendered.body).into_owned(),
        })
    }
}

/// What was decided. An attempt that could not even be made has failed; of one that was lost
/// nobody decided.
fn outcome(record: &AttemptRecord) -> Option<AttemptOutcome> {
    let failed = record.end.is_some_and(|end| end.state == DeliveryState::Failed);
    record.outcome.or(failed.then_some(AttemptOutcome::Failed))
}

/// Whether a header's value is better not shown.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

fn response(record: &AttemptRecord) -> v1::AttemptResponse {
    let nothing = ResponseHead::default();
    let kept = record.response.as_ref().unwrap_or(&nothing);
    let header =
        |(name, value): &(String, String)| v1::Header { name: name.clone(), value: value.clone() };
    v1::AttemptResponse {
        status: i32::from(record.status),
        headers: kept.headers.iter().map(header).collect(),
        body: String::from_utf8_lossy(&kept.body).into_owned(),
        truncated: kept.truncated,
    }
}

/// Stages that did not happen are absent; the whole attempt always took some time.
fn timing(record: &AttemptRecord) -> v1::AttemptTiming {
    let micros = |length: u32| time::duration(Duration::from_micros(u64::from(length)));
    let stage = |length: u32| (length != 0).then(|| micros(length));
    v1::AttemptTiming {
        dns: stage(record.timing.dns),
        connect: stage(record.timing.connect),
        tls: stage(record.timing.tls),
        first_byte: stage(record.timing.first_byte),
        total: Some(micros(record.timing.total)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_credential;

    #[test]
    fn values_that_may_be_credentials_are_told_by_name() {
        for name in ["Authorization", "X-Api-Key", "webhook-signature", "set-cookie", "x-token"] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["content-type", "webhook-id", "webhook-timestamp", "x-tenant"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
