//! Binding: the slots of a compiled filter, resolved against one event.
//!
//! The engine asks for a variable by name each time it meets it; a slot's name is `@` and its number,
//! which no source can spell. A path that leads nowhere resolves to nothing, and the engine's
//! "undeclared reference" then becomes "event.data.x is absent".

use super::FilterInput;
use super::compile::Program;
use super::slot::{Field, Slot};
use super::value;
use super::work;
use crate::json::{Node, Step};
use cel::common::types::{CelInt, CelString, CelTimestamp};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use std::sync::OnceLock;

/// A compiled filter bound to an event.
pub(super) struct Bound<'a> {
    program: &'a Program,
    input: &'a FilterInput<'a>,
    /// Where each slot's path leads; only kept when a comprehension may ask again and again.
    found: Vec<OnceLock<Option<Node<'a>>>>,
}

impl<'a> Bound<'a> {
    pub(super) fn new(program: &'a Program, input: &'a FilterInput<'a>) -> Self {
        let kept = if program.loops { program.slots.len() } else { 0 };
        Self { program, input, found: (0..kept).map(|_| OnceLock::new()).collect() }
    }

    /// What the slot of this name stands for, as in `event.data.a`.
    pub(super) fn describe(&self, name: &str) -> Option<String> {
        self.program.slots.get(slot_number(name)?).map(Slot::describe)
    }

    fn data(&self, number: usize, steps: &[Step]) -> Option<CowVal<'_, '_>> {
        let locate = || {
            work::charge(self.input.data.len()).ok()?;
            Node::of(self.input.data).follow(steps)
        };
        let node = match self.found.get(number) {
            Some(kept) => *kept.get_or_init(locate),
            None => locate(),
        }?;
        value::borrowed(node, self.input.data).ok()
    }

    fn field(&self, field: Field) -> Option<CowVal<'_, '_>> {
        let input = self.input;
        let text = |s| Some(CowVal::owned(CelString::from(s)));
        match field {
            Field::Id => text(input.id),
            Field::Version => Some(CowVal::owned(CelInt::from(i64::from(input.version)))),
            Field::UniqueId if input.version == 0 => text(input.id),
            Field::UniqueId => {
                let unique = format!("{}-v{}", input.id, input.version);
                Some(CowVal::owned(CelString::from(unique)))
            }
            Field::Type => text(input.event_type),
            Field::Time => timestamp(input.occur_time_ms),
            Field::AcceptTime => timestamp(input.accept_time_ms),
            Field::Environment => text(input.environment),
            Field::Tenant => text(input.tenant),
        }
    }
}

impl VariableResolver for Bound<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let number = slot_number(variable)?;
        match self.program.slots.get(number)? {
            Slot::Field(field) => self.field(*field),
            Slot::Data(steps) => self.data(number, steps),
            Slot::Constant(value) => Some(CowVal::Borrowed(value.as_ref())),
        }
    }
}

fn slot_number(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

fn timestamp<'b>(milliseconds: i64) -> Option<CowVal<'b, 'b>> {
    let time = chrono::DateTime::from_timestamp_millis(milliseconds)?;
    Some(CowVal::owned(CelTimestamp::from(time.fixed_offset())))
}
