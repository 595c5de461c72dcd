//! Paths from a root, checked against what the site and the root have to offer, and made slots.

use super::super::Root;
use super::super::bind::slot_number;
use super::super::path::Trail;
use super::super::slot::{self, Document, Field, Lookup, Map, Path, Slot, What};
use super::{Compiler, Fault, fault};
use crate::json::Step;
use cel::common::ast::{Expr, LiteralValue};
use cel::common::types::CelBool;

impl Compiler<'_> {
    /// The slot that a path from a root stands for.
    pub(super) fn bind_path(&mut self, id: u64, trail: Trail) -> Result<Expr, Fault> {
        let root = trail.root;
        self.speak_of(id, root)?;
        if let Some(value) = slot::value(root) {
            let name = root.name();
            return match trail.steps.is_empty() {
                true => Ok(self.value(root, value)),
                false => fault(id, format!("{name} has no members")),
            };
        }
        let not_a_value = || format!("{} is not a value; name one of its fields", root.name());
        let mut steps = trail.steps.into_iter();
        let (name, optional) = match steps.next() {
            Some((Step::Member(name), optional)) => (name, optional),
            Some((Step::Element(_), _)) | None => return fault(id, not_a_value()),
        };
        let whole = format!("{}.{name}", root.name());
        match known(id, root, &name)? {
            What::Document(document) => {
                let rest: Vec<(Step, bool)> = steps.collect();
                let first = rest.iter().position(|(_, optional)| *optional);
                let optional_from = if optional { Some(0) } else { first.map(|at| at + 1) };
                let steps = rest.into_iter().map(|(step, _)| step).collect();
                Ok(self.slot(Slot::Path(Path { document, steps, optional_from })))
            }
            What::Field(field) => match steps.next() {
                None => Ok(self.slot(Slot::Field(field))),
                Some(_) => fault(id, format!("{whole} has no members")),
            },
            What::Map(map) => {
                let (key, optional) = match steps.next() {
                    None => return Ok(self.slot(Slot::Map(map))),
                    Some((Step::Member(key), optional)) => (key, optional),
                    Some((Step::Element(_), _)) => {
                        return fault(id, format!("{whole} has no element; name an entry"));
                    }
                };
                if steps.next().is_some() {
                    return fault(id, format!("entries of {whole} have no members"));
                }
                let lookup = if optional { Lookup::Optional } else { Lookup::Value };
                self.entry(id, map, key, lookup)
            }
        }
    }

    /// A root that is a value itself.
    fn value(&mut self, root: Root, field: Field) -> Expr {
        self.bares_secret |= root == Root::Secret && !self.hashed;
        self.slot(Slot::Field(field))
    }

    /// The slot of `raw(path)`: a value of JSON as it is written.
    pub(super) fn raw(&mut self, id: u64, trail: Option<Trail>) -> Result<Expr, Fault> {
        let into_json = "raw takes a path into JSON, as in raw(event.data.amount)";
        let Some(trail) = trail else { return fault(id, into_json) };
        let Expr::Ident(bound) = self.bind_path(id, trail)? else { return fault(id, into_json) };
        let slot = slot_number(&bound).and_then(|number| self.slots.get(number));
        let Some(Slot::Path(path)) = slot else { return fault(id, into_json) };
        let path = path.clone();
        Ok(self.slot(Slot::Raw(path)))
    }

    fn entry(&mut self, id: u64, map: Map, key: Box<str>, lookup: Lookup) -> Result<Expr, Fault> {
        if map == Map::ResponseHeaders && key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let name = key.to_ascii_lowercase();
            return fault(id, format!("names of headers are in lower case here: {name:?}"));
        }
        Ok(self.slot(Slot::Entry(map, key, lookup)))
    }

    /// Notes that the source names a root, if it may do so here.
    fn speak_of(&mut self, id: u64, root: Root) -> Result<(), Fault> {
        if !self.site.roots().contains(&root) {
            let seen: Vec<_> = self.site.roots().iter().map(|root| root.name()).collect();
            let text = format!("unknown name {}; known here: {}", root.name(), seen.join(", "));
            return fault(id, text);
        }
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
        Ok(())
    }

    /// `has(…)` of a field of a root or an entry of a map; what is inside JSON is the engine's.
    pub(super) fn has(
        &mut self,
        id: u64,
        trail: &Trail,
        name: &str,
    ) -> Result<Option<Expr>, Fault> {
        let always = Expr::Literal(LiteralValue::Boolean(CelBool::from(true)));
        let holder = match trail.steps.as_slice() {
            [] => {
                self.speak_of(id, trail.root)?;
                return Ok(Some(match known(id, trail.root, name)? {
                    What::Document(Document::ResponseJson) => {
                        self.slot(Slot::Present(Document::ResponseJson))
                    }
                    What::Document(_) | What::Field(_) | What::Map(_) => always,
                }));
            }
            [(Step::Member(holder), _)] => slot::offer(trail.root, holder),
            [..] => None,
        };
        match holder {
            Some(What::Map(map)) => {
                self.speak_of(id, trail.root)?;
                self.entry(id, map, name.into(), Lookup::Present).map(Some)
            }
            Some(What::Document(_) | What::Field(_)) | None => Ok(None),
        }
    }
}

/// What a name behind a root stands for.
fn known(id: u64, root: Root, name: &str) -> Result<What, Fault> {
    match slot::offer(root, name) {
        Some(what) => Ok(what),
        None => fault(id, format!("{} has no field {name}", root.name())),
    }
}
