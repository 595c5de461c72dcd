//! Signatures in the body: found, and taken out again.
//!
//! What was signed is the body before any of them was appended, in the contract's canonical form. So
//! the last one goes first, and each has to be the last member of its object, as it was appended.

use bytes::Bytes;

use super::found::{Found, single};
use crate::contract::compiled::{
    BodyFormat, Canonical, Contract, DEPTH, SignatureEncoding, SignaturePlace, TextTemplate,
};
use crate::json::{self, Kind, Node, Step};
use crate::limits::JSON_DEPTH;
use crate::multipart;

/// A body without its signatures.
pub(super) struct Unsigned {
    /// What is left.
    pub body: Bytes,
    /// What was found of each of the contract's signatures.
    taken: Vec<Taken>,
}

enum Taken {
    /// Not there, or not a signature of the body.
    Nothing,
    /// There, but not as the contract puts it.
    Misplaced,
    /// What is written of it.
    Text(String),
}

impl Unsigned {
    /// What was found of the signature with this index, written as `each` says.
    pub(super) fn found<'c>(
        &self,
        index: usize,
        each: &'c TextTemplate,
        encoding: SignatureEncoding,
    ) -> Found<'c> {
        match self.taken.get(index) {
            None | Some(Taken::Nothing) => Found::Nothing,
            Some(Taken::Misplaced) => Found::Unreadable,
            Some(Taken::Text(text)) => single(each, text, encoding),
        }
    }
}

/// Takes every signature out of a body.
pub(super) fn take_out(contract: &Contract, body: &Bytes) -> Unsigned {
    let mut body = body.clone();
    let mut taken = Vec::new();
    let is_json = json::check(&body, JSON_DEPTH + DEPTH).is_ok();
    for signature in contract.signatures.iter().rev() {
        let SignaturePlace::Body { path, .. } = &signature.place else {
            taken.push(Taken::Nothing);
            continue;
        };
        let found = match (contract.body_format, path.last()) {
            (BodyFormat::Json, _) if is_json => member(&body, path),
            (BodyFormat::Json, _) => broken(&body, path),
            (BodyFormat::Form, Some(Step::Member(name))) => field(&body, name),
            (BodyFormat::Multipart, Some(Step::Member(name))) => part(&body, name),
            (BodyFormat::Form | BodyFormat::Multipart, _) => Member::None,
        };
        taken.push(match found {
            Member::None => Taken::Nothing,
            Member::Elsewhere => Taken::Misplaced,
            Member::Last { text, rest } => {
                body = rest;
                Taken::Text(text)
            }
        });
    }
    taken.reverse();
    // What is sent has the canonical form: another one is not what was signed.
    if taken.iter().any(|taken| matches!(taken, Taken::Text(_))) {
        let canonical = match contract.canonical {
            Canonical::Verbatim => body.clone(),
            Canonical::JsonStringify => json::stringify(&body).into(),
            Canonical::Rfc8785 => json::rfc8785(&body).into(),
        };
        if canonical != body {
            taken.iter_mut().for_each(|taken| match taken {
                Taken::Text(_) => *taken = Taken::Misplaced,
                Taken::Nothing | Taken::Misplaced => {}
            });
        }
    }
    Unsigned { body, taken }
}

enum Member {
    None,
    Elsewhere,
    Last { text: String, rest: Bytes },
}

/// The text at the end of an object, and the body without that member.
fn member(body: &Bytes, path: &[Step]) -> Member {
    let Some((Step::Member(name), outer)) = path.split_last() else { return Member::None };
    let object = Node::of(body).follow(outer).filter(|node| node.kind() == Kind::Object);
    let Some(object) = object else { return Member::None };
    let Some(value) = object.member(name) else { return Member::None };
    let Some(text) = value.as_str() else { return Member::Elsewhere };

    let mut end = Vec::with_capacity(name.len() + text.len() + 8);
    json::write_string(&mut end, name);
    end.push(b':');
    json::write_string(&mut end, &text);
    end.push(b'}');
    let before = object.source().strip_suffix(end.as_slice());
    let kept = before.and_then(|before| match before {
        b"{" => Some(before),
        _ => before.strip_suffix(b","),
    });
    let Some(kept) = kept else { return Member::Elsewhere };
    // The object lies within the body.
    let start = object.source().as_ptr() as usize - body.as_ptr() as usize;
    let (head, tail) = (body.get(..start), body.get(start + object.source().len()..));
    let rest = [head.unwrap_or_default(), kept, b"}", tail.unwrap_or_default()].concat();
    Member::Last { text: text.into_owned(), rest: rest.into() }
}

/// The text of a form's last field, and the form without it.
fn field(body: &Bytes, name: &str) -> Member {
    let start = body.iter().rposition(|byte| *byte == b'&').map_or(0, |at| at + 1);
    let (before, last) = body.split_at(start);
    let mut fields = url::form_urlencoded::parse(last);
    if let Some((own, text)) = fields.next()
        && own == name
    {
        let rest = Bytes::copy_from_slice(before.strip_suffix(b"&").unwrap_or(before));
        return Member::Last { text: text.into_owned(), rest };
    }
    match url::form_urlencoded::parse(body).any(|(other, _)| other == name) {
        true => Member::Elsewhere,
        false => Member::None,
    }
}

/// The text of the last part, and the body without it.
fn part(body: &Bytes, name: &str) -> Member {
    let Some((mut fields, boundary)) = multipart::decode(body) else { return Member::None };
    match fields.pop() {
        Some((own, text)) if own == name => {
            let text = String::from_utf8_lossy(text).into_owned();
            let mut end = Vec::new();
            multipart::end(&mut end, &boundary);
            let mut whole = end.clone();
            let last = multipart::append(&whole, name, &text).unwrap_or_default();
            let kept = body.len().checked_sub(last.len()).and_then(|at| body.get(..at));
            whole = [kept.unwrap_or_default(), &end].concat();
            Member::Last { text, rest: whole.into() }
        }
        Some(_) if fields.iter().any(|(own, _)| own == name) => Member::Elsewhere,
        Some(_) | None => Member::None,
    }
}

/// Of a body that is no JSON it can only be said whether the name is in it.
fn broken(body: &[u8], path: &[Step]) -> Member {
    let Some(Step::Member(name)) = path.last() else { return Member::None };
    let mut quoted = Vec::new();
    json::write_string(&mut quoted, name);
    match body.windows(quoted.len()).any(|window| window == quoted) {
        true => Member::Elsewhere,
        false => Member::None,
    }
}
