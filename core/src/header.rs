//! A subscription's own headers: what a platform may add to every request, and no more.
//!
//! A custom header must not change how the request is framed, routed or understood: so nothing
//! hop by hop, nothing that describes the body, nothing that the sender or the contract sets.
//! Values may be credentials; they are sent, and never printed.

use std::fmt;

use crate::error::{Rule, Wrong};
use crate::limits;

/// Headers between two hops (RFC 9110 section 7.6.1, and what clients and proxies treat so), and
/// those that steer the exchange itself.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that the sender sets, or must leave out.
const OURS: [&str; 4] = ["host", "traceparent", "tracestate", "user-agent"];

/// Parts of header names that carry credentials more often than not.
const CREDENTIALS: [&str; 8] =
    ["auth", "cookie", "credential", "key", "passw", "secret", "signature", "token"];

/// Whether a header's value is better not shown.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

/// A header with a well-formed name and value.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomHeader {
    name: Box<str>,
    value: Box<str>,
}

impl CustomHeader {
    /// The name as it was given; compare it without regard to case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value. It may be a credential: mask it wherever it is shown.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for CustomHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: (redacted)", self.name)
    }
}

/// The custom headers of a subscription, in the order given: up to 20, 4 KiB in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomHeaders(Box<[CustomHeader]>);

impl CustomHeaders {
    /// Parses names and values; `reserved` are the names that the contract sets. Every wrong
    /// header is reported, with its place in the list; the descriptions hold no values.
    pub fn parse<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        reserved: &[&str],
    ) -> Result<Self, Vec<(usize, Wrong)>> {
        let (mut parsed, mut wrongs) = (Vec::<CustomHeader>::new(), Vec::new());
        let mut total = 0usize;
        for (index, (name, value)) in headers.into_iter().enumerate() {
            if index == limits::HEADERS {
                let text = format!("must be {} headers at most", limits::HEADERS);
                wrongs.push((index, Wrong::new(Rule::TooMany, text)));
                break;
            }
            let before = total;
            total = total.saturating_add(name.len()).saturating_add(value.len());
            if before <= limits::HEADERS_LEN && total > limits::HEADERS_LEN {
                let text = format!("names and values must be {} bytes in all", limits::HEADERS_LEN);
                wrongs.push((index, Wrong::new(Rule::TooLong, text)));
            }
            let twice = parsed.iter().any(|header| header.name.eq_ignore_ascii_case(name));
            match check(name, value, reserved, twice) {
                Ok(()) => parsed.push(CustomHeader { name: name.into(), value: value.into() }),
                Err(wrong) => wrongs.push((index, wrong)),
            }
        }
        if wrongs.is_empty() { Ok(Self(parsed.into())) } else { Err(wrongs) }
    }

    /// The headers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, CustomHeader> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a CustomHeaders {
    type Item = &'a CustomHeader;
    type IntoIter = std::slice::Iter<'a, CustomHeader>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether a text is a header name by RFC 9110: a token.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether bytes can be a header's value: visible ASCII with spaces and tabs, none of them at
/// either end.
pub fn is_value(bytes: &[u8]) -> bool {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    bytes.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'))
        && !blank(bytes.first())
        && !blank(bytes.last())
}

/// Whether a header belongs to the connection or to the sender, whatever the contract.
pub fn is_reserved(name: &str) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    HOP_BY_HOP.iter().any(is) || OURS.iter().any(is) || describes_content(name)
}

/// Whether a contract may set a header: what is nobody else's, and the digest of the body (RFC 9530),
/// for a contract's templates know the bytes that are sent.
pub fn is_for_contracts(name: &str) -> bool {
    is_name(name) && (!is_reserved(name) || name.eq_ignore_ascii_case("content-digest"))
}

fn describes_content(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"))
}

fn check(name: &str, value: &str, reserved: &[&str], twice: bool) -> Result<(), Wrong> {
    let refused = |text: &str| Err(Wrong::new(Rule::HeaderRefused, text));
    if name.is_empty() {
        return Err(Wrong::new(Rule::Required, "a header must have a name"));
    }
    if !is_name(name) {
        return refused("the name must be letters, digits and !#$%&'*+-.^_`|~");
    }
    if HOP_BY_HOP.iter().any(|other| name.eq_ignore_ascii_case(other)) {
        return refused("belongs to the connection, not to the request");
    }
    if is_reserved(name) {
        return refused("is set by the sender");
    }
    if reserved.iter().any(|other| name.eq_ignore_ascii_case(other)) {
        return refused("is set by the contract");
    }
    if twice {
        return refused("is given twice");
    }
    if !is_value(value.as_bytes()) {
        return refused("the value must be visible ASCII, with spaces and tabs only inside");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
