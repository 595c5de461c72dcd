//! How events of one subscription go out together: where their list stands, and its bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::error::{BODY_LEN, RenderError};
use super::template::{Member, Template};
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
    pub(super) fn list_in<'a>(&self, body: &'a Bytes) -> Result<Node<'a>, RenderError> {
        let list = Node::of(body).follow(&self.list);
        list.filter(|list| list.kind() == json::Kind::Array).ok_or(RenderError::NoList)
    }
}
