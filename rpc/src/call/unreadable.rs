//! What to say of requests that the transport could not read.

use http::HeaderMap;
use pregon_core::error::{Reason, Refusal, Rule, Violation};
use tonic::{Code, Status};

use crate::status::status;

/// What to say of a request that the transport could not read, if that is what these headers or
/// trailers say. It is the only one who answers without details.
pub(super) fn unreadable(headers: &HeaderMap) -> Option<Status> {
    let said = Status::from_header_map(headers).filter(|said| said.details().is_empty())?;
    match said.code() {
        Code::Internal => Some(undecodable(&said)),
        Code::OutOfRange => Some(too_large(&said)),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

/// The transport calls a message above the limit OUT_OF_RANGE, and names its size and the limit.
/// Other servers of gRPC say RESOURCE_EXHAUSTED.
fn too_large(said: &Status) -> Status {
    let (_, facts) = said.message().rsplit_once("too large: ").unwrap_or(("", said.message()));
    let text = format!("the request is too large: {facts}");
    status(Refusal::new(Reason::MessageTooLarge, text))
}

/// The transport calls bytes that are no message INTERNAL, as if the fault were ours.
fn undecodable(said: &Status) -> Status {
    let text = format!("the request cannot be decoded: {}", said.message());
    let mut refusal = Refusal::new(Reason::FieldsInvalid, text.clone());
    // Of no field in particular: the message as a whole.
    let whole = Violation { field: String::new(), rule: Rule::Malformed, description: text };
    refusal.violations.push(whole);
    status(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_transport_is_spoken_for() {
        let headers = |status: Status| status.into_http::<()>().into_parts().0.headers;
        let theirs = headers(Status::internal("failed to decode: not UTF-8"));
        let refused = unreadable(&theirs).unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().ends_with("failed to decode: not UTF-8"));
        assert!(!refused.details().is_empty());

        let theirs = headers(Status::out_of_range("Error, decoded message length too large"));
        let refused = unreadable(&theirs).unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(!refused.details().is_empty());

        for reason in [Reason::Internal, Reason::ResumeTokenExpired] {
            assert!(unreadable(&headers(status(Refusal::new(reason, "ours")))).is_none());
        }
        assert!(unreadable(&headers(Status::not_found("nothing"))).is_none());
        assert!(unreadable(&HeaderMap::new()).is_none());
    }
}
