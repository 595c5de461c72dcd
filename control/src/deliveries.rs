//! DeliveryService: what became of events, and what can be done about it.
//!
//! Everything is read from the log and shown under the names of today's configuration: whose lane a
//! delivery went by is looked up ([`lanes`](crate::lanes)), its contract is its subscription's (or
//! that of the lane's last attempt, where the subscription is gone), and what an attempt sent is
//! rendered again (`attempt`). What belongs to another tenant does not exist. Replays (`replay`), what is
//! missing (`missing`), retries (`retry`) and cancels go to the queue, whose steps are safe to repeat.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::event::Environment;
use pregon_core::event::Event;
use pregon_core::id::{
    AttemptName, ContractId, DeliveryName, EventName, EventTypeId, LaneNo, SubscriptionName,
    TenantId,
};
use pregon_core::model::{Subscription, Tenant};
use pregon_core::outcome::{DeliveryState, EndReason};
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService;
use pregon_rpc::caller::Caller;
use pregon_store::audit::WhenFull;
use pregon_store::log::{DeliveryQuery, DeliveryRecord, EventQuery, EventStage, Most};
use pregon_store::operate::Cancelled;
use tokio::time::Instant;

use crate::Control;
use crate::commit::How;
use crate::listing::{PAGE_BYTES, Paging};
use crate::parse::Scope;
use crate::service::{enter, environment, service};
use crate::{catalog, map, parse};
use course::{Answers, run};

pub(crate) mod attempt;
mod cancel;
mod chosen;
mod course;
mod erase;
mod explain;
mod missing;
mod replay;
mod report;
mod retry;
pub(crate) mod show;
mod watch;

service! {
    /// The service of events, deliveries and attempts.
    Deliveries: DeliveryService {
        get_event(GetEventRequest) -> GetEventResponse;
        explain_event(ExplainEventRequest) -> ExplainEventResponse;
        list_events(ListEventsRequest) -> ListEventsResponse;
        get_delivery(GetDeliveryRequest) -> GetDeliveryResponse;
        list_deliveries(ListDeliveriesRequest) -> ListDeliveriesResponse;
        list_attempts(ListAttemptsRequest) -> ListAttemptsResponse;
        get_attempt(GetAttemptRequest) -> GetAttemptResponse;
        replay_delivery(ReplayDeliveryRequest by caller) -> ReplayDeliveryResponse;
        cancel_delivery(CancelDeliveryRequest by caller) -> CancelDeliveryResponse;
        cancel_event(CancelEventRequest by caller) -> CancelEventResponse;
        erase_event(EraseEventRequest) -> EraseEventResponse;
        get_reconciliation_report(GetReconciliationReportRequest)
            -> GetReconciliationReportResponse;
    }
    with {
        type ReplayDeliveriesStream = Answers<v1::ReplayDeliveriesResponse>;

        async fn replay_deliveries(
            &self,
            request: tonic::Request<v1::ReplayDeliveriesRequest>,
        ) -> Result<tonic::Response<Self::ReplayDeliveriesStream>, tonic::Status> {
            let method = ("DeliveryService", "ReplayDeliveriesRequest");
            run(&self.0, request, method, replay::many::begin).await
        }

        type RetryNowStream = Answers<v1::RetryNowResponse>;

        async fn retry_now(
            &self,
            request: tonic::Request<v1::RetryNowRequest>,
        ) -> Result<tonic::Response<Self::RetryNowStream>, tonic::Status> {
            run(&self.0, request, ("DeliveryService", "RetryNowRequest"), retry::begin).await
        }

        type DeliverMissingStream = Answers<v1::DeliverMissingResponse>;

        async fn deliver_missing(
            &self,
            request: tonic::Request<v1::DeliverMissingRequest>,
        ) -> Result<tonic::Response<Self::DeliverMissingStream>, tonic::Status> {
            run(&self.0, request, ("DeliveryService", "DeliverMissingRequest"), missing::begin).await
        }

        type EraseEventsStream = erase::Answers;

        async fn erase_events(
            &self,
            request: tonic::Request<v1::EraseEventsRequest>,
        ) -> Result<tonic::Response<Self::EraseEventsStream>, tonic::Status> {
            run(&self.0, request, ("DeliveryService", "EraseEventsRequest"), erase::begin).await
        }

        type WatchDeliveriesStream = watch::Answers;

        async fn watch_deliveries(
            &self,
            request: tonic::Request<v1::WatchDeliveriesRequest>,
        ) -> Result<tonic::Response<Self::WatchDeliveriesStream>, tonic::Status> {
            let method = ("DeliveryService", "WatchDeliveriesRequest");
            let (call, request) = enter(&self.0, request, method).await?;
            let watch = watch::begin(std::sync::Arc::clone(&self.0), request, call).await;
            watch.map(tonic::Response::new).map_err(pregon_rpc::status::status)
        }
    }
}

/// Events, with their data, that one call to the store answers with.
const EVENTS: usize = 32;
/// Deliveries, with their events, that one call to the store answers with.
const DELIVERIES: usize = 100;
/// Calls to the store that one page makes at most; filters may leave each of them empty.
const CALLS: usize = 20;
/// How long more calls are made for a page that has nothing yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The calls that one page makes.
struct Looks {
    calls: usize,
    until: Instant,
}

impl Looks {
    fn begin() -> Self {
        Self { calls: 0, until: Instant::now() + PATIENCE }
    }

    /// Whether there may be another one.
    fn goes_on(&mut self, found: usize) -> bool {
        self.calls += 1;
        self.calls <= CALLS || (found == 0 && Instant::now() < self.until)
    }
}

fn event_size(event: &Event) -> usize {
    // Beside the data: names, id and type, twice 128 bytes at most, and some times.
    event.data.len() + 1024
}

impl Control {
    /// The tenant of a list must exist; all tenants always do. Answers the moment before which nothing
    /// was the tenant's, if there was one of the same name before.
    async fn check_scope(&self, scope: &Scope) -> Result<Option<Timestamp>, Refusal> {
        match scope.tenant() {
            None => Ok(None),
            Some(tenant) => Ok(self.fetch::<Tenant>(&tenant.name()).await?.value.since),
        }
    }

    /// Of what lists found, that which belongs to tenants that exist.
    async fn of_tenants<T>(
        &self,
        found: Vec<T>,
        event: impl Fn(&T) -> &Event,
    ) -> Result<Vec<T>, Refusal> {
        let since = self.since_of(found.iter().map(|it| event(it).tenant.clone())).await?;
        let is_own = |it: &T| {
            let since = since.get(&event(it).tenant);
            since.is_some_and(|since| since.is_none_or(|since| event(it).accept_time() >= since))
        };
        Ok(found.into_iter().filter(is_own).collect())
    }

    /// The moments before which nothing was theirs, of those tenants that exist.
    async fn since_of(
        &self,
        tenants: impl Iterator<Item = TenantId>,
    ) -> Result<HashMap<TenantId, Option<Timestamp>>, Refusal> {
        let names: BTreeSet<String> = tenants.map(|tenant| tenant.name()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let mut since = HashMap::new();
        if names.is_empty() {
            return Ok(since);
        }
        for document in self.store.config.get(&names).await?.iter().flatten() {
            let tenant = catalog::read::<Tenant>(document)?.value;
            since.insert(tenant.id, tenant.since);
        }
        Ok(since)
    }

    /// An event of a tenant that exists, and how far it got.
    pub(crate) async fn event(&self, name: &EventName) -> Result<(Event, EventStage), Refusal> {
        let gone = || Refusal::not_found("event", name.to_string());
        let position = self.store.log.find(name).await?.ok_or_else(gone)?;
        let found = self.store.log.event(position).await?;
        let found = found.filter(|(event, _)| event.tenant == name.tenant);
        let found = self.of_tenants(Vec::from_iter(found), |(event, _)| event).await?;
        found.into_iter().next().ok_or_else(gone)
    }

    pub(crate) async fn get_event(
        &self,
        request: v1::GetEventRequest,
    ) -> Result<v1::GetEventResponse, Refusal> {
        let name = parse::only("name", EventName::parse(&request.name))?;
        let (event, stage) = self.event(&name).await?;
        let event = Some(show::event(self.redacted(event).await?));
        Ok(v1::GetEventResponse { event, stage: explain::wire_stage(&stage).into() })
    }

    pub(crate) async fn list_events(
        &self,
        mut request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let scope = wrong.check("parent", Scope::parse(&request.parent));
        let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
        let mut query = EventQuery {
            environment: parse::environment("environment", request.environment, &mut wrong)
                .or_else(environment),
            from,
            to,
            unmatched_only: request.unmatched_only,
            scheduled_only: request.scheduled_only,
            ..EventQuery::default()
        };
        query.event_type = event_type(&request.event_type, &mut wrong);
        let scope = parse::done(wrong, scope)?;
        query.from = query.from.max(self.check_scope(&scope).await?);
        query.tenant = scope.tenant().cloned();
        let (events, next) = self.events(&query, &paging).await?;
        let events = self.all_redacted(events).await?.into_iter().map(show::event).collect();
        let next_page_token = self.next_page(&paging, next.as_deref());
        Ok(v1::ListEventsResponse { events, next_page_token })
    }

    /// A page of events that is no larger than a client takes.
    async fn events(
        &self,
        query: &EventQuery,
        paging: &Paging,
    ) -> Result<(Vec<Event>, Option<String>), Refusal> {
        let (mut place, mut items, mut bytes) = (paging.from.clone(), Vec::new(), 0);
        let mut looks = Looks::begin();
        while looks.goes_on(items.len()) {
            let most =
                Most { items: EVENTS.min(paging.size - items.len()), bytes: PAGE_BYTES - bytes };
            let page = self.store.log.events(query, place.as_deref(), most).await?;
            bytes += page.items.iter().map(event_size).sum::<usize>();
            match query.tenant {
                Some(_) => items.extend(page.items),
                None => items.extend(self.of_tenants(page.items, |event| event).await?),
            }
            place = page.next;
            if place.is_none() || items.len() >= paging.size || bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok((items, place))
    }

    /// A delivery of this tenant.
    async fn delivery(&self, name: &DeliveryName) -> Result<DeliveryRecord, Refusal> {
        let found = self.store.log.delivery(name.delivery).await?;
        let found = found.filter(|record| record.event.tenant == name.tenant);
        let found = self.of_tenants(Vec::from_iter(found), |record| &record.event).await?;
        let gone = || Refusal::not_found("delivery", name.to_string());
        found.into_iter().next().ok_or_else(gone)
    }

    /// The environment of an event, or of that of a delivery or of what lies below one; none where
    /// there is none of this name.
    pub(crate) async fn environment_of_event(
        &self,
        name: &str,
    ) -> Result<Option<Environment>, Refusal> {
        let found = match (EventName::parse(name), DeliveryName::parse(name)) {
            (Ok(name), _) => self.event(&name).await.map(|(event, _)| event.environment),
            (_, Ok(name)) => self.delivery(&name).await.map(|found| found.event.environment),
            (Err(_), Err(_)) => return Ok(None),
        };
        match found {
            Err(refusal) if refusal.reason == Reason::ResourceNotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Deliveries as the API shows them.
    async fn shown(&self, records: &[DeliveryRecord]) -> Result<Vec<v1::Delivery>, Refusal> {
        let lanes = records.iter().map(|it| (it.event.tenant.clone(), it.key.lane));
        let owners = self.lane_owners(lanes).await?;
        let contracts = self.lane_contracts(&owners, records).await?;
        let shown = |it: &DeliveryRecord| {
            let lane = it.key.lane;
            show::delivery(it, owners.get(&lane), contracts.get(&lane))
        };
        Ok(records.iter().map(shown).collect())
    }

    /// The contracts of these deliveries' lanes, as far as they are known.
    async fn lane_contracts(
        &self,
        owners: &HashMap<LaneNo, SubscriptionName>,
        records: &[DeliveryRecord],
    ) -> Result<HashMap<LaneNo, ContractId>, Refusal> {
        let names: Vec<_> = owners.values().map(ToString::to_string).collect();
        let mut contracts = HashMap::new();
        for document in self.store.config.get(&names).await?.iter().flatten() {
            let subscription = catalog::read::<Subscription>(document)?.value;
            contracts.insert(subscription.lane, subscription.contract);
        }
        for record in records.iter().filter(|record| record.attempts > 0) {
            if let Entry::Vacant(place) = contracts.entry(record.key.lane) {
                let attempts = self.store.log.attempts(record.key).await?;
                if let Some(last) = attempts.last() {
                    place.insert(last.contract.clone());
                }
            }
        }
        Ok(contracts)
    }

    async fn shown_one(&self, record: &DeliveryRecord) -> Result<Option<v1::Delivery>, Refusal> {
        self.shown(std::slice::from_ref(record)).await.map(|mut shown| shown.pop())
    }

    pub(crate) async fn get_delivery(
        &self,
        request: v1::GetDeliveryRequest,
    ) -> Result<v1::GetDeliveryResponse, Refusal> {
        let name = parse::only("name", DeliveryName::parse(&request.name))?;
        let record = self.delivery(&name).await?;
        Ok(v1::GetDeliveryResponse { delivery: self.shown_one(&record).await? })
    }

    pub(crate) async fn list_deliveries(
        &self,
        mut request: v1::ListDeliveriesRequest,
    ) -> Result<v1::ListDeliveriesResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let scope = wrong.check("parent", Scope::parse(&request.parent));
        let (from, to) = parse::time_range(request.time_range.as_ref(), &mut wrong);
        let state = parse::known("state", request.state, &mut wrong);
        let end_reason = parse::known("end_reason", request.end_reason, &mut wrong);
        let mut query = DeliveryQuery {
            event_type: event_type(&request.event_type, &mut wrong),
            state: state.and_then(map::from_state),
            end_reason: end_reason.and_then(map::from_end_reason),
            from,
            to,
            ..DeliveryQuery::default()
        };
        let event = (!request.event.is_empty())
            .then(|| wrong.check("event", EventName::parse(&request.event)))
            .flatten();
        let subscription = (!request.subscription.is_empty())
            .then(|| wrong.check("subscription", SubscriptionName::parse(&request.subscription)))
            .flatten();
        let scope = parse::done(wrong, scope)?;
        query.from = query.from.max(self.check_scope(&scope).await?);
        query.tenant = scope.tenant().cloned();
        if let Some(event) = &event {
            query.event = self.store.log.find(event).await?;
        }
        if let Some(subscription) = &subscription {
            query.lane = self.lane_of(subscription).await?;
        }
        let nothing = (event.is_some() && query.event.is_none())
            || (subscription.is_some() && query.lane.is_none());
        if nothing {
            return Ok(v1::ListDeliveriesResponse::default());
        }
        let (records, next) = self.deliveries(&query, &paging).await?;
        let deliveries = self.shown(&records).await?;
        let next_page_token = self.next_page(&paging, next.as_deref());
        Ok(v1::ListDeliveriesResponse { deliveries, next_page_token })
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        paging: &Paging,
    ) -> Result<(Vec<DeliveryRecord>, Option<String>), Refusal> {
        let (mut place, mut items) = (paging.from.clone(), Vec::new());
        let mut looks = Looks::begin();
        while looks.goes_on(items.len()) {
            let want = DELIVERIES.min(paging.size - items.len());
            let page = self.store.log.deliveries(query, place.as_deref(), want).await?;
            // The store goes by the event's time; a replay came later.
            let before = |it: &DeliveryRecord| query.to.is_none_or(|to| it.create_time < to);
            let own = |it: &DeliveryRecord| {
                environment().is_none_or(|environment| environment == it.event.environment)
            };
            let found = page.items.into_iter().filter(|it| before(it) && own(it));
            match query.tenant {
                Some(_) => items.extend(found),
                None => items.extend(self.of_tenants(found.collect(), |it| &it.event).await?),
            }
            place = page.next;
            if place.is_none() || items.len() >= paging.size {
                break;
            }
        }
        Ok((items, place))
    }

    pub(crate) async fn cancel_delivery(
        &self,
        request: v1::CancelDeliveryRequest,
        caller: &Caller,
    ) -> Result<v1::CancelDeliveryResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", DeliveryName::parse(&request.name));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CancelDelivery", &request, options, &mut wrong);
        let name = parse::done(wrong, name)?;
        if let Some(repeat) = &how.repeat {
            self.recent.note(repeat, self.clock.now())?;
        }
        let record = self.delivery(&name).await?;
        let pending = check_cancel(&name, &record)?;
        if !pending || how.validate_only {
            return Ok(v1::CancelDeliveryResponse { delivery: self.shown_one(&record).await? });
        }
        let cancel = async {
            match self.store.operate.cancel(name.delivery, EndReason::ByCaller).await? {
                Cancelled::Unknown => Err(Refusal::not_found("delivery", name.to_string())),
                Cancelled::Ended(_) | Cancelled::Done | Cancelled::InFlight => {
                    let record = self.delivery(&name).await?;
                    check_cancel(&name, &record)?;
                    Ok(record)
                }
            }
        };
        // It makes room, so it passes where there is none.
        let record = self.with_entry(&name.to_string(), WhenFull::Written, cancel).await?;
        Ok(v1::CancelDeliveryResponse { delivery: self.shown_one(&record).await? })
    }

    pub(crate) async fn get_attempt(
        &self,
        request: v1::GetAttemptRequest,
    ) -> Result<v1::GetAttemptResponse, Refusal> {
        let name = parse::only("name", AttemptName::parse(&request.name))?;
        let attempt = self.attempt(&name).await?;
        Ok(v1::GetAttemptResponse { attempt: Some(attempt) })
    }

    pub(crate) async fn list_attempts(
        &self,
        mut request: v1::ListAttemptsRequest,
    ) -> Result<v1::ListAttemptsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let parent = wrong.check("parent", DeliveryName::parse(&request.parent));
        let parent = parse::done(wrong, parent)?;
        let (attempts, next) = self.attempts(&parent, &paging).await?;
        let next_page_token = self.next_page(&paging, next.as_deref());
        Ok(v1::ListAttemptsResponse { attempts, next_page_token })
    }
}

/// Whether there is something to cancel; refuses where the delivery ended in another way.
fn check_cancel(name: &DeliveryName, record: &DeliveryRecord) -> Result<bool, Refusal> {
    match (record.state, record.end_reason) {
        (DeliveryState::Pending, _) => Ok(true),
        (DeliveryState::Cancelled, Some(EndReason::ByCaller)) => Ok(false),
        (DeliveryState::Cancelled | DeliveryState::Succeeded | DeliveryState::Failed, _) => {
            let message = format!("{name} has ended: it is {}", record.state);
            Err(Refusal::new(Reason::StateConflict, message).about("delivery", name))
        }
    }
}

/// The filter by event type, if there is one.
fn event_type(given: &str, wrong: &mut Violations) -> Option<EventTypeId> {
    match given.is_empty() {
        true => None,
        false => wrong.check("event_type", EventTypeId::parse_name(given)),
    }
}
