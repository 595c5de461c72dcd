//! From what came back to a decision. The truth table:
//!
//! | what came back | decides |
//! |---|---|
//! | 2xx | the verdict over the answer; where it has none, `on_error` |
//! | a body over 64 KiB, or one that breaks off under a 2xx | `on_error` |
//! | 408, 429, 5xx | `on_error` |
//! | any other status | denied |
//! | no answer: name, address, connection, TLS, time, HTTP | `on_error` |

use std::time::Duration;

use pregon_core::contract::{CheckInput, Verdict};
use pregon_core::limits;
use pregon_core::model::FailurePolicy;
use pregon_core::outcome::{Answer, ErrorClass};
use pregon_proto::v1;

use crate::egress::{Fault, Response};

/// What decided a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The verdict over the receiver's answer.
    Verdict,
    /// The status of the receiver's answer.
    Status,
    /// An answer that was remembered.
    Cache,
    /// `on_error` of the callback.
    FailurePolicy,
}

impl Cause {
    /// The word for the log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Cause::Verdict => "VERDICT",
            Cause::Status => "STATUS",
            Cause::Cache => "CACHE",
            Cause::FailurePolicy => "FAILURE_POLICY",
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) allowed: bool,
    pub(super) cause: Cause,
    /// One sentence, without data.
    pub(super) detail: String,
    /// Of the answer; 0 without one.
    pub(super) status: u16,
    /// What went wrong, if that is why.
    pub(super) class: Option<ErrorClass>,
}

impl Decision {
    /// Allowed, as it was a while ago.
    pub(super) fn remembered() -> Self {
        let detail = "allowed by an answer that is remembered".to_owned();
        Self { allowed: true, cause: Cause::Cache, detail, status: 0, class: None }
    }

    /// What the callback says for the case that its receiver does not.
    pub(super) fn fallen_back(policy: FailurePolicy, class: ErrorClass, why: &str) -> Self {
        Self::failed(policy, Some(class), 0, why)
    }

    fn failed(policy: FailurePolicy, class: Option<ErrorClass>, status: u16, why: &str) -> Self {
        let allowed = match policy {
            FailurePolicy::Deny => false,
            FailurePolicy::Allow => true,
        };
        let detail = format!("{why}; on_error is {policy}");
        Self { allowed, cause: Cause::FailurePolicy, detail, status, class }
    }

    /// The answer to the caller.
    pub(super) fn response(self, check: String, duration: Duration) -> v1::CheckResponse {
        let cause = match self.cause {
            Cause::Verdict => v1::CheckCause::Verdict,
            Cause::Status => v1::CheckCause::Status,
            Cause::Cache => v1::CheckCause::Cache,
            Cause::FailurePolicy => v1::CheckCause::FailurePolicy,
        };
        v1::CheckResponse {
            allowed: self.allowed,
            cause: cause.into(),
            detail: self.detail,
            response_status: self.status.into(),
            error_class: self.class.map_or(v1::ErrorClass::Unspecified, wire).into(),
            duration: prost_types::Duration::try_from(duration).ok(),
            check,
        }
    }
}

/// Decides by what came back.
pub(super) fn read(
    result: Result<Response, Fault>,
    verdict: &Verdict,
    policy: FailurePolicy,
    input: &CheckInput<'_>,
) -> Decision {
    let response = match result {
        Ok(response) => response,
        Err(fault) => return Decision::fallen_back(policy, fault.class, &fault.detail),
    };
    let status = response.status.as_u16();
    let failed = |class, why: &str| Decision::failed(policy, class, status, why);
    if response.truncated && response.body.len() >= limits::RESPONSE_READ {
        let most = limits::RESPONSE_READ / 1024;
        let why = format!("the answer's body has more than {most} KiB");
        return failed(Some(ErrorClass::Protocol), &why);
    }
    match status {
        200..=299 if response.truncated => {
            failed(Some(ErrorClass::Protocol), "the answer's body broke off")
        }
        200..=299 => {
            let headers = response.header_lines();
            let answer = Answer { status, headers: &headers, body: &response.body };
            match verdict.allows(&answer, input) {
                Ok((allowed, why)) => Decision {
                    allowed,
                    cause: Cause::Verdict,
                    detail: why.to_owned(),
                    status,
                    class: None,
                },
                Err(why) => failed(None, &why),
            }
        }
        408 | 429 | 500..=599 => failed(Some(ErrorClass::Status), &format!("answered {status}")),
        _ => Decision {
            allowed: false,
            cause: Cause::Status,
            detail: format!("answered {status}"),
            status,
            class: None,
        },
    }
}

fn wire(class: ErrorClass) -> v1::ErrorClass {
    match class {
        ErrorClass::Dns => v1::ErrorClass::Dns,
        ErrorClass::Connect => v1::ErrorClass::Connect,
        ErrorClass::Tls => v1::ErrorClass::Tls,
        ErrorClass::Timeout => v1::ErrorClass::Timeout,
        ErrorClass::Protocol => v1::ErrorClass::Protocol,
        ErrorClass::Status => v1::ErrorClass::Status,
        ErrorClass::Denied => v1::ErrorClass::Denied,
        ErrorClass::Local => v1::ErrorClass::Local,
        ErrorClass::Egress => v1::ErrorClass::Egress,
        ErrorClass::Token => v1::ErrorClass::Token,
    }
}
