//! Values that a document says once and names: `let`.
//!
//! A name stands for its expression, wherever it is written: compiling puts the one in the place of
//! the other, so a value is what it would be if it were written out, and is bounded as that is.

use super::functions;
use super::names;
use super::{MAX_SOURCE, Site};
use crate::error::{Rule, Wrong};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

/// Names that a document may have.
pub const MAX_LETS: usize = 64;

/// Nodes that names may stand for in one expression, those of names within names included.
pub(super) const MAX_NODES: usize = 4096;

/// Longest name, in bytes.
const NAME_LEN: usize = 64;

/// Where an expression stands, and the names that it may use.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Where it stands.
    pub site: Site,
    lets: &'a [Let],
}

impl From<Site> for Names<'_> {
    fn from(site: Site) -> Self {
        Self { site, lets: &[] }
    }
}

/// Values by name; each may use those before it.
#[derive(Clone, Debug, Default)]
pub struct Lets(Vec<Let>);

#[derive(Clone, Debug)]
struct Let {
    name: Box<str>,
    /// The expression, if it is one and no text around it.
    single: Option<Box<str>>,
    tree: IdedExpr,
}

/// A part of a value's text.
#[derive(Clone, Copy, Debug)]
pub enum LetPiece<'a> {
    /// Text as it is.
    Text(&'a str),
    /// The source of an expression.
    Expression(&'a str),
}

impl Lets {
    /// The names, for an expression of this site.
    pub fn at(&self, site: Site) -> Names<'_> {
        Names { site, lets: &self.0 }
    }

    /// Adds a name.
    ///
    /// # Errors
    ///
    /// [`Rule::ContractInvalid`] for what cannot be a name, [`Rule::ExpressionInvalid`] for an
    /// expression that no site takes.
    pub fn add(&mut self, name: &str, pieces: &[LetPiece<'_>]) -> Result<(), Wrong> {
        let wrong = |text: String| Err(Wrong::new(Rule::ContractInvalid, text));
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let word = name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
        if !word || name.len() > NAME_LEN || !name.bytes().next().is_some_and(letter) {
            return wrong(format!("a name must be 1 to {NAME_LEN} of a-z 0-9 _, no digit first"));
        }
        if names::is_known(name) {
            return wrong(format!("{name} is a name already"));
        }
        if self.0.len() == MAX_LETS {
            return wrong(format!("at most {MAX_LETS} names"));
        }
        let mut sum: Option<IdedExpr> = None;
        let alone = pieces.len() == 1;
        for piece in pieces {
            let part = match piece {
                LetPiece::Text(text) => {
                    node(Expr::Literal(LiteralValue::String((*text).to_owned().into())))
                }
                LetPiece::Expression(source) => {
                    let tree = self.parsed(source)?;
                    if alone { tree } else { call("text", vec![tree]) }
                }
            };
            sum = Some(match sum {
                Some(before) => call(operators::ADD, vec![before, part]),
                None => part,
            });
        }
        let empty = || node(Expr::Literal(LiteralValue::String(String::new().into())));
        let single = match pieces {
            [LetPiece::Expression(source)] => Some(source.trim().into()),
            [LetPiece::Text(_) | LetPiece::Expression(_), ..] | [] => None,
        };
        self.0.push(Let { name: name.into(), single, tree: sum.unwrap_or_else(empty) });
        Ok(())
    }

    /// An expression, which has to be one of some site.
    fn parsed(&self, source: &str) -> Result<IdedExpr, Wrong> {
        let sites = [Site::Template, Site::CheckTemplate, Site::Answer, Site::Verdict];
        let compiled = |site| super::Expression::compile(source, self.at(site));
        let first = compiled(Site::Template);
        if first.is_err() && !sites.into_iter().any(|site| compiled(site).is_ok()) {
            return first.and(Err(Wrong::new(Rule::ExpressionInvalid, "cannot be read")));
        }
        let env = functions::environment()?;
        let parsed = env.parser().parse_with_source_info(source);
        let (mut tree, _) =
            parsed.map_err(|_| Wrong::new(Rule::ExpressionInvalid, "1:1: cannot be parsed"))?;
        let mut budget = MAX_NODES;
        let mut scope = Vec::new();
        // What is named before is written out now.
        self.at(Site::Template)
            .write_out(&mut tree, &mut scope, &mut budget)
            .map_err(|(_, text)| Wrong::new(Rule::ExpressionInvalid, text))?;
        Ok(tree)
    }
}

impl<'a> Names<'a> {
    /// The one expression that a name stands for.
    pub fn single(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.single.as_deref()
    }

    fn get(&self, name: &str) -> Option<&'a Let> {
        self.lets.iter().find(|it| *it.name == *name)
    }

    /// Puts in the place of every name what it stands for. `scope` are the variables around.
    ///
    /// # Errors
    ///
    /// The node at fault, and why.
    pub(super) fn write_out(
        self,
        node: &mut IdedExpr,
        scope: &mut Vec<String>,
        budget: &mut usize,
    ) -> Result<(), (u64, String)> {
        if self.lets.is_empty() {
            return Ok(());
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Ident(name) => {
                let Some(found) = self.get(name).filter(|_| !scope.contains(name)) else {
                    return Ok(());
                };
                let mut tree = found.tree.clone();
                let mut nodes = 0;
                if let Some(hidden) = renumber(&mut tree, id, scope, &mut nodes) {
                    let text = format!("variable {hidden} hides what {name} speaks of");
                    return Err((id, text));
                }
                *budget = budget.checked_sub(nodes).ok_or_else(|| {
                    (id, format!("names stand for more than {MAX_NODES} parts here"))
                })?;
                *node = tree;
                Ok(())
            }
            Expr::Select(select) => self.write_out(&mut select.operand, scope, budget),
            Expr::Call(call) => {
                if let Some(target) = &mut call.target {
                    self.write_out(target, scope, budget)?;
                }
                call.args.iter_mut().try_for_each(|arg| self.write_out(arg, scope, budget))
            }
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|it| self.write_out(it, scope, budget))
            }
            Expr::Comprehension(it) => {
                self.write_out(&mut it.iter_range, scope, budget)?;
                self.write_out(&mut it.accu_init, scope, budget)?;
                let outside = scope.len();
                scope.extend([it.iter_var.clone(), it.accu_var.clone()]);
                scope.extend(it.iter_var2.clone());
                for part in [&mut it.loop_cond, &mut it.loop_step, &mut it.result] {
                    self.write_out(part, scope, budget)?;
                }
                scope.truncate(outside);
                Ok(())
            }
            Expr::Unspecified | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => Ok(()),
        }
    }
}

/// Gives every node of a tree one number, so that a fault in it is told at the place of its name;
/// counts them; and finds a name in it that a variable of `scope` hides.
fn renumber(node: &mut IdedExpr, id: u64, scope: &[String], nodes: &mut usize) -> Option<String> {
    node.id = id;
    *nodes += 1;
    let mut all = |parts: &mut dyn Iterator<Item = &mut IdedExpr>| {
        parts.fold(None, |hidden, part| renumber(part, id, scope, nodes).or(hidden))
    };
    match &mut node.expr {
        Expr::Ident(name) => scope.contains(name).then(|| name.clone()),
        Expr::Select(select) => all(&mut [&mut *select.operand].into_iter()),
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            all(&mut target.chain(&mut call.args))
        }
        Expr::List(list) => all(&mut list.elements.iter_mut()),
        Expr::Comprehension(it) => {
            let it = &mut **it;
            let parts = [
                &mut it.iter_range,
                &mut it.accu_init,
                &mut it.loop_cond,
                &mut it.loop_step,
                &mut it.result,
            ];
            all(&mut parts.into_iter())
        }
        Expr::Unspecified | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => None,
    }
}

fn node(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    node(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

const _: () = assert!(MAX_SOURCE < MAX_NODES);
