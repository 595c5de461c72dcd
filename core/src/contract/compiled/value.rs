//! A value of a template: a simple accessor, or an expression for the engine.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::Write as _;

use bytes::Bytes;

use super::accessor::{Accessor, Kind, Sharing};
use super::error::RenderError;
use crate::contract::subject::{Subject, View};
use crate::error::Wrong;
use crate::expr::{Expression, Names, Output, Root};
use crate::json::{write_number, write_string};

/// What stands between `${` and `}`.
#[derive(Clone, Debug)]
pub enum Value {
    /// A lookup.
    Accessor(Accessor),
    /// Anything else.
    Expression(Expression),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Accessor(a), Value::Accessor(b)) => a == b,
            (Value::Expression(a), Value::Expression(b)) => a.source() == b.source(),
            (Value::Accessor(_), Value::Expression(_))
            | (Value::Expression(_), Value::Accessor(_)) => false,
        }
    }
}

impl Display for Value {
    /// What stands between `${` and `}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Accessor(accessor) => accessor.fmt(f),
            Value::Expression(expression) => f.write_str(expression.source()),
        }
    }
}

/// Whether there was a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was appended.
    Whole,
    /// It is absent: nothing was appended, and what it would fill is left out.
    Absent,
}

impl Value {
    /// Reads an expression.
    pub(super) fn parse(expression: &str, names: Names<'_>) -> Result<Self, Wrong> {
        // A name for one lookup is that lookup.
        let written = names.single(expression.trim()).unwrap_or(expression);
        if let Some(accessor) = Accessor::parse(written, names.site)? {
            return Ok(Value::Accessor(accessor));
        }
        Expression::compile(expression, names).map(Value::Expression)
    }

    /// Whether it may turn out to be absent.
    pub(super) fn may_be_absent(&self) -> bool {
        matches!(self, Value::Expression(_))
    }

    /// Whether it speaks of the body that is sent.
    pub(super) fn speaks_of_body(&self) -> bool {
        match self {
            Value::Accessor(accessor) => accessor.kind() == Kind::Body,
            Value::Expression(expression) => expression.speaks_of_body(),
        }
    }

    /// Whether it speaks of the URL that is sent.
    pub(super) fn speaks_of_url(&self) -> bool {
        match self {
            Value::Accessor(accessor) => *accessor == Accessor::RequestUrl,
            Value::Expression(expression) => expression.speaks_of_url(),
        }
    }

    /// What may share the value.
    pub(super) fn sharing(&self) -> Sharing {
        let expression = match self {
            Value::Accessor(accessor) => return accessor.sharing(),
            Value::Expression(expression) => expression,
        };
        let of = |roots: &[Root]| roots.iter().any(|root| expression.speaks_of(*root));
        if of(&[
            Root::Subscription,
            Root::Delivery,
            Root::Request,
            Root::Check,
            Root::Callback,
            Root::Challenge,
        ]) {
            Sharing::Subscription
        } else if of(&[Root::Attempt]) {
            Sharing::Attempt
        } else {
            Sharing::Event
        }
    }

    /// Whether a callback's question has all that it speaks of.
    pub(super) fn fits_check(&self) -> bool {
        match self {
            Value::Accessor(accessor) => accessor.fits_check(),
            Value::Expression(expression) => {
                let missing = [Root::Event, Root::Subscription, Root::Delivery, Root::Attempt];
                !missing.into_iter().any(|root| expression.speaks_of(root))
            }
        }
    }

    /// Appends the value as JSON.
    pub(super) fn write_json(
        &self,
        view: &View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Written, RenderError> {
        let output = match self {
            Value::Accessor(accessor) => {
                let text = accessor.kind() == Kind::Text;
                let start = out.len() + usize::from(text);
                if text {
                    out.push(b'"');
                }
                accessor.write(view, out);
                if text {
                    escape_from(out, start);
                    out.push(b'"');
                }
                return Ok(Written::Whole);
            }
            Value::Expression(expression) => self.output(expression, view, true)?,
        };
        match output {
            Output::Absent => return Ok(Written::Absent),
            Output::Null => out.extend_from_slice(b"null"),
            Output::Bool(value) => put(out, value),
            Output::Int(value) => put(out, value),
            Output::Double(value) => write_number(out, value),
            Output::Text(text) => write_string(out, &text),
            Output::Json(json) => out.extend_from_slice(&json),
        }
        Ok(Written::Whole)
    }

    /// Appends the value as text: strings as they are, numbers and booleans as they are written.
    pub(super) fn write_text(
        &self,
        view: &View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Written, RenderError> {
        let expression = match self {
            Value::Accessor(accessor) => {
                accessor.write(view, out);
                return Ok(Written::Whole);
            }
            Value::Expression(expression) => expression,
        };
        match self.output(expression, view, false)? {
            Output::Absent => return Ok(Written::Absent),
            Output::Bool(value) => put(out, value),
            Output::Int(value) => put(out, value),
            Output::Double(value) => write_number(out, value),
            Output::Text(text) => out.extend_from_slice(text.as_bytes()),
            Output::Null => return Err(self.failed("null cannot be part of a text")),
            Output::Json(_) => {
                return Err(self.failed("an object or list cannot be part of a text"));
            }
        }
        Ok(Written::Whole)
    }

    /// The value as JSON text of its own; none where it is absent.
    pub(super) fn json(&self, view: &View<'_>) -> Result<Option<Bytes>, RenderError> {
        match (self, view.subject) {
            (Value::Accessor(Accessor::EventData), Subject::Delivery(input)) => {
                return Ok(Some(input.event.data.clone()));
            }
            (Value::Accessor(Accessor::CheckData), Subject::Check(input)) => {
                return Ok(Some(input.data.clone()));
            }
            (Value::Accessor(_) | Value::Expression(_), _) => {}
        }
        let mut out = Vec::new();
        Ok(match self.write_json(view, &mut out)? {
            Written::Whole => Some(out.into()),
            Written::Absent => None,
        })
    }

    /// An error that names the value by its source, which is the contract's text.
    pub(super) fn failed(&self, reason: impl Into<Cow<'static, str>>) -> RenderError {
        RenderError::Value { source_text: self.to_string().into(), reason: reason.into() }
    }

    fn output(
        &self,
        expression: &Expression,
        view: &View<'_>,
        verbatim: bool,
    ) -> Result<Output, RenderError> {
        let output = view.with_scope(expression, |scope| match verbatim {
            true => expression.verbatim(scope),
            false => expression.value(scope),
        });
        output.map_err(|reason| self.failed(reason))
    }
}

fn put(out: &mut Vec<u8>, value: impl Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}

/// Turns what stands in `out` from `start` on into the inside of a JSON string: `"`, `\` and
/// controls escaped as briefly as JSON allows, everything else as it is. Most text needs nothing.
pub(super) fn escape_from(out: &mut Vec<u8>, start: usize) {
    let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
    let Some(first) = out[start..].iter().position(special) else { return };
    let tail = out.split_off(start + first);
    for byte in tail {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0..=0x1f => {
                let digit = |d: u8| b"0123456789abcdef"[usize::from(d)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}
