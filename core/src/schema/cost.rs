//! What a schema may cost, found out before it is taken.
//!
//! The validator has no limits of its own. A reference that comes back to itself without going into
//! the data never ends; two branches that each recur double the work at every level of the data; a
//! long chain of references is as much stack. So the schema is read as a graph. From each subschema
//! some edges lead to others on the *same* value (`$ref`, `allOf`, `if` …) and some to values *inside*
//! it (`properties`, `items` …). Edges on the same value must have no cycle. Then, for data of 0, 1, 2
//! … up to 64 levels, the number of subschemas that can look at one and the same value, and the
//! longest chain of them that waits for each other, follow by recurrence; both have a bound.

use serde_json::{Map, Value};
use std::collections::HashMap;
use std::mem;

/// Levels of nesting that event data can have.
const LEVELS: usize = 64;

/// Most looks at one value, its containers included. A schema without recursion has about as many as
/// it has nested subschemas; one that recurs, as many again for every level.
const MAX_LOOKS: u64 = 20_000;

/// Longest chain of subschemas that wait for each other: it bounds the validator's stack.
const MAX_CHAIN: u64 = 600;

/// Keywords that hold a list of schemas for the same value.
const SAME_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Keywords that hold one schema for the same value.
const SAME: &[&str] = &["not", "if", "then", "else"];

/// Whether a schema stays inside its document and within bounds; else what is wrong, in words.
pub(super) fn check(document: &Value) -> Result<(), String> {
    let graph = Graph::read(document)?;
    let order = graph.order()?;
    let (looks, chain) = graph.bounds(&order);
    if looks > MAX_LOOKS {
        return Err(format!("validation may look at a value {looks} times, at most {MAX_LOOKS}"));
    }
    if chain > MAX_CHAIN {
        return Err(format!("a chain of {chain} subschemas, at most {MAX_CHAIN}"));
    }
    Ok(())
}

/// Where the edges of one subschema lead.
#[derive(Default)]
struct Edges {
    /// On the same value.
    same: Vec<usize>,
    /// Into an object or an array; a value is never both.
    object: Inside,
    array: Inside,
    /// `unevaluated…` finds out by looking again what the others have looked at.
    again: bool,
}

/// Edges to the values inside.
#[derive(Default)]
struct Inside {
    /// Of these, one looks at any one value: `properties` by name, `prefixItems` by index.
    either: Vec<usize>,
    /// Each of these looks at it as well.
    each: Vec<usize>,
}

struct Graph<'a> {
    document: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// Subschemas by address in the document.
    known: HashMap<usize, usize>,
    schemas: Vec<&'a Value>,
    edges: Vec<Edges>,
}

impl<'a> Graph<'a> {
    fn read(document: &'a Value) -> Result<Self, String> {
        let mut graph = Self {
            document,
            anchors: HashMap::new(),
            known: HashMap::new(),
            schemas: Vec::new(),
            edges: Vec::new(),
        };
        collect_anchors(document, &mut graph.anchors);
        graph.node(document);
        let mut next = 0;
        while let Some(schema) = graph.schemas.get(next).copied() {
            let edges = match schema {
                Value::Object(members) => graph.read_edges(members, next == 0)?,
                Value::Bool(_) => Edges::default(),
                Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return Err("a schema is an object or a boolean".to_owned());
                }
            };
            graph.edges.push(edges);
            next += 1;
        }
        Ok(graph)
    }

    /// The number of a subschema.
    fn node(&mut self, schema: &'a Value) -> usize {
        let next = self.schemas.len();
        let number = *self.known.entry(std::ptr::from_ref(schema).addr()).or_insert(next);
        if number == next {
            self.schemas.push(schema);
        }
        number
    }

    fn read_edges(&mut self, schema: &'a Map<String, Value>, top: bool) -> Result<Edges, String> {
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if schema.contains_key(keyword) {
                return Err(format!("{keyword} is not supported"));
            }
        }
        if !top && schema.contains_key("$id") {
            return Err("$id is only supported at the top".to_owned());
        }
        let mut edges = Edges::default();
        if let Some(reference) = schema.get("$ref") {
            let target = self.resolve(reference)?;
            edges.same.push(self.node(target));
        }
        for keyword in SAME_LISTS {
            edges.same.extend(self.list(schema.get(*keyword)));
        }
        for keyword in SAME {
            edges.same.extend(self.one(schema.get(*keyword)));
        }
        edges.same.extend(self.values(schema.get("dependentSchemas")));
        edges.same.extend(self.values(schema.get("dependencies")));
        edges.object.either = self.values(schema.get("properties"));
        edges.object.either.extend(self.one(schema.get("additionalProperties")));
        edges.object.each = self.values(schema.get("patternProperties"));
        edges.object.each.extend(self.one(schema.get("propertyNames")));
        edges.object.each.extend(self.one(schema.get("unevaluatedProperties")));
        edges.array.either = self.list(schema.get("prefixItems"));
        edges.array.either.extend(self.one(schema.get("items")));
        edges.array.each = self.one(schema.get("contains")).into_iter().collect();
        edges.array.each.extend(self.one(schema.get("unevaluatedItems")));
        edges.again = ["unevaluatedProperties", "unevaluatedItems"]
            .iter()
            .any(|keyword| schema.contains_key(*keyword));
        Ok(edges)
    }

    fn resolve(&self, reference: &Value) -> Result<&'a Value, String> {
        let uri = reference.as_str().ok_or("$ref must be a string")?;
        let Some(fragment) = uri.strip_prefix('#') else {
            return Err(format!("$ref {uri:?} leaves the document"));
        };
        if fragment.contains('%') {
            return Err(format!("$ref {uri:?} is percent-encoded, which is not supported"));
        }
        let target = if fragment.is_empty() || fragment.starts_with('/') {
            self.document.pointer(fragment)
        } else {
            self.anchors.get(fragment).copied()
        };
        target.ok_or_else(|| format!("$ref {uri:?} leads nowhere"))
    }

    fn one(&mut self, schema: Option<&'a Value>) -> Option<usize> {
        schema.map(|schema| self.node(schema))
    }

    fn list(&mut self, schemas: Option<&'a Value>) -> Vec<usize> {
        let all = schemas.and_then(Value::as_array).into_iter().flatten();
        all.map(|schema| self.node(schema)).collect()
    }

    fn values(&mut self, schemas: Option<&'a Value>) -> Vec<usize> {
        let all = schemas.and_then(Value::as_object).into_iter().flat_map(Map::values);
        // `dependencies` of older drafts may hold lists of names.
        all.filter(|schema| !schema.is_array()).map(|schema| self.node(schema)).collect()
    }

    /// The subschemas ordered so that edges on the same value lead backwards.
    fn order(&self) -> Result<Vec<usize>, String> {
        let mut waiting: Vec<usize> = self.edges.iter().map(|edges| edges.same.len()).collect();
        let mut users: Vec<Vec<usize>> = self.edges.iter().map(|_| Vec::new()).collect();
        for (user, edges) in self.edges.iter().enumerate() {
            for &used in &edges.same {
                users[used].push(user);
            }
        }
        let mut order: Vec<usize> = (0..waiting.len()).filter(|&n| waiting[n] == 0).collect();
        let mut next = 0;
        while let Some(&done) = order.get(next) {
            for &user in &users[done] {
                waiting[user] -= 1;
                if waiting[user] == 0 {
                    order.push(user);
                }
            }
            next += 1;
        }
        if order.len() < self.edges.len() {
            return Err("a subschema refers back to itself on the same value".to_owned());
        }
        Ok(order)
    }

    /// Looks and chain of the document on the deepest data.
    fn bounds(&self, order: &[usize]) -> (u64, u64) {
        let none = || vec![0u64; self.edges.len()];
        let (mut looks, mut chain) = (none(), none());
        for _ in 0..=LEVELS {
            // What looks at an object does not look into arrays, and the other way round.
            let objects = self.looks(order, &looks, |edges| &edges.object);
            let arrays = self.looks(order, &looks, |edges| &edges.array);
            looks = objects.into_iter().zip(arrays).map(|(a, b)| a.max(b)).collect();
            let inner = mem::replace(&mut chain, none());
            for &at in order {
                let edges = &self.edges[at];
                let all = [&edges.object, &edges.array];
                let inside = all.map(|on| most(&on.either, &inner).max(most(&on.each, &inner)));
                let longest = inside.into_iter().fold(most(&edges.same, &chain), u64::max);
                chain[at] = longest.saturating_add(1);
            }
        }
        let top = |all: &[u64]| all.first().copied().unwrap_or(0);
        (top(&looks), top(&chain))
    }

    /// Looks from each subschema on a value of one kind, given those at the values inside.
    fn looks(&self, order: &[usize], inner: &[u64], on: impl Fn(&Edges) -> &Inside) -> Vec<u64> {
        let mut looks = vec![0u64; self.edges.len()];
        for &at in order {
            let edges = &self.edges[at];
            let same = sum(&edges.same, &looks);
            let same = if edges.again { same.saturating_mul(2) } else { same };
            let inside = on(edges);
            looks[at] = same
                .saturating_add(most(&inside.either, inner))
                .saturating_add(sum(&inside.each, inner))
                .saturating_add(1);
        }
        looks
    }
}

fn sum(numbers: &[usize], of: &[u64]) -> u64 {
    numbers.iter().fold(0, |sum, &number| sum.saturating_add(of[number]))
}

fn most(numbers: &[usize], of: &[u64]) -> u64 {
    numbers.iter().map(|&number| of[number]).max().unwrap_or(0)
}

fn collect_anchors<'a>(value: &'a Value, anchors: &mut HashMap<&'a str, &'a Value>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(anchor)) = members.get("$anchor") {
                anchors.insert(anchor, value);
            }
            members.values().for_each(|member| collect_anchors(member, anchors));
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| collect_anchors(element, anchors));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
