//! A refusal as gRPC says it: code, message and `google.rpc` details.
//!
//! `ErrorInfo` is always there; the rest follows from the reason, so that no handler chooses
//! details. A status travels in HTTP/2 headers, and common clients refuse a header block of more
//! than 8 KiB (gRPC C-core) with an error that says nothing about ours. So every text and all of
//! them together are bounded here; what did not fit is counted in
//! `ErrorInfo.metadata["violations_omitted"]`.

use std::collections::HashMap;

use pregon_core::error::{Code, Refusal, Violation};
use tonic_types::{
    BadRequest, ErrorDetail, ErrorInfo, FieldViolation, PreconditionFailure, PreconditionViolation,
    ResourceInfo, RetryInfo, StatusExt,
};

/// `ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "pregon";

/// Metadata key of `ErrorInfo`: how many violations did not fit.
pub const OMITTED: &str = "violations_omitted";

/// Metadata key of `ErrorInfo`: the name of the resource that the refusal is about.
pub const RESOURCE: &str = "resource";

/// The status message. It travels twice: percent-encoded (up to three times as long) and within
/// the details. The first wrong fields of several fit into it.
const MESSAGE_LEN: usize = 640;

/// One description or name within the details.
const TEXT_LEN: usize = 1024;

/// All violations together: in base64, with the rest of the details, below 6 KiB.
const VIOLATIONS_LEN: usize = 3 * 1024;

/// What each violation costs beside its texts: tags and lengths.
const VIOLATION_OVERHEAD: usize = 16;

/// Says a refusal in gRPC's words.
#[expect(clippy::needless_pass_by_value, reason = "handlers end in `.map_err(status)`")]
pub fn status(refusal: Refusal) -> tonic::Status {
    let code = refusal.code();
    if code == Code::Internal {
        tracing::error!(cause = refusal.message, "a call was answered INTERNAL");
    }
    let message = cut(&refusal.message, MESSAGE_LEN).to_owned();
    let (violations, omitted) = field_violations(&refusal.violations);

    let mut metadata = HashMap::new();
    if omitted > 0 {
        metadata.insert(OMITTED.to_owned(), omitted.to_string());
    }
    if let Some((_, name)) = &refusal.resource {
        metadata.insert(RESOURCE.to_owned(), cut(name, TEXT_LEN).to_owned());
    }

    let mut details: Vec<ErrorDetail> =
        vec![ErrorInfo::new(refusal.reason.word(), DOMAIN, metadata).into()];
    if !violations.is_empty() {
        details.push(BadRequest::new(violations).into());
    }
    details.extend(resource_detail(code, &refusal));
    if let Some(wait) = refusal.retry_after {
        details.push(RetryInfo::new(Some(wait)).into());
    }
    tonic::Status::with_error_details_vec(grpc_code(code), message, details)
}

/// The gRPC code of a code of ours.
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::Aborted => tonic::Code::Aborted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
    }
}

/// The detail that names the resource in question, where the code has one.
fn resource_detail(code: Code, refusal: &Refusal) -> Option<ErrorDetail> {
    let (kind, name) = match &refusal.resource {
        Some((kind, name)) => (*kind, cut(name, TEXT_LEN)),
        None => ("", ""),
    };
    let description = cut(&refusal.message, MESSAGE_LEN);
    match code {
        Code::NotFound | Code::AlreadyExists => {
            Some(ResourceInfo::new(kind, name, "", description).into())
        }
        Code::FailedPrecondition => {
            let violation = PreconditionViolation::new(refusal.reason.word(), name, description);
            Some(PreconditionFailure::new(vec![violation]).into())
        }
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::Aborted
        | Code::ResourceExhausted
        | Code::Unavailable
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Internal => None,
    }
}

/// As many violations as fit, and the number of those that did not.
fn field_violations(violations: &[Violation]) -> (Vec<FieldViolation>, usize) {
    let mut room = VIOLATIONS_LEN;
    let mut kept = Vec::new();
    for violation in violations {
        let field = cut(&violation.field, TEXT_LEN);
        let description = cut(&violation.description, TEXT_LEN);
        let reason = violation.rule.word();
        let cost = field.len() + description.len() + reason.len() + VIOLATION_OVERHEAD;
        let Some(left) = room.checked_sub(cost) else { break };
        room = left;
        kept.push(FieldViolation {
            field: field.to_owned(),
            description: description.to_owned(),
            reason: reason.to_owned(),
            localized_message: None,
        });
    }
    let omitted = violations.len() - kept.len();
    (kept, omitted)
}

/// The longest start of a text that has at most `len` bytes and ends between characters.
fn cut(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pregon_core::error::{Reason, Rule, Violations};

    use super::*;

    fn reason(status: &tonic::Status) -> (String, String) {
        let info = status.get_details_error_info().expect("every refusal has an ErrorInfo");
        (info.domain, info.reason)
    }

    #[test]
    fn every_reason_is_said_with_its_code_and_error_info() {
        for &word in Reason::ALL {
            let said = status(Refusal::new(word, "because"));
            assert_eq!(said.code(), grpc_code(word.code()), "{word}");
            assert_eq!(said.message(), "because");
            assert_eq!(reason(&said), ("pregon".into(), word.word().into()));
        }
    }

    #[test]
    fn every_wrong_field_is_named_with_its_rule() {
        let mut wrong = Violations::new();
        wrong.add("subscription.url", Rule::UrlRefused, "must be https");
        wrong.add("subscription.event_types[2]", Rule::PatternInvalid, "`*` stands last");
        let said = status(wrong.finish().unwrap_err());

        assert_eq!(said.code(), tonic::Code::InvalidArgument);
        assert_eq!(reason(&said).1, "FIELDS_INVALID");
        let fields: Vec<_> = said
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .into_iter()
            .map(|v| (v.field, v.reason, v.description))
            .collect();
        assert_eq!(
            fields,
            [
                ("subscription.url".into(), "URL_REFUSED".into(), "must be https".into()),
                (
                    "subscription.event_types[2]".into(),
                    "PATTERN_INVALID".into(),
                    "`*` stands last".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn missing_and_taken_resources_are_named() {
        let missing = status(Refusal::not_found("tenant", "tenants/acme"));
        let info = missing.get_details_resource_info().unwrap();
        assert_eq!(
            (info.resource_type.as_str(), info.resource_name.as_str()),
            ("tenant", "tenants/acme")
        );
        assert_eq!(
            missing.get_details_error_info().unwrap().metadata.get(RESOURCE).unwrap(),
            "tenants/acme"
        );
        let taken = status(Refusal::exists("contract", "contracts/own"));
        assert_eq!(taken.code(), tonic::Code::AlreadyExists);
        assert_eq!(taken.get_details_resource_info().unwrap().resource_name, "contracts/own");
    }

    #[test]
    fn a_precondition_says_which_and_for_what() {
        let mut refusal = Refusal::new(Reason::TenantSuspended, "tenant acme is suspended");
        refusal.resource = Some(("tenant", "tenants/acme".into()));
        let said = status(refusal);
        let failure = said.get_details_precondition_failure().unwrap();
        assert_eq!(failure.violations[0].r#type, "TENANT_SUSPENDED");
        assert_eq!(failure.violations[0].subject, "tenants/acme");
        assert_eq!(failure.violations[0].description, "tenant acme is suspended");
    }

    #[test]
    fn waiting_is_said_where_it_helps() {
        let wait = Duration::from_millis(1500);
        let said =
            status(Refusal::new(Reason::StoreUnavailable, "no answer in 2 s").retry_after(wait));
        assert_eq!(said.get_details_retry_info().unwrap().retry_delay, Some(wait));
        let said = status(Refusal::new(Reason::LastSecret, "the last one"));
        assert!(said.get_details_retry_info().is_none());
    }

    #[test]
    fn a_thousand_wrong_fields_still_fit_into_a_header_block() {
        let mut wrong = Violations::new();
        for i in 0..1000 {
            wrong.add(format!("events[{i}].json"), Rule::EventJsonInvalid, "é".repeat(400));
        }
        let mut refusal = wrong.finish().unwrap_err();
        refusal.message = "é".repeat(1000);
        let said = status(refusal);

        let kept = said.get_details_bad_request().unwrap().field_violations.len();
        let metadata = said.get_details_error_info().unwrap().metadata;
        assert_eq!(kept + metadata[OMITTED].parse::<usize>().unwrap(), 1000);
        assert!(kept > 0);

        let headers = said.into_http::<()>();
        let size: usize =
            headers.headers().iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
        assert!(size < 8 * 1024, "{size}");
    }
}
