//! `extends`: a document that says only what differs from another one.
//!
//! The keys at the top of the document go before those of the contract that it extends, each as a
//! whole; `null` takes one of them away. What is put together is checked and compiled as any other
//! document is, and every fault in it names the document that it stands in. It is also written out
//! ([`Composed::document`]), so that whoever reads it needs nothing else.

use std::fmt::Write as _;

use super::builtin::builtins;
use super::catalog::{CATALOG, CatalogEntry, catalogued};
use super::fault::DocumentFault;
use super::read::{KEYS, compiled};
use crate::contract::compiled::Contract;
use crate::id::ContractId;
use crate::limits;
use crate::yaml::{self, At, Key, Node, Typed, Value};

/// The key.
const EXTENDS: &str = "extends";
/// The key of the id, which every document says for itself.
const CONTRACT: &str = "contract";

/// What a document says that it extends, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extends {
    name: String,
    line: usize,
    column: usize,
}

/// A document put together with the one that it extends.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The contract.
    pub contract: Contract,
    /// How many of its examples hold, those of its types among them.
    pub examples: usize,
    /// All of it as one document, JSON with a line for each key: [`limits::CONTRACT_LEN`] bytes at
    /// most. [`Contract::read`] reads the same contract from it.
    pub document: String,
}

impl Extends {
    /// What a document extends; none where it extends nothing, or cannot be taken apart: reading
    /// it says why.
    ///
    /// # Errors
    ///
    /// `extends` is no name of a contract or of an entry of the catalogue, or the contract's own.
    pub fn of(document: &str) -> Result<Option<Self>, DocumentFault> {
        let Ok(node) = yaml::read(document) else { return Ok(None) };
        let root = At::root(&node);
        let Ok(members) = root.members() else { return Ok(None) };
        let value = |key: &str| members.iter().find(|it| it.key.text == key).map(|it| &it.value);
        let Some(at) = value(EXTENDS) else { return Ok(None) };
        let name = at.text()?;
        if !name.starts_with(CATALOG) && ContractId::parse_name(name).is_err() {
            let rule = "must be contracts/{contract}, or catalog/{entry} of the catalogue";
            return Err(at.fault(rule).into());
        }
        let own = value(CONTRACT).and_then(|id| id.text().ok());
        if own.is_some_and(|id| name.strip_prefix("contracts/") == Some(id)) {
            return Err(at.fault("is this contract itself: name another one").into());
        }
        let (line, column) = (at.node().line, at.node().column);
        Ok(Some(Self { name: name.to_owned(), line, column }))
    }

    /// The name of what is extended: `contracts/{contract}` or `catalog/{entry}`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A fault of the key: what is wrong with what it names.
    pub fn fault(&self, rule: &str) -> DocumentFault {
        let text = format!("{EXTENDS}: {rule}");
        yaml::Fault { line: self.line, column: self.column, text }.into()
    }

    /// Puts a document together with the one that it extends, as written by this revision of the
    /// configuration.
    ///
    /// # Errors
    ///
    /// Every fault of what comes of it, those in the extended document with its name; that document
    /// extends another one itself; both together are too long.
    pub fn compose(
        &self,
        document: &str,
        parent: &str,
        revision: i64,
    ) -> Result<Composed, Vec<DocumentFault>> {
        // Places in the extended document follow those of the document, until they are told.
        let behind = document.lines().count() + 1;
        let placed = |faults: Vec<yaml::Fault>| -> Vec<DocumentFault> {
            faults.into_iter().map(|fault| self.placed(fault, behind)).collect()
        };
        let child = yaml::read(document).map_err(|fault| placed(vec![fault]))?;
        let mut parent = yaml::read(parent).map_err(|mut fault| {
            fault.line += behind;
            placed(vec![fault])
        })?;
        shift(&mut parent, behind);
        let root = merged(child, parent).map_err(|()| {
            let rule =
                "extends another contract itself: only one that extends none can be extended";
            vec![self.fault(&format!("{} {rule}", self.name))]
        })?;
        let (contract, examples) = compiled(&At::root(&root), revision).map_err(placed)?;
        let document = written(&root);
        if document.len() > limits::CONTRACT_LEN {
            let (len, most) = (document.len(), limits::CONTRACT_LEN);
            let rule = format!("with {} it is {len} bytes long, and may be {most}", self.name);
            return Err(vec![self.fault(&rule)]);
        }
        match yaml::read(&document) {
            Ok(read) if same(&read, &root) => Ok(Composed { contract, examples, document }),
            Ok(_) | Err(_) => Err(vec![self.fault("cannot be written out as one document")]),
        }
    }

    fn placed(&self, mut fault: yaml::Fault, behind: usize) -> DocumentFault {
        let within = fault.line > behind;
        if within {
            fault.line -= behind;
        }
        DocumentFault { parent: within.then(|| self.name.clone()), ..fault.into() }
    }
}

/// The document of this name that comes with Pregón, built in or of the catalogue.
pub fn shipped(name: &str) -> Option<&'static str> {
    if name.starts_with(CATALOG) {
        return catalogued(name).map(CatalogEntry::document);
    }
    builtins().iter().find(|it| it.contract.id().name() == name).map(|it| it.document)
}

fn shift(node: &mut Node, lines: usize) {
    node.line += lines;
    match &mut node.value {
        Value::Map(members) => {
            for (key, value) in members {
                key.line += lines;
                shift(value, lines);
            }
        }
        Value::List(elements) => elements.iter_mut().for_each(|element| shift(element, lines)),
        Value::Scalar { .. } => {}
    }
}

/// The members of the child, and those of the parent that it neither has nor takes away; refused
/// where the parent extends a document itself.
fn merged(child: Node, parent: Node) -> Result<Node, ()> {
    let (Value::Map(own), Value::Map(others)) = (child.value, parent.value) else { return Err(()) };
    if others.iter().any(|(key, _)| key.text == EXTENDS) {
        return Err(());
    }
    let said = |name: &str| name == CONTRACT || own.iter().any(|(key, _)| key.text == name);
    let inherited: Vec<_> = others.into_iter().filter(|(key, _)| !said(&key.text)).collect();
    let goes = |(key, value): &(Key, Node)| {
        let name = key.text.as_str();
        let null = At::root(value).is_null() && name != CONTRACT && KEYS.contains(&name);
        null || name == EXTENDS
    };
    let mut members: Vec<_> = own.into_iter().filter(|member| !goes(member)).collect();
    members.extend(inherited);
    Ok(Node { value: Value::Map(members), ..child })
}

/// A tree as a document: JSON, one line for each key at the top.
fn written(root: &Node) -> String {
    let mut text = String::new();
    match &root.value {
        Value::Map(members) => {
            for (index, (key, value)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "{\n  " } else { ",\n  " });
                quote(&mut text, &key.text);
                text.push_str(": ");
                write(&mut text, value);
            }
            text.push_str("\n}\n");
        }
        Value::List(_) | Value::Scalar { .. } => write(&mut text, root),
    }
    text
}

fn write(text: &mut String, node: &Node) {
    match &node.value {
        Value::Map(members) => {
            text.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                quote(text, &key.text);
                text.push_str(": ");
                write(text, value);
            }
            text.push('}');
        }
        Value::List(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write(text, element);
            }
            text.push(']');
        }
        Value::Scalar { text: scalar, .. } => match node.typed() {
            Some(Typed::Null | Typed::Bool(_) | Typed::Number(_)) => text.push_str(scalar),
            Some(Typed::Text(_)) | None => quote(text, scalar),
        },
    }
}

/// A JSON string; what a document may not hold as it is stands escaped.
fn quote(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        let code = u32::from(c);
        let no_character = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() || c == '\u{feff}' || no_character => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Whether two trees say the same, wherever it stands.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Map(a), Value::Map(b)) => {
            let pairs = || a.iter().zip(b);
            a.len() == b.len() && pairs().all(|(a, b)| a.0.text == b.0.text && same(&a.1, &b.1))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Scalar { .. }, Value::Scalar { .. }) => a.typed() == b.typed(),
        (Value::Map(_) | Value::List(_) | Value::Scalar { .. }, _) => false,
    }
}
