//! CallbackService.
//!
//! A callback is a receiver like a subscription ([`crate::receiver`]), without lane and without
//! patterns. Whoever asks it reads it from the configuration.

use pregon_core::error::{Refusal, Violations};
use pregon_core::model::Callback;
use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService;
use pregon_rpc::caller::Caller;

use crate::receiver::{Filter, handlers};
use crate::service::service;
use crate::{Control, map, parse};

mod kind;

service! {
    /// The service of callbacks.
    Callbacks: CallbackService {
        create_callback(CreateCallbackRequest by caller) -> CreateCallbackResponse;
        get_callback(GetCallbackRequest) -> GetCallbackResponse;
        list_callbacks(ListCallbacksRequest) -> ListCallbacksResponse;
        update_callback(UpdateCallbackRequest by caller) -> UpdateCallbackResponse;
        delete_callback(DeleteCallbackRequest) -> DeleteCallbackResponse;
        pause_callback(PauseCallbackRequest by caller) -> PauseCallbackResponse;
        resume_callback(ResumeCallbackRequest by caller) -> ResumeCallbackResponse;
    }
}

handlers! {
    Callback as callback, callback_id {
        create create_callback(CreateCallbackRequest as "CreateCallback") -> CreateCallbackResponse;
        get get_callback(GetCallbackRequest) -> GetCallbackResponse;
        update update_callback(UpdateCallbackRequest) -> UpdateCallbackResponse;
        delete delete_callback(DeleteCallbackRequest) -> DeleteCallbackResponse;
        Pause pause_callback(PauseCallbackRequest.note) -> PauseCallbackResponse;
        Resume resume_callback(ResumeCallbackRequest.note) -> ResumeCallbackResponse;
    }
}

impl Control {
    pub(crate) async fn list_callbacks(
        &self,
        mut request: v1::ListCallbacksRequest,
    ) -> Result<v1::ListCallbacksResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        let state = parse::known("state", request.state, &mut wrong);
        let state = state.and_then(map::from_callback_state);
        let chosen = (request.environment, request.contract.as_str());
        let filter = Filter::parse(chosen, &request.labels, state, &mut wrong);
        let wants = |it: &Callback| filter.wants(it);
        let (callbacks, next_page_token) =
            self.list_receivers(&request.parent, &paging, wants, wrong).await?;
        Ok(v1::ListCallbacksResponse { callbacks, next_page_token })
    }
}
