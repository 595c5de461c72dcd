//! Which event types a subscription or a contract wants.
//!
//! Three forms and no other: `*` is every type; `order.*` is every type that begins with `order.`,
//! one segment or more; everything else is one type, exactly.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Rule, Wrong};
use crate::id::EventTypeId;

/// A parsed pattern. One allocation, shared by its clones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

/// What a pattern asks for; for whoever builds an index of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternKind<'a> {
    /// Every type.
    Every,
    /// Every type that begins with this text, whose last character is a full stop.
    Under(&'a str),
    /// This type.
    Exactly(&'a str),
}

impl Pattern {
    /// What a pattern looks like, in words.
    pub const RULE: &'static str = "* or an event type or an event type and .* behind it";

    /// Parses, or says what a pattern must be.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let stem = match text {
            "*" => return Ok(Self(text.into())),
            _ => text.strip_suffix(".*").unwrap_or(text),
        };
        match EventTypeId::parse(stem) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(Wrong::new(Rule::PatternInvalid, format!("must be {}", Self::RULE))),
        }
    }

    /// The pattern of every type.
    pub fn every() -> Self {
        Self("*".into())
    }

    /// Which of the three forms it has.
    pub fn kind(&self) -> PatternKind<'_> {
        // A type's name holds no asterisk, so the last character tells the forms apart.
        match (&*self.0, self.0.strip_suffix('*')) {
            ("*", _) => PatternKind::Every,
            (_, Some(stem)) => PatternKind::Under(stem),
            (name, None) => PatternKind::Exactly(name),
        }
    }

    /// Whether an event of this type is wanted.
    pub fn matches(&self, event_type: &EventTypeId) -> bool {
        match self.kind() {
            PatternKind::Every => true,
            PatternKind::Under(stem) => event_type.as_str().starts_with(stem),
            PatternKind::Exactly(name) => event_type.as_str() == name,
        }
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

impl FromStr for Pattern {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&EventTypeId::parse(event_type).unwrap())
    }

    #[test]
    fn the_three_forms() {
        assert!(matches("*", "order") && matches("*", "order.captured"));
        assert!(matches("order.*", "order.captured") && matches("order.*", "order.liveness.fail"));
        assert!(!matches("order.*", "order") && !matches("order.*", "orders.captured"));
        assert!(!matches("order.*", "order-x.captured"));
        assert!(matches("order.liveness.*", "order.liveness.fail"));
        assert!(matches("order", "order") && !matches("order", "order.captured"));
    }

    #[test]
    fn nothing_else_is_a_pattern() {
        for bad in ["", "**", "*.x", ".*", "order*", "order.**", "o*r", "order.*.x", "a-*", "a b"] {
            assert_eq!(Pattern::parse(bad).unwrap_err().rule, Rule::PatternInvalid, "{bad}");
        }
        assert!(Pattern::parse(&format!("{}.*", "a".repeat(129))).is_err());
        assert!(serde_json::from_str::<Pattern>("\"order*\"").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_kept_and_matches_by_its_text(
            stem in "[a-z0-9_]{1,4}([.-][a-z0-9_]{1,4}){0,3}", under: bool,
            name in "[a-z0-9_]{1,4}([.-][a-z0-9_]{1,4}){0,4}", extend: bool,
        ) {
            let text = if under { format!("{stem}.*") } else { stem.clone() };
            let pattern = Pattern::parse(&text).unwrap();
            prop_assert_eq!(pattern.as_str(), &text);
            let stored = serde_json::to_string(&pattern).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Pattern>(&stored).unwrap(), &pattern);

            let name = if extend { format!("{stem}.{name}") } else { name };
            let event_type = EventTypeId::parse(&name).unwrap();
            let wanted = if under { name.starts_with(&format!("{stem}.")) } else { name == stem };
            prop_assert_eq!(pattern.matches(&event_type), wanted);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Pattern::parse(&text);
        }
    }
}
