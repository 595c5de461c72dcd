//! Several events in one request: the body's list holds an element for each.
//!
//! Each event's body is rendered by itself, with one element in the list. The first body is the
//! request's, and the others' elements follow its own. So a request of one event is the same
//! whether the contract batches or not, and everything outside the list speaks of the first event.

use bytes::Bytes;

use super::contract::Contract;
use super::error::RenderError;
use super::render::{Rendered, request_of};
use crate::contract::subject::{RenderInput, Subject, View};

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
