//! Paths in a syntax tree: `event.data.a[0].?b` is a root and steps, whatever nodes it is made of.

use super::Root;
use crate::json::Step;
use cel::common::ast::{Expr, LiteralValue, operators};

/// A root and the steps behind it.
pub(super) struct Trail {
    pub(super) root: Root,
    /// Each with whether it is written with `?`.
    pub(super) steps: Vec<(Step, bool)>,
}

impl Trail {
    /// Whether it leads to a value from JSON, which must be there.
    pub(super) fn is_json(&self) -> bool {
        let Some((Step::Member(first), _)) = self.steps.first() else { return false };
        let inside =
            matches!((self.root, &**first), (Root::Event, "data") | (Root::Response, "json"));
        inside && self.steps.iter().all(|(_, optional)| !optional)
    }
}

/// The trail that an expression is, if it is one. Every index must be a literal; `?` may not stand
/// right behind the root, as a root has all of its fields, but in `response.?json`.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other kind is no path")]
pub(super) fn trail(expr: &Expr) -> Option<Trail> {
    let mut steps = Vec::new();
    let mut at = expr;
    let root = loop {
        match at {
            Expr::Ident(name) => break Root::named(name)?,
            Expr::Select(select) if !select.test => {
                steps.push((Step::Member(select.field.as_str().into()), false));
                at = &select.operand.expr;
            }
            Expr::Call(call) => {
                let optional = match call.func_name.as_str() {
                    operators::INDEX => false,
                    operators::OPT_INDEX | operators::OPT_SELECT => true,
                    _ => return None,
                };
                let [operand, index] = call.args.as_slice() else {
                    return None;
                };
                steps.push((literal_step(&index.expr)?, optional));
                at = &operand.expr;
            }
            _ => return None,
        }
    };
    steps.reverse();
    let certain = match steps.first() {
        Some((Step::Member(name), true)) => root == Root::Response && &**name == "json",
        Some((Step::Element(_), true)) => false,
        Some((_, false)) | None => true,
    };
    certain.then_some(Trail { root, steps })
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
