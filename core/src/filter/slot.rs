//! Slots: what the rewriting puts in place of a path or a constant.

use crate::json::Step;
use cel::common::value::Val;
use std::fmt::Write;

/// What a rewritten name stands for.
pub(super) enum Slot {
    /// A field of the event.
    Field(Field),
    /// A path into `event.data`.
    Data(Vec<Step>),
    /// A value that is the same for every event.
    Constant(Box<dyn Val>),
}

impl Slot {
    /// How a source would write it.
    pub(super) fn describe(&self) -> String {
        match self {
            Slot::Field(field) => format!("event.{}", field.name()),
            Slot::Data(steps) => describe(steps),
            Slot::Constant(_) => "a constant".to_owned(),
        }
    }
}

fn describe(steps: &[Step]) -> String {
    let mut text = "event.data".to_owned();
    for step in steps {
        let _ = match step {
            Step::Member(name) => write!(text, ".{name}"),
            Step::Element(index) => write!(text, "[{index}]"),
        };
    }
    text
}

/// Fields of `event` beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Version,
    UniqueId,
    Type,
    Time,
    AcceptTime,
    Environment,
    Tenant,
}

impl Field {
    pub(super) const ALL: [Field; 8] = [
        Field::Id,
        Field::Version,
        Field::UniqueId,
        Field::Type,
        Field::Time,
        Field::AcceptTime,
        Field::Environment,
        Field::Tenant,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::Version => "version",
            Field::UniqueId => "unique_id",
            Field::Type => "type",
            Field::Time => "time",
            Field::AcceptTime => "accept_time",
            Field::Environment => "environment",
            Field::Tenant => "tenant",
        }
    }
}
