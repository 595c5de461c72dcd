//! From source to a checked, rewritten tree.
//!
//! The rewriting does what the engine leaves undone. Paths from a root become slots, constants are
//! made once, every name and function is looked up, and the few operations that can grow or loop are
//! led through the metered functions of [`functions`](super::functions): `a + b` becomes `@add(a, b)`, elements
//! of a list `@own(x)`, the range of a comprehension `@loop(range, nodes)`.

mod paths;

use super::constant::Constant;
use super::encode::MAX_DIGITS;
use super::functions::Pattern;
use super::hash::ALGORITHMS;
use super::kinds;
use super::lets::{MAX_NODES, Names};
use super::names::{self, HASHES, METERED, OPTIONAL, RAW, TYPES};
use super::path::{self, Trail};
use super::slot::{Field, Slot};
use super::value::JsonVal;
use super::{Root, Site};
use crate::error::{Rule, Wrong};
use crate::time_pattern::{TimePattern, Zone};
use bytes::Bytes;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo,
    operators,
};
use cel::common::types::{CelDuration, CelInt, CelList, CelTimestamp};
use cel::common::value::Val;
use cel::{Context, Env, ParseErrors, Value};
use std::mem;
use std::sync::Arc;

/// Deepest tree; it bounds the stack that an evaluation takes.
const MAX_DEPTH: usize = 64;

/// An expression ready to run.
pub(super) struct Program {
    pub(super) root: IdedExpr,
    pub(super) slots: Vec<Slot>,
    /// Whether a comprehension may ask for a slot more than once.
    pub(super) loops: bool,
    /// What the source speaks of.
    pub(super) roots: Vec<Root>,
    /// Whether it names the secret outside of a hash.
    pub(super) bares_secret: bool,
}

impl Program {
    /// Whether the source names this field.
    pub(super) fn speaks_of(&self, field: Field) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Field(named) if *named == field))
    }
}

/// Parses and rewrites `source`.
pub(super) fn compile(source: &str, names: Names<'_>, env: &Arc<Env>) -> Result<Program, Wrong> {
    let (mut root, info) =
        env.parser().parse_with_source_info(source).map_err(|errors| syntax(&errors))?;
    let mut budget = MAX_NODES;
    if let Err((id, text)) = names.write_out(&mut root, &mut Vec::new(), &mut budget) {
        let (line, column) = position(source, &info, id);
        return Err(invalid(line, column, &text));
    }
    let mut compiler = Compiler {
        env,
        site: names.site,
        slots: Vec::new(),
        roots: Vec::new(),
        scope: Vec::new(),
        in_loop: false,
        loops: false,
        hashed: false,
        bares_secret: false,
    };
    match compiler.node(&mut root, 0) {
        Ok(()) => {
            let Compiler { slots, loops, roots, bares_secret, .. } = compiler;
            Ok(Program { root, slots, loops, roots, bares_secret })
        }
        Err(fault) => {
            let (line, column) = position(source, &info, fault.id);
            Err(invalid(line, column, &fault.text))
        }
    }
}

/// Looks for mistakes in the types of a condition, as far as they are known.
pub(super) fn check_condition(source: &str, env: &Arc<Env>) -> Result<(), Wrong> {
    let (root, info) =
        env.parser().parse_with_source_info(source).map_err(|errors| syntax(&errors))?;
    kinds::check(&root).map_err(|mistake| {
        let (line, column) = position(source, &info, mistake.id);
        invalid(line, column, &mistake.text)
    })
}

/// A refusal at a place in the source, both numbers from 1.
pub(super) fn invalid(line: usize, column: usize, text: &str) -> Wrong {
    Wrong::new(Rule::ExpressionInvalid, format!("{line}:{column}: {text}"))
}

fn syntax(errors: &ParseErrors) -> Wrong {
    let Some(first) = errors.errors.first() else {
        return invalid(1, 1, "cannot be parsed");
    };
    let at = |position: isize| usize::try_from(position).unwrap_or(1).max(1);
    invalid(at(first.pos.0), at(first.pos.1), &first.msg)
}

/// Line and column (in characters) of a node.
fn position(source: &str, info: &SourceInfo, id: u64) -> (usize, usize) {
    let start = info.offset_for(id).map_or(0, |(start, _)| start as usize);
    let before = source.get(..source.floor_char_boundary(start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    (line, column)
}

/// Whether this is a list of literals, which holds no list.
fn is_of_literals(expr: &Expr) -> bool {
    let Expr::List(list) = expr else { return false };
    list.elements.iter().all(|element| matches!(element.expr, Expr::Literal(_)))
}

/// What is wrong with a node.
struct Fault {
    id: u64,
    text: String,
}

fn fault<T>(id: u64, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { id, text: text.into() })
}

struct Compiler<'e> {
    env: &'e Arc<Env>,
    site: Site,
    slots: Vec<Slot>,
    roots: Vec<Root>,
    /// Variables of the comprehensions around, innermost last.
    scope: Vec<String>,
    in_loop: bool,
    loops: bool,
    /// Whether what is read now goes into a hash.
    hashed: bool,
    bares_secret: bool,
}

impl Compiler<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), Fault> {
        if let Some(trail) = self.trail(&node.expr) {
            node.expr = self.bind_path(node.id, trail)?;
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return fault(node.id, format!("nested deeper than {MAX_DEPTH}"));
        }
        let (id, depth) = (node.id, depth + 1);
        node.expr = match mem::take(&mut node.expr) {
            Expr::Unspecified => return fault(id, "cannot be parsed"),
            literal @ Expr::Literal(_) => literal,
            Expr::Ident(name) => self.ident(id, name)?,
            Expr::Select(select) => self.select(id, select, depth)?,
            Expr::Call(call) => self.call(id, call, depth)?,
            Expr::List(list) => self.list(list, depth)?,
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension, depth)?,
            // An empty object has no order to lose.
            Expr::Map(map) if map.entries.is_empty() => {
                let empty = JsonVal::new(Bytes::from_static(b"{}"));
                self.slot(Slot::Constant(Box::new(empty)))
            }
            Expr::Map(_) | Expr::Struct(_) => {
                return fault(id, "maps and messages cannot be made in an expression");
            }
        };
        Ok(())
    }

    /// The trail from a root that an expression is; a variable hides the root of its name.
    fn trail(&self, expr: &Expr) -> Option<Trail> {
        path::trail(expr).filter(|it| self.scope.iter().all(|name| name != it.root.name()))
    }

    /// The name of a slot that holds this, shared by equal paths.
    fn slot(&mut self, slot: Slot) -> Expr {
        let same = self.slots.iter().position(|other| other.same(&slot));
        let number = same.unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        });
        Expr::Ident(format!("@{number}"))
    }

    fn ident(&self, id: u64, name: String) -> Result<Expr, Fault> {
        if self.scope.contains(&name) || TYPES.contains(&name.as_str()) {
            Ok(Expr::Ident(name))
        } else {
            fault(id, format!("unknown name {name}"))
        }
    }

    fn select(&mut self, id: u64, mut select: SelectExpr, depth: usize) -> Result<Expr, Fault> {
        if let Some(trail) = self.trail(&select.operand.expr).filter(|_| select.test)
            && let Some(answer) = self.has(id, &trail, &select.field)?
        {
            return Ok(answer);
        }
        self.node(&mut select.operand, depth)?;
        Ok(Expr::Select(select))
    }

    fn call(&mut self, id: u64, mut call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        if names::is_operator(&call.func_name) {
            return self.operator(call, depth);
        }
        let qualified = call
            .target
            .as_ref()
            .is_some_and(|target| matches!(&target.expr, Expr::Ident(root) if root == OPTIONAL));
        let name =
            if qualified { format!("optional.{}", call.func_name) } else { call.func_name.clone() };
        let member = call.target.is_some() && !qualified;
        names::check_function(&name, member, call.args.len()).or_else(|text| fault(id, text))?;
        if call.func_name == "matches" {
            return self.matches(id, call, depth);
        }
        if name == RAW {
            let argument = call.args.first();
            return self.raw(id, argument.and_then(|argument| self.trail(&argument.expr)));
        }
        if !member && matches!(name.as_str(), "timestamp" | "duration") && has_literal(&call) {
            return self.moment(id, call);
        }
        if let Some(target) = call.target.as_mut().filter(|_| member) {
            self.node(target, depth)?;
        }
        let outside = self.hashed;
        self.hashed |= HASHES.contains(&name.as_str());
        for (at, arg) in call.args.iter_mut().enumerate() {
            match self.literal_of_ours(&name, at, arg)? {
                Some(constant) => arg.expr = constant,
                None => self.node(arg, depth)?,
            }
        }
        self.hashed = outside;
        if METERED.contains(&name.as_str()) {
            if let Some(target) = call.target.take() {
                call.args.insert(0, *target);
            }
            call.func_name = format!("@{name}");
        }
        Ok(Expr::Call(call))
    }

    /// A literal argument that one of our own functions wants parsed; checked here, so that a wrong
    /// one is refused with its place.
    fn literal_of_ours(
        &mut self,
        function: &str,
        at: usize,
        arg: &IdedExpr,
    ) -> Result<Option<Expr>, Fault> {
        let Expr::Literal(literal) = &arg.expr else {
            return Ok(None);
        };
        let wrong = |wrong: Wrong| Fault { id: arg.id, text: wrong.description };
        let constant: Box<dyn Val> = match (function, at, literal) {
            ("format", 0, LiteralValue::String(text)) => {
                Box::new(Constant(TimePattern::parse(text.inner()).map_err(wrong)?))
            }
            ("format", 1, LiteralValue::String(text)) => {
                Box::new(Constant(Zone::parse(text.inner()).map_err(wrong)?))
            }
            ("rfc3339", 0, LiteralValue::Int(digits))
                if !(0..=MAX_DIGITS).contains(digits.inner()) =>
            {
                return fault(arg.id, format!("rfc3339 takes 0 to {MAX_DIGITS} digits"));
            }
            ("hmac", 0, LiteralValue::String(name)) if !ALGORITHMS.contains(&name.inner()) => {
                let known = ALGORITHMS.join(", ");
                return fault(arg.id, format!("hmac takes one of {known}, quoted"));
            }
            _ => return Ok(None),
        };
        Ok(Some(self.slot(Slot::Constant(constant))))
    }

    fn operator(&mut self, mut call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let name = call.func_name.as_str();
        if let (operators::EQUALS | operators::NOT_EQUALS, [left, right]) =
            (name, call.args.as_mut_slice())
        {
            let plain = |side: &IdedExpr| {
                self.trail(&side.expr).is_some() || matches!(side.expr, Expr::Literal(_))
            };
            if !plain(left) && !matches!(right.expr, Expr::Literal(_)) {
                return self.compared("@equals", call, depth);
            }
        }
        if let (operators::IN, [_, container]) = (name, call.args.as_slice())
            && self.trail(&container.expr).is_none()
            && !is_of_literals(&container.expr)
        {
            return self.compared("@within", call, depth);
        }
        if let (operators::ADD, [left, right]) = (name, call.args.as_mut_slice())
            && matches!(&left.expr, Expr::Ident(accumulator) if accumulator.starts_with('@'))
        {
            // `@result + [x]` of a macro: the engine knows this shape and appends in place.
            self.node(left, depth)?;
            if let Expr::List(list) = &mut right.expr {
                self.elements(list, depth)?;
            } else {
                self.node(right, depth)?;
            }
            return Ok(Expr::Call(call));
        }
        for arg in &mut call.args {
            self.node(arg, depth)?;
        }
        if call.func_name == operators::ADD {
            call.func_name = "@add".to_owned();
        }
        Ok(Expr::Call(call))
    }

    /// `==`, `!=` or `in` where a list made in CEL may meet one of ours, as a side or within one: the
    /// engine asks the list that it made, which does not know ours.
    fn compared(&mut self, by: &str, mut call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        for arg in &mut call.args {
            self.node(arg, depth)?;
        }
        let negated = call.func_name == operators::NOT_EQUALS;
        let id = call.args.first().map_or(0, |left| left.id);
        let answer = function(by, call.args);
        if negated {
            return Ok(function(operators::LOGICAL_NOT, vec![IdedExpr { id, expr: answer }]));
        }
        Ok(answer)
    }

    /// `x.matches("pattern")`, with the pattern compiled here.
    fn matches(&mut self, id: u64, mut call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let Some(last) = call.args.pop() else {
            return fault(id, "matches takes a pattern");
        };
        let Expr::Literal(LiteralValue::String(source)) = &last.expr else {
            return fault(last.id, "matches takes its pattern as a literal");
        };
        let pattern = Pattern::new(source.inner()).or_else(|text| fault(last.id, text))?;
        let Some(mut subject) =
            call.target.take().map(|target| *target).or_else(|| call.args.pop())
        else {
            return fault(id, "matches takes a string and a pattern");
        };
        self.node(&mut subject, depth)?;
        let slot = self.slot(Slot::Constant(Box::new(Constant(pattern))));
        Ok(function("@matches", vec![subject, IdedExpr { id, expr: slot }]))
    }

    /// `timestamp("…")` or `duration("…")` of a literal, made here.
    fn moment(&mut self, id: u64, call: CallExpr) -> Result<Expr, Fault> {
        let what = call.func_name.clone();
        let call = IdedExpr { id, expr: Expr::Call(call) };
        let context = Context::with_env(Arc::clone(self.env));
        let value = Value::resolve_val(&call, &context).ok();
        let constant: Option<Box<dyn Val>> = value.and_then(|value| {
            let time = value.downcast_ref::<CelTimestamp>().map(|time| Box::new(time.clone()) as _);
            let span = || value.downcast_ref::<CelDuration>().map(|span| Box::new(*span) as _);
            time.or_else(span)
        });
        match constant {
            Some(constant) => Ok(self.slot(Slot::Constant(constant))),
            None => fault(id, format!("not a {what}")),
        }
    }

    fn list(&mut self, mut list: ListExpr, depth: usize) -> Result<Expr, Fault> {
        let literals = list.elements.iter().map(|element| {
            let Expr::Literal(literal) = &element.expr else {
                return None;
            };
            Some(literal.to_val().into_owned())
        });
        if list.optional_indices.is_empty()
            && let Some(values) = literals.collect::<Option<Vec<Box<dyn Val>>>>()
        {
            return Ok(self.slot(Slot::Constant(Box::new(CelList::from(values)))));
        }
        self.elements(&mut list, depth)?;
        Ok(Expr::List(list))
    }

    fn elements(&mut self, list: &mut ListExpr, depth: usize) -> Result<(), Fault> {
        for element in &mut list.elements {
            self.node(element, depth)?;
            let id = element.id;
            let inner = mem::take(element);
            *element = IdedExpr { id, expr: function("@own", vec![inner]) };
        }
        Ok(())
    }

    fn comprehension(
        &mut self,
        id: u64,
        mut it: Box<ComprehensionExpr>,
        depth: usize,
    ) -> Result<Expr, Fault> {
        // `optMap` and its like bind a name by a comprehension over nothing.
        let loops = !matches!(&it.iter_range.expr, Expr::List(list) if list.elements.is_empty());
        if loops && self.in_loop {
            return fault(id, "comprehensions cannot be nested");
        }
        let names: Vec<String> = [Some(&it.iter_var), it.iter_var2.as_ref(), Some(&it.accu_var)]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if let Some(name) = names.iter().find(|name| names::is_taken(name)) {
            return fault(id, format!("{name} cannot name a variable"));
        }
        if loops {
            self.node(&mut it.iter_range, depth)?;
        }
        self.node(&mut it.accu_init, depth)?;
        let outside = (self.scope.len(), self.in_loop);
        self.scope.extend(names);
        self.in_loop |= loops;
        self.loops |= loops;
        for part in [&mut it.loop_cond, &mut it.loop_step, &mut it.result] {
            self.node(part, depth)?;
        }
        self.scope.truncate(outside.0);
        self.in_loop = outside.1;
        if loops {
            let nodes = count(&it.loop_cond.expr) + count(&it.loop_step.expr);
            let nodes = CelInt::from(i64::try_from(nodes).unwrap_or(i64::MAX));
            let nodes = IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(nodes)) };
            let range = mem::take(&mut it.iter_range);
            it.iter_range = IdedExpr { id, expr: function("@loop", vec![range, nodes]) };
        }
        Ok(Expr::Comprehension(it))
    }
}

fn function(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

/// Whether a call's only argument is a string literal.
fn has_literal(call: &CallExpr) -> bool {
    matches!(call.args.as_slice(), [IdedExpr { expr: Expr::Literal(LiteralValue::String(_)), .. }])
}

/// How many nodes a tree has.
fn count(expr: &Expr) -> usize {
    let all = |nodes: &[IdedExpr]| nodes.iter().map(|node| count(&node.expr)).sum::<usize>();
    1 + match expr {
        Expr::Select(select) => count(&select.operand.expr),
        Expr::Call(call) => {
            call.target.as_ref().map_or(0, |target| count(&target.expr)) + all(&call.args)
        }
        Expr::List(list) => all(&list.elements),
        Expr::Comprehension(it) => {
            let parts = [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result];
            parts.into_iter().map(|part| count(&part.expr)).sum()
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => 0,
    }
}
