//! Traces as trees, and how they are printed: names, kinds, services, durations, and the attributes that matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::otlp::{Span, Status};

/// The spans of one trace, each below its parent.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The trace, in hex.
    pub trace_id: String,
    /// Spans without a parent here, the earliest first. The caller's own span is not Pregón's, so a root may have one.
    pub roots: Vec<Node>,
}

/// A span and what is below it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The span.
    pub span: Span,
    /// Those below, the earliest first.
    pub children: Vec<Node>,
}

impl Tree {
    /// The traces that some spans are of, by their earliest span. A span that came twice is there once.
    pub fn all(spans: &[Span]) -> Vec<Self> {
        let mut traces: BTreeMap<&str, BTreeMap<&str, &Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(&span.trace_id).or_default().insert(&span.span_id, span);
        }
        let mut trees: Vec<_> =
            traces.into_iter().map(|(id, spans)| Self::of(id, &spans)).collect();
        trees.sort_by_key(|tree| tree.spans().iter().map(|span| span.start).min());
        trees
    }

    fn of(trace_id: &str, spans: &BTreeMap<&str, &Span>) -> Self {
        let mut below: BTreeMap<Option<&str>, Vec<&Span>> = BTreeMap::new();
        for span in spans.values() {
            let parent = span.parent.as_deref().filter(|parent| spans.contains_key(parent));
            below.entry(parent).or_default().push(span);
        }
        below.values_mut().for_each(|list| list.sort_by_key(|span| (span.start, span.end)));
        let tree = Self { trace_id: trace_id.to_owned(), roots: nodes(None, &below) };
        assert_eq!(tree.spans().len(), spans.len(), "spans of {trace_id} are their own ancestors");
        tree
    }

    /// All its spans, each before those below it.
    pub fn spans(&self) -> Vec<&Span> {
        let mut found = Vec::new();
        let mut left: Vec<&Node> = self.roots.iter().rev().collect();
        while let Some(node) = left.pop() {
            found.push(&node.span);
            left.extend(node.children.iter().rev());
        }
        found
    }

    /// The first span of this name, with those below it.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.roots.iter().find_map(|root| root.find(name))
    }

    /// The services that took part.
    pub fn services(&self) -> BTreeSet<String> {
        self.spans().into_iter().map(Span::service).collect()
    }
}

impl Node {
    /// The first span of this name here or below.
    pub fn find(&self, name: &str) -> Option<&Node> {
        if self.span.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }
}

fn nodes(parent: Option<&str>, below: &BTreeMap<Option<&str>, Vec<&Span>>) -> Vec<Node> {
    let spans = below.get(&parent).map_or(&[][..], Vec::as_slice);
    let node = |&span: &&Span| {
        let children = nodes(Some(span.span_id.as_str()), below);
        Node { span: span.clone(), children }
    };
    spans.iter().map(node).collect()
}

/// Traces as text, with those attributes of each span that are named.
pub fn print(trees: &[Tree], keys: &[&str]) -> String {
    let mut text = String::new();
    for tree in trees {
        writeln!(text, "trace {}", tree.trace_id).expect("a text can grow");
        for root in &tree.roots {
            let above = if root.span.parent.is_some() { "(its parent is elsewhere) " } else { "" };
            write_node(&mut text, root, "", above, keys);
        }
    }
    text
}

/// Writes a span after what its ancestors drew, and those below it.
fn write_node(text: &mut String, node: &Node, indent: &str, mark: &str, keys: &[&str]) {
    let span = &node.span;
    let kind = format!("{:?}", span.kind).to_uppercase();
    let ms = span.duration().as_secs_f64() * 1e3;
    write!(text, "{indent}{mark}{} {kind} {} {ms:.2} ms", span.name, span.service())
        .expect("it grows");
    if let Status::Error(why) = &span.status {
        write!(text, " ERROR {why}").expect("it grows");
    }
    for key in keys {
        match span.attributes.get(*key) {
            None => {}
            Some(Value::String(value)) => write!(text, " {key}={value}").expect("it grows"),
            Some(value) => write!(text, " {key}={value}").expect("it grows"),
        }
    }
    for link in &span.links {
        write!(text, " → {}/{}", link.trace_id, link.span_id).expect("it grows");
    }
    text.push('\n');
    let indent = match mark {
        "├─ " => format!("{indent}│  "),
        "└─ " => format!("{indent}   "),
        _ => indent.to_owned(),
    };
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        write_node(text, child, &indent, if last { "└─ " } else { "├─ " }, keys);
    }
}

#[cfg(test)]
mod tests;
