//! Several events in one request: the body's list holds an element for each.
//!
//! Each event's body is rendered by itself, with one element in the list. The first body is the
//! request's, and the others' elements follow its own. So a request of one event is the same
//! whether the contract batches or not, and everything outside the list speaks of the first event.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::contract::Contract;
use super::error::{BODY_LEN, RenderError};
use super::render::{Rendered, request_of};
use super::template::{Member, Template};
use crate::contract::subject::{RenderInput, Subject, View};
use crate::json::{self, Node, Step};

/// Events of one request that a contract may allow.
pub const BATCH_EVENTS: RangeInclusive<usize> = 2..=1000;
/// Bytes of one body that a contract may allow, before it is brought into another form.
pub const BATCH_BYTES: RangeInclusive<usize> = 1024..=BODY_LEN;
/// How long an event may wait for others at most.
pub const BATCH_WAIT: Duration = Duration::from_secs(10);

/// How events of one subscription go out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the list stands in the body; empty: the body is the list.
    pub list: Box<[Step]>,
    /// Events in one request at most; within [`BATCH_EVENTS`].
    pub max_events: usize,
    /// Bytes of one body at most, as rendered; within [`BATCH_BYTES`]. One event alone may be
    /// larger.
    pub max_bytes: usize,
    /// How long an event waits for others, up to [`BATCH_WAIT`].
    pub max_wait: Duration,
}

impl Batch {
    /// Whether the template has a list of one element at its place.
    pub(in crate::contract) fn fits(&self, body: &Template) -> bool {
        let mut at = body;
        for step in &self.list {
            let (Step::Member(wanted), Template::Object(members)) = (step, at) else {
                return false;
            };
            let found = members.iter().find_map(|member| match member {
                Member::Named(name, template) if name == wanted => Some(template),
                Member::Named(..) | Member::Splice(_) => None,
            });
            let Some(found) = found else { return false };
            at = found;
        }
        matches!(at, Template::List(items) if items.len() == 1 && items[0].optional().is_none())
    }

    /// The list in a body.
    fn list_in<'a>(&self, body: &'a Bytes) -> Result<Node<'a>, RenderError> {
        let list = Node::of(body).follow(&self.list);
        list.filter(|list| list.kind() == json::Kind::Array).ok_or(RenderError::NoList)
    }
}

/// Renders the body of one event by itself, to be sent [`render_together`] with others.
///
/// # Errors
///
/// Why it cannot be sent.
pub fn render_body(contract: &Contract, input: &RenderInput<'_>) -> Result<Bytes, RenderError> {
    contract.body.render(&View::bodiless(Subject::Delivery(input)))
}

/// The request that holds the events of these bodies, as many from the first on as the contract's
/// bounds allow, but for its signatures; and how many those are, one at least. `first` is that of
/// the first body.
///
/// # Errors
///
/// Why the first cannot be sent.
pub fn render_together(
    contract: &Contract,
    first: &RenderInput<'_>,
    bodies: &[Bytes],
) -> Result<(Rendered, usize), RenderError> {
    let subject = Subject::Delivery(first);
    let [own, others @ ..] = bodies else { return Err(RenderError::NoList) };
    let mut count = 0;
    if let Some(batch) = &contract.batch {
        let mut size = own.len();
        for body in others.iter().take(batch.max_events - 1) {
            size += batch.list_in(body)?.source().len();
            if size > batch.max_bytes {
                break;
            }
            count += 1;
        }
    }
    loop {
        let body = joined(contract, own, &others[..count])?;
        match request_of(contract, Some(body), &contract.headers, subject) {
            // Another form of it can be larger.
            Err(RenderError::TooLarge) if count > 0 => count /= 2,
            Err(error) => return Err(error),
            Ok(rendered) => return Ok((rendered, count + 1)),
        }
    }
}

/// The first body with the elements of the others' lists after its own.
fn joined(contract: &Contract, own: &Bytes, others: &[Bytes]) -> Result<Bytes, RenderError> {
    let Some(batch) = contract.batch.as_ref().filter(|_| !others.is_empty()) else {
        return Ok(own.clone());
    };
    // The closing bracket is the last byte of the list, which lies within the body.
    let list = own.slice_ref(batch.list_in(own)?.source());
    let close = list.as_ptr() as usize - own.as_ptr() as usize + list.len() - 1;
    let len = own.len() + others.iter().map(Bytes::len).sum::<usize>();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&own[..close]);
    for other in others {
        for element in batch.list_in(other)?.elements() {
            out.push(b',');
            out.extend_from_slice(element.source());
        }
    }
    out.extend_from_slice(&own[close..]);
    Ok(out.into())
}
