//! Parameters that a contract adds to a receiver's URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{QUERY_LEN, RenderError};
use super::text::TextTemplate;
use super::value::Written;
use crate::contract::subject::View;

/// Parameters that a contract may add, signatures included.
pub const PARAMETERS: usize = 20;

/// What stands in a parameter as it is: RFC 3986, 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A parameter: its name, not yet percent-encoded, and its value.
pub type Parameter = (Box<str>, TextTemplate);

/// Adds each parameter to the URL; one that is absent is left out.
///
/// # Errors
///
/// A value that cannot be made, or more than [`QUERY_LEN`].
pub(super) fn extend(
    url: &mut String,
    parameters: &[Parameter],
    view: &View<'_>,
) -> Result<(), RenderError> {
    let start = url.len();
    let mut value = Vec::new();
    for (name, template) in parameters {
        value.clear();
        match template.write(view, &mut value)? {
            Written::Whole => add(url, name, &String::from_utf8_lossy(&value)),
            Written::Absent => {}
        }
    }
    bounded(url, start)
}

/// Adds one parameter to the URL.
pub(super) fn add(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    url.extend(utf8_percent_encode(name, UNRESERVED));
    url.push('=');
    url.extend(utf8_percent_encode(value, UNRESERVED));
}

/// Whether what was added from there on is within the bound.
pub(super) fn bounded(url: &str, start: usize) -> Result<(), RenderError> {
    match url.len().saturating_sub(start) <= QUERY_LEN {
        true => Ok(()),
        false => Err(RenderError::QueryTooLong),
    }
}
