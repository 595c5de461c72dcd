//! A body as a document states it: a tree of objects, lists, texts and literals in their order.

use super::text::TextTemplate;
use super::value::Value;
use crate::error::{Rule, Wrong};
use crate::expr::Names;

/// A body as a document states it.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// An object; its members stay in this order.
    Object(Vec<Member>),
    /// A list.
    List(Vec<Template>),
    /// A string, or the value of its one expression.
    Text(TextTemplate),
    /// A number, `true`, `false` or `null`, as it stands; made by [`Template::literal`].
    Literal(JsonLiteral),
}

/// What stands in an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    /// A name and its value. A value that is absent leaves the member out.
    Named(Box<str>, Template),
    /// `"...": ${expression}`: the members of an object.
    Splice(Value),
}

/// JSON text that is no string, object or list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLiteral(Box<str>);

impl JsonLiteral {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Template {
    /// A string with `${expression}` in it, or the value of its one expression.
    pub fn text<'n>(text: &str, names: impl Into<Names<'n>>) -> Result<Self, Wrong> {
        TextTemplate::parse(text, names).map(Template::Text)
    }

    /// A number, `true`, `false` or `null`, as JSON writes it.
    pub fn literal(text: &str) -> Result<Self, Wrong> {
        let scalar = matches!(text.as_bytes(), [b'-' | b'0'..=b'9' | b't' | b'f' | b'n', ..]);
        let bare = !text.ends_with([' ', '\t', '\r', '\n']);
        if scalar && bare && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            Ok(Template::Literal(JsonLiteral(text.into())))
        } else {
            Err(Wrong::new(Rule::ContractInvalid, "must be a number, true, false or null"))
        }
    }

    /// Whether it speaks of the URL that is sent.
    pub(in crate::contract) fn speaks_of_url(&self) -> bool {
        match self {
            Template::Object(members) => members.iter().any(|member| match member {
                Member::Named(_, template) => template.speaks_of_url(),
                Member::Splice(value) => value.speaks_of_url(),
            }),
            Template::List(items) => items.iter().any(Template::speaks_of_url),
            Template::Text(text) => text.speaks_of_url(),
            Template::Literal(_) => false,
        }
    }

    /// The value that the template is, if it is one and may turn out to be absent.
    pub(in crate::contract) fn optional(&self) -> Option<&Value> {
        match self {
            Template::Text(text) => text.single().filter(|value| value.may_be_absent()),
            Template::Object(_) | Template::List(_) | Template::Literal(_) => None,
        }
    }
}

impl Member {
    /// The value whose members are spliced in.
    pub fn splice<'n>(text: &str, names: impl Into<Names<'n>>) -> Result<Self, Wrong> {
        match TextTemplate::parse(text, names)?.single() {
            Some(value) => Ok(Member::Splice(value.clone())),
            None => {
                let rule = "the value of \"...\" must be one ${expression}";
                Err(Wrong::new(Rule::ContractInvalid, rule))
            }
        }
    }
}

#[cfg(test)]
mod tests;
