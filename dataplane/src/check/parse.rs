//! From the wire to a question: every wrong field at once.

use bytes::Bytes;
use pregon_core::error::{Refusal, Rule, Violations, Wrong};
use pregon_core::id::CallbackName;
use pregon_core::{json, limits};
use pregon_proto::v1;
use pregon_proto::v1::check_request::Data;
use pregon_rpc::caller::Caller;
use pregon_rpc::object;

/// What is asked of whom.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) callback: CallbackName,
    /// JSON text that has passed [`json::check`].
    pub(super) data: Bytes,
    /// The field that the data came in.
    pub(super) field: &'static str,
    pub(super) min_revision: i64,
    pub(super) bypass_cache: bool,
}

/// Parses a request. A caller who may not touch its tenant is told that and nothing else.
pub(super) fn parse(request: v1::CheckRequest, caller: &Caller) -> Result<Question, Refusal> {
    caller.may_touch_named(&request.callback)?;
    let mut wrong = Violations::new();
    let callback = wrong.check("callback", CallbackName::parse(&request.callback));
    if request.min_revision < 0 {
        wrong.add("min_revision", Rule::OutOfRange, "must not be negative");
    }
    let (field, data) = match request.data {
        Some(Data::Json(text)) => ("json", checked(text.into())),
        Some(Data::Object(object)) => {
            let text = object::render(&object)
                .map_err(|reason| Wrong::new(Rule::EventJsonInvalid, reason));
            ("object", text.and_then(|text| checked(text.into())))
        }
        None => ("json", Err(Wrong::new(Rule::Required, "json or object must be set"))),
    };
    let data: Option<Bytes> = wrong.check(field, data);
    let (Some(callback), Some(data), true) = (callback, data, wrong.is_empty()) else {
        return Err(Refusal::fields(wrong.as_slice().to_vec()));
    };
    Ok(Question {
        callback,
        data,
        field,
        min_revision: request.min_revision,
        bypass_cache: request.bypass_cache,
    })
}

/// Takes the text over as it is.
fn checked(text: Bytes) -> Result<Bytes, Wrong> {
    if text.len() > limits::CHECK_DATA_LEN {
        let (size, most) = (text.len(), limits::CHECK_DATA_LEN);
        let text = format!("is {size} bytes, may be {most} at most");
        return Err(Wrong::new(Rule::EventTooLarge, text));
    }
    match json::check(&text, limits::JSON_DEPTH) {
        Ok(()) => Ok(text),
        Err(error) => Err(Wrong::new(Rule::EventJsonInvalid, error.to_string())),
    }
}
