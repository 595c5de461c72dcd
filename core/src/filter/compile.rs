//! From source to a checked, rewritten tree.
//!
//! The rewriting does what the engine leaves undone. Paths from `event` become slots, constants are
//! made once, every name and function is looked up, and the few operations that can grow or loop are
//! led through the metered functions of [`functions`](super::functions): `a + b` becomes `@add(a, b)`, elements
//! of a list `@own(x)`, the range of a comprehension `@loop(range, nodes)`.

use super::functions::Pattern;
use super::names::{self, METERED, OPTIONAL, TYPES};
use super::slot::{Field, Slot};
use crate::error::{Rule, Wrong};
use crate::json::Step;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo,
    operators,
};
use cel::common::types::{CelBool, CelDuration, CelInt, CelList, CelTimestamp};
use cel::common::value::Val;
use cel::{Context, Env, ParseErrors, Value};
use std::mem;
use std::sync::Arc;

/// Deepest tree; it bounds the stack that an evaluation takes.
const MAX_DEPTH: usize = 64;

/// A filter ready to run.
pub(super) struct Program {
    pub(super) root: IdedExpr,
    pub(super) slots: Vec<Slot>,
    /// Whether a comprehension may ask for a slot more than once.
    pub(super) loops: bool,
}

/// Parses and rewrites `source`.
pub(super) fn compile(source: &str, env: &Arc<Env>) -> Result<Program, Wrong> {
    let (mut root, info) =
        env.parser().parse_with_source_info(source).map_err(|errors| syntax(&errors))?;
    let mut compiler =
        Compiler { env, slots: Vec::new(), scope: Vec::new(), in_loop: false, loops: false };
    match compiler.node(&mut root, 0) {
        Ok(()) => Ok(Program { root, slots: compiler.slots, loops: compiler.loops }),
        Err(fault) => {
            let (line, column) = position(source, &info, fault.id);
            Err(invalid(line, column, &fault.text))
        }
    }
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
    slots: Vec<Slot>,
    /// Variables of the comprehensions around, innermost last.
    scope: Vec<String>,
    in_loop: bool,
    loops: bool,
}

impl Compiler<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), Fault> {
        if let Some(path) = self.path(&node.expr) {
            node.expr = self.bind_path(node.id, path)?;
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
            Expr::Map(_) | Expr::Struct(_) => {
                return fault(id, "maps and messages cannot be made in a filter");
            }
        };
        Ok(())
    }

    /// The steps from `event`, if that is what the expression is. Empty for `event` itself.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind is no path")]
    fn path(&self, expr: &Expr) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        let mut at = expr;
        loop {
            match at {
                Expr::Ident(name) => {
                    steps.reverse();
                    let ours = name == "event" && !self.scope.iter().any(|own| own == name);
                    return ours.then_some(steps);
                }
                Expr::Select(select) if !select.test => {
                    steps.push(Step::Member(select.field.as_str().into()));
                    at = &select.operand.expr;
                }
                Expr::Call(call) if call.func_name == operators::INDEX => {
                    let [operand, index] = call.args.as_slice() else {
                        return None;
                    };
                    steps.push(literal_step(&index.expr)?);
                    at = &operand.expr;
                }
                _ => return None,
            }
        }
    }

    fn bind_path(&mut self, id: u64, path: Vec<Step>) -> Result<Expr, Fault> {
        let mut steps = path.into_iter();
        let first = match steps.next() {
            Some(Step::Member(name)) => name,
            Some(Step::Element(_)) | None => {
                return fault(id, "event is not a value; name one of its fields");
            }
        };
        let rest: Vec<Step> = steps.collect();
        if &*first == "data" {
            return Ok(self.slot(Slot::Data(rest)));
        }
        let field = field(id, &first)?;
        if rest.is_empty() {
            Ok(self.slot(Slot::Field(field)))
        } else {
            fault(id, format!("event.{first} has no members"))
        }
    }

    /// The name of a slot that holds this, shared by equal paths.
    fn slot(&mut self, slot: Slot) -> Expr {
        let same = self.slots.iter().position(|other| match (other, &slot) {
            (Slot::Field(a), Slot::Field(b)) => a == b,
            (Slot::Data(a), Slot::Data(b)) => a == b,
            (Slot::Field(_) | Slot::Data(_) | Slot::Constant(_), _) => false,
        });
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
        if select.test && self.path(&select.operand.expr).is_some_and(|path| path.is_empty()) {
            // `has(event.id)`: every event has every field.
            if select.field != "data" {
                field(id, &select.field)?;
            }
            return Ok(Expr::Literal(LiteralValue::Boolean(CelBool::from(true))));
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
        if !member && matches!(name.as_str(), "timestamp" | "duration") && has_literal(&call) {
            return self.moment(id, call);
        }
        if let Some(target) = call.target.as_mut().filter(|_| member) {
            self.node(target, depth)?;
        }
        for arg in &mut call.args {
            self.node(arg, depth)?;
        }
        if METERED.contains(&name.as_str()) {
            if let Some(target) = call.target.take() {
                call.args.insert(0, *target);
            }
            call.func_name = format!("@{name}");
        }
        Ok(Expr::Call(call))
    }

    fn operator(&mut self, mut call: CallExpr, depth: usize) -> Result<Expr, Fault> {
        let name = call.func_name.as_str();
        if let (operators::EQUALS | operators::NOT_EQUALS, [left, right]) =
            (name, call.args.as_mut_slice())
        {
            // The engine asks the left side, and a list made in CEL does not know ours.
            if matches!(left.expr, Expr::List(_)) {
                mem::swap(left, right);
            }
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
        let slot = self.slot(Slot::Constant(Box::new(pattern)));
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

fn literal_step(index: &Expr) -> Option<Step> {
    let Expr::Literal(literal) = index else {
        return None;
    };
    if let LiteralValue::String(name) = literal {
        return Some(Step::Member(name.inner().into()));
    }
    let LiteralValue::Int(at) = literal else {
        return None;
    };
    usize::try_from(*at.inner()).ok().map(Step::Element)
}

fn field(id: u64, name: &str) -> Result<Field, Fault> {
    match Field::ALL.into_iter().find(|field| field.name() == name) {
        Some(field) => Ok(field),
        None => fault(id, format!("event has no field {name}")),
    }
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
