//! Text with values in it: headers, what is signed, strings of a body.

use super::accessor::{Accessor, Kind, Sharing};
use super::error::RenderError;
use super::value::{Value, Written};
use crate::contract::subject::View;
use crate::error::{Rule, Wrong};
use crate::expr::{Expression, Names, Root};

/// Where a text template stands; decides what it may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::contract) enum Place {
    /// In the body: everything that is known before the body.
    Body,
    /// A header's value that is made with the body: the same, as text.
    Early,
    /// A parameter of the URL: the body, too.
    Query,
    /// Any other header's value: and the URL.
    Header,
    /// What is signed: and the key.
    Payload,
    /// Around a signature: all of that, and the signature.
    Each,
    /// In a challenge's query or body: the secret within a hash.
    Challenge,
    /// A challenge's header: the secret, too, where it is handed over.
    ChallengeHeader,
}

impl Place {
    /// Whether JSON can stand there.
    fn is_body(self) -> bool {
        matches!(self, Place::Body | Place::Challenge)
    }
}

/// Text with values in it. A text that is one value may turn out to be absent.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTemplate {
    pieces: Box<[TextPiece]>,
    /// Whether one of them speaks of the body that is sent.
    of_body: bool,
    /// Whether one of them speaks of the URL that is sent.
    of_url: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::contract) enum TextPiece {
    Literal(Box<str>),
    Value(Value),
}

impl TextTemplate {
    /// Reads text with `${expression}` in it; `$${` stands for a literal `${`.
    pub fn parse<'n>(text: &str, names: impl Into<Names<'n>>) -> Result<Self, Wrong> {
        let names = names.into();
        let mut pieces = Vec::new();
        for piece in split(text)? {
            pieces.push(match piece {
                Piece::Literal(text) => TextPiece::Literal(text.into()),
                Piece::Expression(source) => TextPiece::Value(Value::parse(source, names)?),
            });
        }
        let of_body = values(&pieces).any(Value::speaks_of_body);
        let of_url = values(&pieces).any(Value::speaks_of_url);
        Ok(Self { pieces: pieces.into(), of_body, of_url })
    }

    /// Whether every value is known, and may be mixed into text, where the template stands.
    ///
    /// # Errors
    ///
    /// The first that is not, by its source, and where it can stand.
    pub(in crate::contract) fn check(&self, place: Place) -> Result<(), Wrong> {
        let whole = self.pieces.len() == 1;
        for value in self.values() {
            if let Some(rule) = misplaced(value, place, whole) {
                let text = format!("${{{value}}} cannot stand here: {rule}");
                return Err(Wrong::new(Rule::ContractInvalid, text));
            }
        }
        Ok(())
    }

    /// What may share the text.
    pub(in crate::contract) fn sharing(&self) -> Sharing {
        self.values().map(Value::sharing).max().unwrap_or(Sharing::Event)
    }

    /// Whether it speaks of the body that is sent.
    pub(in crate::contract) fn speaks_of_body(&self) -> bool {
        self.of_body
    }

    /// Whether it speaks of the secret.
    pub(in crate::contract) fn speaks_of_secret(&self) -> bool {
        self.values().any(|value| match value {
            Value::Accessor(_) => false,
            Value::Expression(expression) => expression.speaks_of(Root::Secret),
        })
    }

    /// Whether the secret stands in it outside of a hash.
    pub(super) fn bares_secret(&self) -> bool {
        self.values().any(|value| match value {
            Value::Accessor(_) => false,
            Value::Expression(expression) => expression.bares_secret(),
        })
    }

    /// Whether it speaks of the URL that is sent.
    pub(in crate::contract) fn speaks_of_url(&self) -> bool {
        self.of_url
    }

    /// The text, if it is the same for every request.
    pub(in crate::contract) fn fixed(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [TextPiece::Literal(text)] => Some(text),
            [TextPiece::Literal(_) | TextPiece::Value(_), ..] => None,
        }
    }

    /// Whether a callback's question has all that it speaks of.
    pub(super) fn fits_check(&self) -> bool {
        self.values().all(Value::fits_check)
    }

    /// The value that the whole text is, if it is one.
    pub(in crate::contract) fn single(&self) -> Option<&Value> {
        match &*self.pieces {
            [TextPiece::Value(value)] => Some(value),
            _ => None,
        }
    }

    /// Appends the text with its values; a text that is one value may be absent, a part of a longer
    /// one may not.
    pub(super) fn write(&self, view: &View<'_>, out: &mut Vec<u8>) -> Result<Written, RenderError> {
        if let Some(value) = self.single() {
            return value.write_text(view, out);
        }
        for piece in &self.pieces {
            piece.write(view, out)?;
        }
        Ok(Written::Whole)
    }

    pub(in crate::contract) fn pieces(&self) -> &[TextPiece] {
        &self.pieces
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        values(&self.pieces)
    }
}

fn values(pieces: &[TextPiece]) -> impl Iterator<Item = &Value> {
    pieces.iter().filter_map(|piece| match piece {
        TextPiece::Literal(_) => None,
        TextPiece::Value(value) => Some(value),
    })
}

impl TextPiece {
    /// Appends the piece, which must be there.
    pub(super) fn write(&self, view: &View<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
        match self {
            TextPiece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            TextPiece::Value(value) => match value.write_text(view, out)? {
                Written::Whole => {}
                Written::Absent => {
                    return Err(value.failed("is absent and cannot be part of a longer text"));
                }
            },
        }
        Ok(())
    }
}

/// Why a value cannot stand in a place; `whole`: it is all there is.
fn misplaced(value: &Value, place: Place, whole: bool) -> Option<&'static str> {
    let early = matches!(place, Place::Body | Place::Early | Place::Challenge);
    if early && value.speaks_of_body() {
        return Some("the body is known in headers and signatures only");
    }
    if place == Place::Query && value.speaks_of_url() {
        return Some("the URL is known when its parameters are");
    }
    let accessor = match value {
        Value::Accessor(accessor) => accessor,
        Value::Expression(expression) => return misplaced_expression(expression, place),
    };
    if *accessor == Accessor::Signature {
        return (place != Place::Each).then_some("the signature is known in each only");
    }
    match accessor.kind() {
        Kind::Body => None,
        Kind::Json => (!place.is_body() || !whole)
            .then_some("it is JSON, which is a whole value of the body; json(…) makes text of it"),
        Kind::Text | Kind::Scalar => None,
    }
}

/// The same for an expression. What is signed may hold the secret: nobody sees it there.
fn misplaced_expression(expression: &Expression, place: Place) -> Option<&'static str> {
    let speaks = |root| expression.speaks_of(root);
    let keyed = !matches!(place, Place::Body | Place::Early | Place::Query | Place::Header);
    let bare = matches!(place, Place::Payload | Place::ChallengeHeader);
    if speaks(Root::Signature) && place != Place::Each {
        Some("the signature is known in each only")
    } else if (speaks(Root::Key) || speaks(Root::Secret)) && !keyed {
        Some("keys are known in payload and each only")
    } else if expression.bares_secret() && place == Place::Challenge {
        Some("the secret can stand in a header, and elsewhere within a hash or hmac(…) only")
    } else if expression.bares_secret() && !bare {
        Some("the secret can stand in payload, and elsewhere within a hash or hmac(…) only")
    } else {
        None
    }
}

/// A part of a text.
pub(in crate::contract) enum Piece<'t> {
    /// What stands there, with `$${` as `${`.
    Literal(String),
    /// What stands between `${` and `}`.
    Expression(&'t str),
}

/// The parts of a text with `${expression}` in it; `$${` stands for a literal `${`.
///
/// # Errors
///
/// An expression without its end.
pub(in crate::contract) fn split(text: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            literal.push_str(before);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end =
            end_of(inner).ok_or_else(|| Wrong::new(Rule::ContractInvalid, "${ without its }"))?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Expression(&inner[..end]));
        rest = &inner[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Where the expression ends: at the first `}` outside of its string literals and braces.
fn end_of(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth == 0 => return Some(at),
            (None, b'}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
