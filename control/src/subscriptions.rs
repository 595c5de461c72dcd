//! SubscriptionService.
//!
//! A subscription is a receiver ([`crate::receiver`]) with a lane of its own, which comes into being
//! with it. States are configuration: what waits in the lane is moved by the nodes, which follow it.

use pregon_core::error::{Refusal, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{ContractId, EventTypeId};
use pregon_core::model::{Subscription, SubscriptionState};
use pregon_core::pattern::Pattern;
use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService;
use pregon_rpc::caller::Caller;

use crate::receiver::handlers;
use crate::service::service;
use crate::{Control, map, parse};
pub(crate) use test::Tests;

mod health;
mod kind;
pub(crate) mod preview;
mod test;

service! {
    /// The service of subscriptions.
    Subscriptions: SubscriptionService {
        create_subscription(CreateSubscriptionRequest by caller) -> CreateSubscriptionResponse;
        get_subscription(GetSubscriptionRequest) -> GetSubscriptionResponse;
        list_subscriptions(ListSubscriptionsRequest) -> ListSubscriptionsResponse;
        update_subscription(UpdateSubscriptionRequest by caller) -> UpdateSubscriptionResponse;
        delete_subscription(DeleteSubscriptionRequest) -> DeleteSubscriptionResponse;
        pause_subscription(PauseSubscriptionRequest by caller) -> PauseSubscriptionResponse;
        resume_subscription(ResumeSubscriptionRequest by caller) -> ResumeSubscriptionResponse;
        disable_subscription(DisableSubscriptionRequest by caller) -> DisableSubscriptionResponse;
        approve_subscription(ApproveSubscriptionRequest by caller) -> ApproveSubscriptionResponse;
        reject_subscription(RejectSubscriptionRequest by caller) -> RejectSubscriptionResponse;
        test_subscription(TestSubscriptionRequest by caller) -> TestSubscriptionResponse;
        preview_delivery(PreviewDeliveryRequest) -> PreviewDeliveryResponse;
        get_subscription_health(GetSubscriptionHealthRequest)
            -> GetSubscriptionHealthResponse;
    }
}

handlers! {
    Subscription as subscription, subscription_id with hints {
        create create_subscription(CreateSubscriptionRequest as "CreateSubscription") -> CreateSubscriptionResponse;
        get get_subscription(GetSubscriptionRequest) -> GetSubscriptionResponse;
        update update_subscription(UpdateSubscriptionRequest) -> UpdateSubscriptionResponse;
        delete delete_subscription(DeleteSubscriptionRequest) -> DeleteSubscriptionResponse;
        Pause pause_subscription(PauseSubscriptionRequest.note) -> PauseSubscriptionResponse;
        Resume resume_subscription(ResumeSubscriptionRequest.note) -> ResumeSubscriptionResponse;
        Disable disable_subscription(DisableSubscriptionRequest.reason) -> DisableSubscriptionResponse;
        Approve approve_subscription(ApproveSubscriptionRequest.note) -> ApproveSubscriptionResponse;
        Reject reject_subscription(RejectSubscriptionRequest.reason) -> RejectSubscriptionResponse;
    }
}

/// Which subscriptions of a list are wanted.
#[derive(Debug, Default)]
struct Filter {
    environment: Option<Environment>,
    state: Option<SubscriptionState>,
    contract: Option<ContractId>,
    event_type: Option<EventTypeId>,
    labels: Vec<(String, String)>,
}

impl Filter {
    fn parse(request: &v1::ListSubscriptionsRequest, wrong: &mut Violations) -> Self {
        let state = parse::known("state", request.state, wrong);
        let mut filter = Self {
            environment: parse::environment("environment", request.environment, wrong),
            state: state.and_then(map::from_subscription_state),
            labels: request.labels.clone().into_iter().collect(),
            ..Self::default()
        };
        if !request.contract.is_empty() {
            filter.contract = wrong.check("contract", ContractId::parse_name(&request.contract));
        }
        if !request.event_type.is_empty() {
            let parsed = EventTypeId::parse_name(&request.event_type);
            filter.event_type = wrong.check("event_type", parsed);
        }
        filter
    }

    fn wants(&self, it: &Subscription) -> bool {
        let covers = |kind: &EventTypeId| {
            let mut patterns = it.event_types.iter().filter_map(|text| Pattern::parse(text).ok());
            patterns.any(|pattern| pattern.matches(kind))
        };
        self.environment.is_none_or(|wanted| wanted == it.environment)
            && self.state.is_none_or(|wanted| wanted == it.state)
            && self.contract.as_ref().is_none_or(|wanted| *wanted == it.contract)
            && self.event_type.as_ref().is_none_or(covers)
            && self.labels.iter().all(|(key, value)| it.common.labels.get(key) == Some(value))
    }
}

impl Control {
    pub(crate) async fn list_subscriptions(
        &self,
        mut request: v1::ListSubscriptionsRequest,
    ) -> Result<v1::ListSubscriptionsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let filter = Filter::parse(&request, &mut wrong);
        let wants = |it: &Subscription| filter.wants(it);
        let (subscriptions, next_page_token) =
            self.list_receivers(&request.parent, &paging, wants, wrong).await?;
        Ok(v1::ListSubscriptionsResponse { subscriptions, next_page_token })
    }
}
