//! What can be known of an expression's types before it runs, for whoever writes it.
//!
//! Values from JSON have no type before there is an event. What remains is enough to find two
//! mistakes that an engine without a type checker takes and that match nothing for ever: a condition
//! that is no bool, and a double reckoned with a number that JSON may write as an integer.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::path;

/// What a value is, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    /// Some other type that is certainly no bool and no number.
    Other(&'static str),
    /// A value from JSON: any type, and of numbers either.
    Json,
    Unknown,
}

/// Something that can be said to be wrong, at a node.
pub(super) struct Mistake {
    pub(super) id: u64,
    pub(super) text: String,
}

/// Looks for mistakes in a condition, as it was parsed.
pub(super) fn check(root: &IdedExpr) -> Result<(), Mistake> {
    let name = match kind(root)? {
        Kind::Bool | Kind::Json | Kind::Unknown => return Ok(()),
        Kind::Int => "an int",
        Kind::Double => "a double",
        Kind::Other(name) => name,
    };
    let text = format!("a condition is true or false, and this is {name}");
    Err(Mistake { id: root.id, text })
}

/// The kind of a node. Its depth is bounded by the parser's.
fn kind(node: &IdedExpr) -> Result<Kind, Mistake> {
    if let Some(trail) = path::trail(&node.expr) {
        return Ok(if trail.is_json() { Kind::Json } else { Kind::Unknown });
    }
    match &node.expr {
        Expr::Literal(literal) => Ok(match literal {
            LiteralValue::Boolean(_) => Kind::Bool,
            LiteralValue::Int(_) => Kind::Int,
            LiteralValue::Double(_) => Kind::Double,
            LiteralValue::String(_) => Kind::Other("a string"),
            LiteralValue::Bytes(_) => Kind::Other("bytes"),
            LiteralValue::UInt(_) => Kind::Other("a uint"),
            LiteralValue::Null => Kind::Other("null"),
        }),
        Expr::Call(call) => of_call(node.id, call),
        Expr::List(list) => {
            list.elements.iter().try_for_each(|element| kind(element).map(drop))?;
            Ok(Kind::Other("a list"))
        }
        Expr::Map(_) => Ok(Kind::Other("a map")),
        Expr::Unspecified
        | Expr::Ident(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Comprehension(_) => Ok(Kind::Unknown),
    }
}

fn of_call(id: u64, call: &CallExpr) -> Result<Kind, Mistake> {
    call.target.as_deref().map_or(Ok(()), |target| kind(target).map(drop))?;
    let args = call.args.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    match call.func_name.as_str() {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::EQUALS
        | operators::NOT_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::IN
        | "contains"
        | "startsWith"
        | "endsWith"
        | "matches"
        | "bool" => Ok(Kind::Bool),
        "double" => Ok(Kind::Double),
        "int" | "size" => Ok(Kind::Int),
        "string" => Ok(Kind::Other("a string")),
        operators::CONDITIONAL => match args[..] {
            [_, then, other] if then == other => Ok(then),
            _ => Ok(Kind::Unknown),
        },
        operators::NEGATE => Ok(args.first().copied().unwrap_or(Kind::Unknown)),
        operators::ADD
        | operators::SUBSTRACT
        | operators::MULTIPLY
        | operators::DIVIDE
        | operators::MODULO => match args[..] {
            [Kind::Double, Kind::Json] | [Kind::Json, Kind::Double] => Err(Mistake {
                id,
                text:
                    "CEL reckons no double with an int, and JSON may write this number as either; \
                       write double(…) around the path"
                        .to_owned(),
            }),
            [Kind::Double, Kind::Int] | [Kind::Int, Kind::Double] => Err(Mistake {
                id,
                text: "CEL reckons no double with an int; write both as doubles".to_owned(),
            }),
            [Kind::Double, Kind::Double] => Ok(Kind::Double),
            [Kind::Int, Kind::Int] => Ok(Kind::Int),
            [Kind::Other(name), Kind::Other(other)] if name == other => Ok(Kind::Other(name)),
            _ => Ok(Kind::Unknown),
        },
        _ => Ok(Kind::Unknown),
    }
}
