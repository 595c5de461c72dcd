//! What a server is told before a measurement, and what its books say after it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use pregon_proto::v1::contract_service_client::ContractServiceClient;
use pregon_proto::v1::delivery_service_client::DeliveryServiceClient;
use pregon_proto::v1::event_type_service_client::EventTypeServiceClient;
use pregon_proto::v1::node_service_client::NodeServiceClient;
use pregon_proto::v1::subscription_service_client::SubscriptionServiceClient;
use pregon_proto::v1::tenant_service_client::TenantServiceClient;
use pregon_proto::v1::{
    Contract, CreateContractRequest, CreateEventTypeRequest, CreateSubscriptionRequest,
    CreateTenantRequest, EventType, GetReconciliationReportRequest, PauseSubscriptionRequest,
    Subscription, Tenant, WaitForRevisionRequest,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::load;

/// The contract of subscriptions for which nothing else is said.
pub const CONTRACT: &str = "contracts/standard_webhooks";
/// The one that tries again every second, and else says what the other says.
const RETRIES: &str = "bench_retries";
/// What is sent under it, and when again.
const RETRIES_DOCUMENT: &str = include_str!("retries.yaml");
/// The type of all events.
const EVENT_TYPE: &str = "bench.event";
/// How long the last deliveries may take to be settled after they were received.
const SETTLE_TIME: Duration = Duration::from_secs(30);

/// The last result is written down within this time after its delivery: usually 5 ms.
const FLUSH_TIME: Duration = Duration::from_millis(100);

/// The server's management API, and the tenants whose events are published.
#[derive(Clone, Debug)]
pub struct Server {
    channel: Channel,
    tenants: Vec<String>,
}

/// The counts of the tenants' reconciliation reports.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Books {
    /// Events accepted.
    pub accepted: i64,
    /// Of these, matched with a subscription.
    pub matched: i64,
    /// Of these, matched with none.
    pub unmatched: i64,
    /// Of these, not yet matched.
    pub awaiting_match: i64,
    /// Deliveries created.
    pub created: i64,
    /// Of these, succeeded.
    pub succeeded: i64,
    /// Of these, failed.
    pub failed: i64,
    /// Of these, cancelled.
    pub cancelled: i64,
    /// Of these, not ended.
    pub pending: i64,
    /// What the server itself says does not add up.
    pub orphans: usize,
}

impl Server {
    /// Connects to a server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(address: SocketAddr, tenants: u16) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint.connect().await.context("cannot reach the server")?;
        Ok(Self { channel, tenants: load::tenants(load::TENANT, tenants) })
    }

    /// Creates the tenants and the event type.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_tenants(&self) -> anyhow::Result<()> {
        let mut tenants = TenantServiceClient::new(self.channel.clone());
        for name in &self.tenants {
            let request = CreateTenantRequest {
                tenant_id: name.trim_start_matches("tenants/").to_owned(),
                tenant: Some(Tenant::default()),
                ..CreateTenantRequest::default()
            };
            tenants.create_tenant(request).await.context("CreateTenant")?;
        }
        let mut types = EventTypeServiceClient::new(self.channel.clone());
        let request = CreateEventTypeRequest {
            event_type_id: EVENT_TYPE.to_owned(),
            event_type: Some(EventType::default()),
            ..CreateEventTypeRequest::default()
        };
        types.create_event_type(request).await.context("CreateEventType")?;
        Ok(())
    }

    /// Creates the contract under which is tried again every second. Returns its name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_contract(&self) -> anyhow::Result<String> {
        let mut contracts = ContractServiceClient::new(self.channel.clone());
        let request = CreateContractRequest {
            contract_id: RETRIES.to_owned(),
            contract: Some(Contract {
                document: RETRIES_DOCUMENT.to_owned(),
                ..Contract::default()
            }),
            ..CreateContractRequest::default()
        };
        contracts.create_contract(request).await.context("CreateContract")?;
        Ok(format!("contracts/{RETRIES}"))
    }

    /// Creates a subscription for each URL that `urls` has for the tenant of that number, and waits
    /// until they are served. Returns their names.
    ///
    /// # Errors
    /// When the server refuses, or no node serves them.
    pub async fn subscribe(
        &self,
        contract: &str,
        urls: impl Fn(usize) -> Vec<String>,
    ) -> anyhow::Result<Vec<String>> {
        let mut subscriptions = SubscriptionServiceClient::new(self.channel.clone());
        let (mut revision, mut names) = (0, Vec::new());
        let tenants = self.tenants.iter().enumerate();
        for (tenant, url) in
            tenants.flat_map(|(number, name)| urls(number).into_iter().map(move |url| (name, url)))
        {
            let request = CreateSubscriptionRequest {
                parent: tenant.clone(),
                subscription: Some(Subscription {
                    url,
                    event_types: vec![EVENT_TYPE.to_owned()],
                    contract: contract.to_owned(),
                    ..Subscription::default()
                }),
                ..CreateSubscriptionRequest::default()
            };
            let answer = subscriptions.create_subscription(request).await;
            let answer = answer.context("CreateSubscription")?.into_inner();
            revision = answer.revision;
            names.extend(answer.subscription.map(|subscription| subscription.name));
        }
        self.served(revision).await?;
        Ok(names)
    }

    /// Pauses subscriptions and waits until that is known.
    ///
    /// # Errors
    /// When the server refuses, or no node knows it in time.
    pub async fn pause(&self, names: &[String]) -> anyhow::Result<()> {
        let mut subscriptions = SubscriptionServiceClient::new(self.channel.clone());
        let mut revision = 0;
        for name in names {
            let request = PauseSubscriptionRequest { name: name.clone(), ..Default::default() };
            let answer = subscriptions.pause_subscription(request).await;
            revision = answer.context("PauseSubscription")?.into_inner().revision;
        }
        self.served(revision).await
    }

    async fn served(&self, revision: i64) -> anyhow::Result<()> {
        let mut nodes = NodeServiceClient::new(self.channel.clone());
        let request = WaitForRevisionRequest { revision, timeout: None };
        let answer = nodes.wait_for_revision(request).await.context("WaitForRevision")?;
        ensure!(answer.get_ref().served, "no node serves revision {revision}");
        Ok(())
    }

    /// The server's books, once nothing is on its way any more, or as they are after a while.
    /// `pending` deliveries are expected to remain. With them what `look` saw just before, which so
    /// holds all that was done for them, and nothing that reading the books costs.
    ///
    /// # Errors
    /// When the server does not answer, or `look` fails.
    pub async fn books<T>(
        &self,
        may_remain: bool,
        look: impl AsyncFn() -> anyhow::Result<T>,
    ) -> anyhow::Result<(Books, T)> {
        let until = Instant::now() + SETTLE_TIME;
        loop {
            sleep(FLUSH_TIME).await;
            let seen = look().await?;
            let late = Instant::now() > until;
            if let Some(books) = self.settled(may_remain, late).await? {
                return Ok((books, seen));
            }
        }
    }

    /// The books of all tenants, unless those of one are not settled: most need not be read then.
    /// `anyway`: as they are.
    async fn settled(&self, may_remain: bool, anyway: bool) -> anyhow::Result<Option<Books>> {
        let mut all = Books::default();
        for tenant in &self.tenants {
            let books = self.report_of(tenant).await?;
            let settled = books.awaiting_match == 0 && (books.pending == 0 || may_remain);
            if !settled && !anyway {
                return Ok(None);
            }
            all.add(&books);
        }
        Ok(Some(all))
    }

    /// The books of all tenants as they are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn report(&self) -> anyhow::Result<Books> {
        let books = self.settled(true, true).await?;
        Ok(books.unwrap_or_default())
    }

    async fn report_of(&self, tenant: &str) -> anyhow::Result<Books> {
        let mut deliveries = DeliveryServiceClient::new(self.channel.clone());
        let request = GetReconciliationReportRequest {
            parent: tenant.to_owned(),
            ..GetReconciliationReportRequest::default()
        };
        let answer = deliveries.get_reconciliation_report(request).await;
        let report = answer.context("GetReconciliationReport")?.into_inner();
        let events = report.events.unwrap_or_default();
        let deliveries = report.deliveries.unwrap_or_default();
        Ok(Books {
            accepted: events.accepted,
            matched: events.matched,
            unmatched: events.unmatched,
            awaiting_match: events.awaiting_match,
            created: deliveries.created,
            succeeded: deliveries.succeeded,
            failed: deliveries.failed,
            cancelled: deliveries.cancelled,
            pending: deliveries.pending,
            orphans: report.orphans.len(),
        })
    }
}

impl Books {
    /// Adds another tenant's.
    fn add(&mut self, other: &Books) {
        self.accepted += other.accepted;
        self.matched += other.matched;
        self.unmatched += other.unmatched;
        self.awaiting_match += other.awaiting_match;
        self.created += other.created;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.pending += other.pending;
        self.orphans += other.orphans;
    }

    /// Deliveries that wait, those of events that nothing was made of yet among them.
    pub fn waiting(&self, fan_out: u64) -> u64 {
        let whole = |count: i64| u64::try_from(count).unwrap_or(0);
        whole(self.pending) + whole(self.awaiting_match) * fan_out
    }

    /// What does not add up, when `events` were acknowledged and each had `fan_out` deliveries
    /// that all succeed, and `remain` says whether others may be pending beside them.
    pub fn faults(&self, events: u64, fan_out: u64, remain: bool) -> Vec<String> {
        let ends = self.succeeded + self.failed + self.cancelled + self.pending;
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut checks = vec![
            ("accepted = acknowledged", self.accepted, whole(events)),
            (
                "matched + unmatched + awaiting_match = accepted",
                self.matched + self.unmatched + self.awaiting_match,
                self.accepted,
            ),
            ("succeeded + failed + cancelled + pending = created", ends, self.created),
            ("orphans", whole(self.orphans as u64), 0),
        ];
        if !remain {
            checks.push(("created", self.created, whole(events * fan_out)));
            checks.push(("succeeded = created", self.succeeded, self.created));
        }
        let wrong = checks.into_iter().filter(|(_, is, should)| is != should);
        wrong.map(|(what, is, should)| format!("books: {what}: {is}, not {should}")).collect()
    }
}
