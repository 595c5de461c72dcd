//! A span, written down when it is over.

use std::borrow::Cow;

use pregon_core::trace::{SpanId, TraceContext};

/// What a span is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A step within the process.
    Internal,
    /// A call that was answered.
    Server,
    /// A call that was made.
    Client,
    /// A message that was handed over.
    Producer,
    /// A message that was worked on.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text; cut to the limit of the settings.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A number of seconds or such.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// One operation of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace, and its own id.
    pub context: TraceContext,
    /// The span that it belongs to.
    pub parent: Option<SpanId>,
    /// What it is to its peer.
    pub kind: Kind,
    /// Its name: few different ones, never an id.
    pub name: Cow<'static, str>,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What else is to be said, by the semantic conventions where there are any.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans that it followed from.
    pub links: Vec<TraceContext>,
    /// What went wrong, if something did; may be empty.
    pub error: Option<String>,
}

impl Span {
    /// A step below `parent` whose own place is `context`.
    pub fn new(
        context: TraceContext,
        parent: Option<SpanId>,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
        (start, end): (u64, u64),
    ) -> Self {
        Self {
            context,
            parent,
            kind,
            name: name.into(),
            start,
            end: end.max(start),
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// A step within this one; `which` tells it from others.
    pub fn step(&self, which: u64, name: &'static str, time: (u64, u64)) -> Span {
        let context = self.context.at(self.context.span.derive(which));
        Span::new(context, Some(self.context.span), Kind::Internal, name, time)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Value::Int(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Int(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Value::Bool(yes)
    }
}
