//! What is asked of refusals.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Code and reason of a refusal.
pub fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason)
}

#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, word: &str) {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), (code, word.to_owned()), "{}", status.message());
}

/// The violations of a refusal: fields and rules, sorted.
#[track_caller]
pub fn violations<T: std::fmt::Debug>(answer: Result<T, Status>) -> Vec<(String, String)> {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "FIELDS_INVALID".to_owned()));
    let details = status.get_error_details();
    let wrong = details.bad_request().unwrap().field_violations.iter();
    let mut wrong: Vec<_> = wrong.map(|it| (it.field.clone(), it.reason.clone())).collect();
    wrong.sort();
    wrong
}

#[track_caller]
pub fn assert_wrong<T: std::fmt::Debug>(answer: Result<T, Status>, expected: &[(&str, &str)]) {
    let found = violations(answer);
    let found: Vec<_> = found.iter().map(|(f, r)| (f.as_str(), r.as_str())).collect();
    assert_eq!(found, expected);
}
