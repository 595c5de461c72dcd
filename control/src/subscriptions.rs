//! SubscriptionService.
//!
//! A subscription is a receiver ([`crate::receiver`]) with a lane of its own, which comes into being
//! with it. States are configuration: what waits in the lane is moved by the nodes, which follow it.

use pregon_core::error::{Refusal, Violations};
use pregon_core::id::EventTypeId;
use pregon_core::model::Subscription;
use pregon_core::pattern::Pattern;
use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService;
use pregon_rpc::caller::Caller;

use crate::receiver::{Filter, handlers};
use crate::service::service;
use crate::{Control, map, parse};
pub(crate) use kind::contract_of;
pub(crate) use test::Tests;

mod health;
mod kind;
pub(crate) mod preview;
mod test;
mod verification;

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
        open_lane(OpenLaneRequest by caller) -> OpenLaneResponse;
        disable_subscription(DisableSubscriptionRequest by caller) -> DisableSubscriptionResponse;
        approve_subscription(ApproveSubscriptionRequest by caller) -> ApproveSubscriptionResponse;
        reject_subscription(RejectSubscriptionRequest by caller) -> RejectSubscriptionResponse;
        verify_subscription(VerifySubscriptionRequest) -> VerifySubscriptionResponse;
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
        Open open_lane(OpenLaneRequest) -> OpenLaneResponse;
        Disable disable_subscription(DisableSubscriptionRequest.reason) -> DisableSubscriptionResponse;
        Approve approve_subscription(ApproveSubscriptionRequest.note) -> ApproveSubscriptionResponse;
        Reject reject_subscription(RejectSubscriptionRequest.reason) -> RejectSubscriptionResponse;
    }
}

/// Whether a subscription has a pattern that an event type matches.
fn covers(it: &Subscription, kind: &EventTypeId) -> bool {
    let mut patterns = it.event_types.iter().filter_map(|text| Pattern::parse(text).ok());
    patterns.any(|pattern| pattern.matches(kind))
}

impl Control {
    pub(crate) async fn list_subscriptions(
        &self,
        mut request: v1::ListSubscriptionsRequest,
    ) -> Result<v1::ListSubscriptionsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let state = parse::known("state", request.state, &mut wrong);
        let state = state.and_then(map::from_subscription_state);
        let chosen = (request.environment, request.contract.as_str());
        let filter = Filter::parse(chosen, &request.labels, state, &mut wrong);
        let kind = match request.event_type.as_str() {
            "" => None,
            name => wrong.check("event_type", EventTypeId::parse_name(name)),
        };
        let wants = |it: &Subscription| {
            filter.wants(it) && kind.as_ref().is_none_or(|kind| covers(it, kind))
        };
        let (subscriptions, next_page_token) =
            self.list_receivers(&request.parent, &paging, wants, wrong).await?;
        Ok(v1::ListSubscriptionsResponse { subscriptions, next_page_token })
    }
}
