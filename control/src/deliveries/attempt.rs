//! Attempts, from the log to the wire.
//!
//! The log keeps what came back and what was decided. What was sent is rendered again from what
//! does not change: the event, the contract, the attempt's number and start time; labels are those
//! of today. Values that the contract, the event type or the subscription call sensitive are taken
//! out first. Where the contract's document is no longer what it was, nothing is rendered, for it
//! would not be what was sent. A signature's value is not made again (a viewer needs no key), only
//! its header is shown, masked, where a key signed. Headers that the subscription added are in the
//! log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, MASKED, RecordKind, ResponseHead};
use pregon_core::contract::{Contract, RenderInput, redacted_url, render, render_redacted};
use pregon_core::error::Refusal;
use pregon_core::event::Event;
use pregon_core::header::is_credential;
use pregon_core::id::{AttemptName, ContractId, DeliveryName, SubscriptionName};
use pregon_core::model::{Subscription, Tenant};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason};
use pregon_core::redact::{SensitivePath, SensitiveRoot, redact};
use pregon_core::url::EndpointUrl;
use pregon_proto::v1;
use pregon_rpc::time;
use pregon_store::log::DeliveryRecord;
use prost::Message as _;

use crate::listing::{PAGE_BYTES, Paging};
use crate::{Control, map};

/// What stands in the place of a body whose contract has changed.
const CHANGED: &str = "[not shown: the contract has changed since]";
/// What stands in the place of the body of an erased event.
const ERASED: &str = "[not shown: the event was erased]";
/// What stands in the place of a body whose contract is gone.
const GONE: &str = "[not shown: the contract has been deleted since]";

/// What is known of a delivery beside its records.
struct Context {
    name: DeliveryName,
    record: DeliveryRecord,
    owner: Option<SubscriptionName>,
    /// The subscription, if it is still there.
    subscription: Option<Subscription>,
    tenant_labels: BTreeMap<String, String>,
    /// The contracts of the attempts, as they are now.
    contracts: HashMap<ContractId, Arc<Contract>>,
    /// The event, its sensitive values taken out but for the contract's own.
    redacted: Event,
    /// The paths to those.
    paths: Vec<SensitivePath>,
}

/// Whether a record tells of an attempt, or of one that should have been.
pub(super) fn is_attempt(record: &AttemptRecord) -> bool {
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
        let context = self.context(name, record, owner, subscription, &records).await?;
        Ok((context, records))
    }

    /// What is known beside the records.
    async fn context(
        &self,
        name: &DeliveryName,
        record: DeliveryRecord,
        owner: Option<SubscriptionName>,
        subscription: Option<Subscription>,
        records: &[AttemptRecord],
    ) -> Result<Context, Refusal> {
        let mut contracts = HashMap::new();
        for id in records.iter().map(|record| &record.contract) {
            if !contracts.contains_key(id)
                && let Some(contract) = self.find_contract(id).await?
            {
                contracts.insert(id.clone(), contract);
            }
        }
        let tenant = self.find::<Tenant>(&name.tenant.name()).await?;
        let paths = self.rules([&record.event]).await?.paths(&record.event);
        let data = match record.event.erased {
            None => redact(&record.event.data, SensitiveRoot::Event, &paths),
            Some(_) => Bytes::new(),
        };
        Ok(Context {
            name: name.clone(),
            redacted: Event { data, ..record.event.clone() },
            record,
            owner,
            subscription,
            tenant_labels: tenant.map(|it| it.value.common.labels).unwrap_or_default(),
            contracts,
            paths,
        })
    }

    fn shown_attempt(&self, context: &Context, record: &AttemptRecord) -> v1::Attempt {
        let name = AttemptName { delivery: context.name.clone(), number: record.number };
        v1::Attempt {
            name: name.to_string(),
            request: self.request(context, record),
            ..of_event(&context.record.event, record)
        }
    }

    /// What was sent, rendered again; none where nothing could be made to send.
    fn request(&self, context: &Context, record: &AttemptRecord) -> Option<v1::AttemptRequest> {
        if record.kind == RecordKind::Ended {
            return None;
        }
        let contract = context.contracts.get(&record.contract);
        let own = || record.url.to_string();
        if context.record.event.erased.is_some() {
            let (method, body) = ("POST".to_owned(), ERASED.to_owned());
            return Some(v1::AttemptRequest { method, url: own(), body, ..Default::default() });
        }
        let (url, mut headers, body) = match contract {
            None => (own(), Vec::new(), GONE.to_owned()),
            Some(it) if it.revision() != record.contract_revision => {
                (own(), Vec::new(), CHANGED.to_owned())
            }
            Some(contract) => self.rendered(context, record, contract)?,
        };
        headers.extend(record.headers.iter().map(|(name, value)| line(name, value)));
        Some(v1::AttemptRequest { method: "POST".to_owned(), url, headers, body })
    }

    /// URL, headers and body that a contract makes, without what is sensitive.
    fn rendered(
        &self,
        context: &Context,
        record: &AttemptRecord,
        contract: &Contract,
    ) -> Option<(String, Vec<v1::Header>, String)> {
        let url = EndpointUrl::parse_stored(&record.url).ok()?;
        let none = BTreeMap::new();
        let labels = context.subscription.as_ref().map_or(&none, |it| &it.common.labels);
        let input = RenderInput {
            event: &context.record.event,
            tenant_labels: &context.tenant_labels,
            delivery: record.key,
            create_time: context.record.create_time,
            test: false,
            subscription: &context.owner.as_ref()?.subscription,
            subscription_labels: labels,
            url: &url,
            attempt: record.number,
            attempt_time: record.start,
            user_agent: &self.user_agent,
        };
        let body = render_redacted(contract, &input, &context.paths);
        // Headers may hold data too.
        let data = redact(&context.redacted.data, SensitiveRoot::Event, contract.sensitive());
        let event = Event { data, ..context.redacted.clone() };
        let rendered = render(contract, &RenderInput { event: &event, ..input });
        let lines = rendered.map(|rendered| rendered.headers().to_vec()).unwrap_or_default();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut headers: Vec<_> =
            lines.iter().map(|header| line(&header.name, &text(&header.value))).collect();
        let late = contract.late_headers(record.secrets.len());
        headers.extend(late.into_iter().map(|name| line(name, MASKED)));
        let url = redacted_url(contract, &RenderInput { event: &event, ..input });
        Some((url, headers, text(&body)))
    }
}

/// A header as it is shown: its name as on the wire, without what may be a credential.
fn line(name: &str, value: &str) -> v1::Header {
    let value = if is_credential(name) { MASKED } else { value };
    let (name, value) = (name.to_owned(), value.to_owned());
    v1::Header { name, value, ..Default::default() }
}

/// What a record tells of an attempt of an event. Of one that was erased meanwhile the answer is not
/// shown, also where it came afterwards and still lies there.
pub(super) fn of_event(event: &Event, record: &AttemptRecord) -> v1::Attempt {
    match event.erased {
        Some(_) => to_wire(&record.stripped()),
        None => to_wire(record),
    }
}

/// What a record tells of an attempt: all but its name and the request.
pub(crate) fn to_wire(record: &AttemptRecord) -> v1::Attempt {
    v1::Attempt {
        number: map::small(record.number),
        node: record.node.name(),
        start_time: map::moment(record.start),
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
        resent: record.resent,
        ..Default::default()
    }
}

/// What was decided. An attempt that could not even be made has failed; of one that was lost
/// nobody decided.
fn outcome(record: &AttemptRecord) -> Option<AttemptOutcome> {
    let failed = record.end.is_some_and(|end| end.state == DeliveryState::Failed);
    record.outcome.or(failed.then_some(AttemptOutcome::Failed))
}

/// Headers that nothing is to be hidden of any more.
pub(crate) fn as_sent(headers: &[(String, String)]) -> Vec<v1::Header> {
    let header = |(name, value): &(String, String)| {
        let (name, value) = (name.clone(), value.clone());
        v1::Header { name, value, ..Default::default() }
    };
    headers.iter().map(header).collect()
}

fn response(record: &AttemptRecord) -> v1::AttemptResponse {
    let nothing = ResponseHead::default();
    let kept = record.response.as_ref().unwrap_or(&nothing);
    v1::AttemptResponse {
        status: i32::from(record.status),
        headers: as_sent(&kept.headers),
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
