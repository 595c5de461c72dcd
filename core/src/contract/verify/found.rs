//! Where signatures are found in headers.
//!
//! A header of signatures is a prefix, once, and then one text for each key of each entry that has
//! this header, with separators between. Texts that no entry can have made are passed over, as
//! receivers do with versions that they do not know.

use super::Received;
use super::pattern::{Captured, leading};
use crate::contract::compiled::{
    Accessor, Contract, Signature, SignatureEncoding, SignatureHeader, SignaturePlace,
    TextTemplate, Value,
};

/// Texts of one signature that are looked at: more than a sender has keys. Each costs a MAC.
const TOKENS: usize = 64;

/// What was found of one of a contract's signatures.
pub(super) enum Found<'c> {
    /// Neither it nor its place.
    Nothing,
    /// Its place, with something in it that is no signature of the contract.
    Unreadable,
    /// It, at least once.
    Tokens(Vec<Token<'c>>),
}

/// One signature as text.
pub(super) struct Token<'c> {
    /// The encoded signature.
    pub text: String,
    /// What stands around it in its header, in front and at its side.
    pub around: Captured<'c>,
}

/// What is written of a signature in a header.
struct Form<'c> {
    each: &'c TextTemplate,
    prefix: &'c TextTemplate,
    separator: &'c str,
    signature: &'c Signature,
}

/// Looks for the entry of this index in every line of its header.
pub(super) fn in_header<'c>(
    contract: &'c Contract,
    index: usize,
    header: &SignatureHeader,
    request: &Received<'_>,
) -> Found<'c> {
    let forms: Vec<_> = contract.signatures.iter().map(|entry| form(entry, header)).collect();
    let mut lines = request.headers.iter().filter(|(line, _)| header.has(line)).peekable();
    if lines.peek().is_none() {
        return Found::Nothing;
    }
    let (mut tokens, mut others) = (Vec::new(), false);
    for (_, value) in lines {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        read_line(&forms, index, value, &mut tokens, &mut others);
    }
    match (tokens.is_empty(), others) {
        (false, _) => Found::Tokens(tokens),
        (true, true) => Found::Nothing,
        (true, false) => Found::Unreadable,
    }
}

fn form<'c>(signature: &'c Signature, wanted: &SignatureHeader) -> Option<Form<'c>> {
    match &signature.place {
        SignaturePlace::Header { header, each, prefix, separator } if header.is(wanted) => {
            Some(Form { each, prefix, separator, signature })
        }
        SignaturePlace::Header { .. }
        | SignaturePlace::Body { .. }
        | SignaturePlace::Query { .. } => None,
    }
}

/// A signature that is written alone, as a member, a field or a parameter.
pub(super) fn single<'c>(
    each: &'c TextTemplate,
    text: &str,
    encoding: SignatureEncoding,
) -> Found<'c> {
    let mut around = Vec::new();
    let rest = leading(each, text, Some(encoding), &[], &mut around);
    match rest.filter(|rest| rest.is_empty()).and_then(|_| token(around, &Vec::new())) {
        Some(token) => Found::Tokens(vec![token]),
        None => Found::Unreadable,
    }
}

/// Notes the wanted entry's signatures of a line, and whether there are any of another entry's.
fn read_line<'c>(
    forms: &[Option<Form<'c>>],
    wanted: usize,
    line: &str,
    tokens: &mut Vec<Token<'c>>,
    others: &mut bool,
) {
    let separators: Vec<_> = forms.iter().flatten().map(|form| form.separator).collect();
    let separators: Vec<_> = separators.into_iter().filter(|text| !text.is_empty()).collect();
    // The entry that signs first has its prefix in front, and which one that is depends on the keys.
    let mut front = Vec::new();
    let begin = forms.iter().flatten().find_map(|form| {
        front.clear();
        leading(form.prefix, line, None, &separators, &mut front)
    });
    let mut rest = begin.unwrap_or_else(|| {
        front.clear();
        line
    });
    while !rest.is_empty() && tokens.len() < TOKENS {
        let mut reached = None;
        for (index, form) in forms.iter().enumerate() {
            let Some(form) = form else { continue };
            let mut around = Vec::new();
            let encoding = Some(form.signature.encoding);
            let after = leading(form.each, rest, encoding, &separators, &mut around);
            let Some(after) = after.filter(|after| ends(after, &separators)) else { continue };
            reached = Some(reached.map_or(after, |other: &str| shorter(other, after)));
            if index == wanted {
                tokens.extend(token(around, &front));
            } else {
                *others = true;
            }
        }
        rest = match reached {
            Some(after) => behind(after, &separators),
            None => next(rest, &separators),
        };
    }
}

fn token<'c>(around: Captured<'c>, front: &Captured<'c>) -> Option<Token<'c>> {
    let is_signature =
        |(value, _): &(&Value, String)| matches!(value, Value::Accessor(Accessor::Signature));
    let text = around.iter().find(|pair| is_signature(pair))?.1.clone();
    let mut said: Captured<'c> = around.into_iter().filter(|pair| !is_signature(pair)).collect();
    said.extend(front.iter().cloned());
    Some(Token { text, around: said })
}

/// Whether a signature may end here.
fn ends(rest: &str, separators: &[&str]) -> bool {
    rest.is_empty() || separators.iter().any(|separator| rest.starts_with(separator))
}

fn shorter<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.len() <= other.len() { one } else { other }
}

/// What follows the separator that stands here.
fn behind<'a>(rest: &'a str, separators: &[&str]) -> &'a str {
    let stripped = separators.iter().filter_map(|separator| rest.strip_prefix(separator));
    // Without a separator every rest is the end.
    stripped.min_by_key(|after| after.len()).unwrap_or_default()
}

/// What follows the next separator.
fn next<'a>(rest: &'a str, separators: &[&str]) -> &'a str {
    let places = separators.iter().filter_map(|separator| rest.find(separator));
    places.min().map_or("", |at| behind(rest.get(at..).unwrap_or_default(), separators))
}
