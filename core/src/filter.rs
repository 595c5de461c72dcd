//! Subscription filters: an expression over one event that says whether it is wanted.
//!
//! A filter that cannot be evaluated on an event does not match it. All else is as with every
//! [expression](crate::expr).

#[cfg(test)]
mod tests;

use crate::clock::Timestamp;
use crate::error::Wrong;
use crate::expr::{EventView, Expression, Scope, Site};
use bytes::Bytes;
use std::fmt;

pub use crate::expr::{MAX_ELEMENTS, MAX_SOURCE, Verdict};

/// A compiled filter. Clones share it.
#[derive(Clone)]
pub struct Filter(Expression);

/// One event, as a filter sees it under the name `event`.
#[derive(Clone, Copy, Debug)]
pub struct FilterInput<'a> {
    /// `event.id`.
    pub id: &'a str,
    /// `event.version`; with the id it makes `event.unique_id`.
    pub version: u32,
    /// `event.type`.
    pub event_type: &'a str,
    /// `event.time`, in milliseconds since 1970.
    pub occur_time_ms: i64,
    /// `event.accept_time`, in milliseconds since 1970.
    pub accept_time_ms: i64,
    /// `event.environment`.
    pub environment: &'a str,
    /// `event.tenant`.
    pub tenant: &'a str,
    /// `event.data`: a text that has passed [`json::check`](crate::json::check).
    pub data: &'a Bytes,
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`](crate::error::Rule::TooLong) above [`MAX_SOURCE`] bytes; else
    /// [`Rule::ExpressionInvalid`](crate::error::Rule::ExpressionInvalid) with `line:column: ` in
    /// front of the description.
    pub fn compile(source: &str) -> Result<Filter, Wrong> {
        Expression::compile(source, Site::Filter).map(Filter)
    }

    /// Compiles a filter that is being written: one that would match nothing for ever is refused too.
    ///
    /// # Errors
    ///
    /// As [`Filter::compile`].
    pub fn written(source: &str) -> Result<Filter, Wrong> {
        let filter = Self::compile(source)?;
        filter.0.check_condition()?;
        Ok(filter)
    }

    /// The source, as it was given.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// Evaluates the filter on one event. A filter that also speaks of the tenant or the
    /// subscription needs [`Filter::holds`].
    pub fn matches(&self, input: &FilterInput<'_>) -> Verdict {
        let event = EventView {
            id: input.id,
            version: input.version,
            event_type: input.event_type,
            occur_time: Timestamp::from_millis(input.occur_time_ms),
            accept_time: Timestamp::from_millis(input.accept_time_ms),
            environment: input.environment,
            tenant: input.tenant,
            attributes: None,
            data: input.data,
        };
        self.holds(&Scope { event: Some(event), ..Scope::default() })
    }

    /// Evaluates the filter on an event, its tenant and the subscription.
    pub fn holds(&self, scope: &Scope<'_>) -> Verdict {
        self.0.holds(scope)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.source()).finish()
    }
}
