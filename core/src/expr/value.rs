//! JSON values in CEL: scalars become CEL scalars, lists and objects stay ranges of the text.
//!
//! [`JsonVal`] is `'static` (it shares the text's bytes), so that what an expression returns can be
//! recovered by downcast, source bytes and all. It behaves as a CEL list or map: indexing, `in`,
//! `size`, `==`, comprehensions. Every look at the text is charged to the meter by the bytes that it
//! may read.

use super::work;
use crate::json::{Kind, Node, Number};
use bytes::Bytes;
use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator as Items, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, DYN_TYPE, LIST_TYPE,
    MAP_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// Units per byte of text whose values are compared: short values cost more than their bytes.
const COMPARE: usize = 4;

static LIST: Type = LIST_TYPE;
static MAP: Type = MAP_TYPE;
static DYN: Type = DYN_TYPE;
static NULL: CelNull = CelNull;

/// The value of `node`, a part of `data`; strings without escapes borrow from it.
pub(super) fn borrowed<'b>(node: Node<'b>, data: &Bytes) -> Result<CowVal<'b, 'b>, ExecutionError> {
    if node.kind() != Kind::String {
        return owned(node, data).map(CowVal::Owned);
    }
    work::charge(node.source().len())?;
    Ok(CowVal::owned(CelString::from(node.as_str().unwrap_or_default())))
}

/// The value of `node`, a part of `data`.
fn owned<'v>(node: Node<'_>, data: &Bytes) -> Result<Box<dyn Val + 'v>, ExecutionError> {
    Ok(match node.kind() {
        Kind::Null => Box::new(NULL),
        Kind::Bool => Box::new(CelBool::from(node.as_bool().unwrap_or_default())),
        Kind::Number => match node.as_number() {
            Some(Number::Int(int)) => Box::new(CelInt::from(int)),
            Some(Number::Double(double)) => Box::new(CelDouble::from(double)),
            None => Box::new(NULL),
        },
        Kind::String => {
            work::charge_growth(node.source().len())?;
            Box::new(CelString::from(node.as_str().unwrap_or_default().into_owned()))
        }
        Kind::Array | Kind::Object => Box::new(JsonVal::new(data.slice_ref(node.source()))),
    })
}

/// A JSON list or object.
pub(super) struct JsonVal {
    /// Exactly the source of the value.
    text: Bytes,
    /// Elements of a list, names of an object, once somebody iterates over them.
    items: OnceLock<Vec<Box<dyn Val>>>,
}

impl JsonVal {
    /// The list or object that `text` is, exactly.
    pub(super) fn new(text: Bytes) -> Self {
        Self { text, items: OnceLock::new() }
    }

    /// Length of the source in bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The source bytes.
    pub(super) fn source(&self) -> &Bytes {
        &self.text
    }

    fn node(&self) -> Node<'_> {
        Node::of(&self.text)
    }

    fn is_list(&self) -> bool {
        self.node().kind() == Kind::Array
    }

    fn count(&self) -> usize {
        match self.items.get() {
            Some(items) => items.len(),
            None if self.is_list() => self.node().elements().count(),
            None => self.node().members().count(),
        }
    }

    /// Elements or names as CEL values; empty when the meter stops it, which ends the evaluation.
    fn items(&self) -> &[Box<dyn Val>] {
        self.items.get_or_init(|| self.make_items().unwrap_or_default())
    }

    fn make_items(&self) -> Result<Vec<Box<dyn Val>>, ExecutionError> {
        work::charge(self.len())?;
        if self.is_list() {
            return self.node().elements().map(|node| owned(node, &self.text)).collect();
        }
        let names = self.node().members().map(|(name, _)| {
            let name = name.text().into_owned();
            work::charge_growth(name.len())?;
            Ok(Box::new(CelString::from(name)) as Box<dyn Val>)
        });
        names.collect()
    }

    fn find(&self, index: &dyn Val) -> Result<Node<'_>, ExecutionError> {
        work::charge(self.len())?;
        if self.is_list() {
            let found = position(index)?.and_then(|at| self.node().element(at));
            return found.ok_or(ExecutionError::IndexOutOfBounds(cel::Value::Null));
        }
        let name = index.downcast_ref::<CelString<'_>>().ok_or_else(|| wrong_index(index))?;
        self.node().member(name.inner()).ok_or_else(|| ExecutionError::no_such_key(""))
    }
}

/// A list index: none when it is a number that no list has.
fn position(index: &dyn Val) -> Result<Option<usize>, ExecutionError> {
    if let Some(int) = index.downcast_ref::<CelInt>() {
        return Ok(usize::try_from(*int.inner()).ok());
    }
    if let Some(uint) = index.downcast_ref::<CelUInt>() {
        return Ok(usize::try_from(*uint.inner()).ok());
    }
    Err(wrong_index(index))
}

fn wrong_index(index: &dyn Val) -> ExecutionError {
    ExecutionError::UnexpectedType {
        got: index.get_type().name().to_owned(),
        want: "an index".to_owned(),
    }
}

/// Whether a JSON value equals a CEL value, as CEL's `==` has it.
fn equals(node: Node<'_>, value: &dyn Val, data: &Bytes) -> bool {
    match node.kind() {
        Kind::Null => NULL.equals(value),
        Kind::Bool => node.as_bool().is_some_and(|b| CelBool::from(b).equals(value)),
        Kind::Number => match node.as_number() {
            Some(Number::Int(int)) => CelInt::from(int).equals(value),
            Some(Number::Double(double)) => CelDouble::from(double).equals(value),
            None => false,
        },
        Kind::String => value
            .downcast_ref::<CelString<'_>>()
            .is_some_and(|text| node.as_str().as_deref() == Some(text.inner())),
        Kind::Array | Kind::Object => JsonVal::new(data.slice_ref(node.source())).equals(value),
    }
}

/// Whether two JSON values are equal: numbers by value, objects whatever their order.
fn equal_nodes(left: Node<'_>, right: Node<'_>) -> Result<bool, ExecutionError> {
    if left.source() == right.source() {
        return Ok(true);
    }
    if left.kind() != right.kind() {
        return Ok(false);
    }
    match left.kind() {
        Kind::Null | Kind::Bool => Ok(false),
        Kind::Number => Ok(match (left.as_number(), right.as_number()) {
            (Some(Number::Int(a)), Some(Number::Int(b))) => a == b,
            (Some(Number::Double(a)), Some(Number::Double(b))) => a == b,
            (Some(Number::Int(a)), Some(Number::Double(b)))
            | (Some(Number::Double(b)), Some(Number::Int(a))) => {
                CelInt::from(a).equals(&CelDouble::from(b))
            }
            (None, _) | (_, None) => false,
        }),
        Kind::String => Ok(left.as_str() == right.as_str()),
        Kind::Array => {
            if left.elements().count() != right.elements().count() {
                return Ok(false);
            }
            for (a, b) in left.elements().zip(right.elements()) {
                if !equal_nodes(a, b)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Kind::Object => {
            if left.members().count() != right.members().count() {
                return Ok(false);
            }
            for (name, a) in left.members() {
                // A lookup each: quadratic in the members, and so it is charged.
                work::charge(right.source().len())?;
                match right.member(&name.text()) {
                    Some(b) if equal_nodes(a, b)? => {}
                    Some(_) | None => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

impl Val for JsonVal {
    fn get_type(&self) -> &Type {
        if self.is_list() { &LIST } else { &MAP }
    }

    fn cel_type() -> &'static Type {
        &DYN
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        self.is_list().then_some(self as &dyn Adder)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        if work::charge(self.len() * COMPARE).is_err() {
            return false;
        }
        if let Some(json) = other.downcast_ref::<JsonVal>() {
            return equal_nodes(self.node(), json.node()).unwrap_or(false);
        }
        let Some(list) = other.downcast_ref::<CelList<'_>>() else {
            return false;
        };
        let elements = self.node().elements();
        self.is_list()
            && elements.clone().count() == list.inner().len()
            && elements.zip(list.inner()).all(|(a, b)| equals(a, b.as_ref(), &self.text))
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(JsonVal::new(self.text.clone()))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for JsonVal {}

impl Adder for JsonVal {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let elements = self.node().elements();
        let list: Result<Vec<Box<dyn Val + 'v>>, _> =
            elements.map(|node| owned(node, &self.text)).collect();
        let sum = CelList::from(list?).add(rhs)?.into_owned();
        Ok(CowVal::Owned(sum))
    }
}

impl Container for JsonVal {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        work::charge(self.len() * COMPARE)?;
        if self.is_list() {
            return Ok(self.node().elements().any(|node| equals(node, value, &self.text)));
        }
        let name = value.downcast_ref::<CelString<'_>>().ok_or_else(|| wrong_index(value))?;
        Ok(self.node().members().any(|(candidate, _)| candidate.is(name.inner())))
    }
}

impl Indexer for JsonVal {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        owned(self.find(index)?, &self.text).map(CowVal::Owned)
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        owned(self.find(index)?, &self.text)
    }
}

impl Iterable for JsonVal {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(ItemsOf(self.items().iter()))
    }
}

/// Lends out the items of a [`JsonVal`].
struct ItemsOf<'b>(std::slice::Iter<'b, Box<dyn Val>>);

impl<'b, 'v> Items<'b, 'v> for ItemsOf<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|item| item.as_ref() as &(dyn Val + 'v))
    }
}

impl Sizer for JsonVal {
    fn size(&self) -> CelInt {
        if work::charge(self.len()).is_err() {
            return CelInt::from(0);
        }
        CelInt::from(i64::try_from(self.count()).unwrap_or(i64::MAX))
    }
}

impl Zeroer for JsonVal {
    fn is_zero_value(&self) -> bool {
        self.node().elements().next().is_none() && self.node().members().next().is_none()
    }
}

impl fmt::Debug for JsonVal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Event data stays out of messages.
        write!(f, "JsonVal({} bytes)", self.len())
    }
}
