//! JSON text to the same tree, by JSON's rules.

use super::source::Cursor;
use super::{Key, Node, Value};
use crate::json::{self, Kind};

/// The tree of a text that [`json::check`] accepted.
pub(super) fn tree(text: &str) -> Node {
    let mut reader = Reader { text: text.as_bytes(), cursor: Cursor::new(text) };
    reader.node(json::Node::of(text.as_bytes()))
}

struct Reader<'a> {
    text: &'a [u8],
    cursor: Cursor<'a>,
}

impl Reader<'_> {
    /// Goes down as deep as the check allowed.
    fn node(&mut self, node: json::Node<'_>) -> Node {
        let start = self.offset(node.source());
        let (line, column) = self.cursor.at_offset(start);
        let value = match node.kind() {
            Kind::Object => self.map(node, start),
            Kind::Array => Value::List(node.elements().map(|one| self.node(one)).collect()),
            Kind::String => {
                let text = node.as_str().unwrap_or_default().into_owned();
                Value::Scalar { text, plain: false }
            }
            Kind::Null | Kind::Bool | Kind::Number => {
                let text = String::from_utf8_lossy(node.source()).into_owned();
                Value::Scalar { text, plain: true }
            }
        };
        Node { line, column, value }
    }

    fn map(&mut self, node: json::Node<'_>, start: usize) -> Value {
        let mut behind = start + 1;
        let mut members = Vec::new();
        for (name, value) in node.members() {
            // Between two members stand white space and a comma, so the next quote begins a name.
            let rest = self.text.get(behind..).unwrap_or_default();
            let skipped = rest.iter().position(|&b| b == b'"').unwrap_or_default();
            let (line, column) = self.cursor.at_offset(behind + skipped);
            behind = self.offset(value.source()) + value.source().len();
            let key = Key { line, column, text: name.text().into_owned() };
            members.push((key, self.node(value)));
        }
        Value::Map(members)
    }

    /// Where a part of the text begins.
    fn offset(&self, part: &[u8]) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }
}
