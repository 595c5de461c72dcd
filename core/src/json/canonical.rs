//! Canonical forms: one text for one value, so that a receiver that parses and writes again gets
//! the bytes that were signed.
//!
//! [`stringify`] is what `JSON.stringify(JSON.parse(text))` gives under ECMAScript 2023,
//! [`rfc8785`] is the JSON Canonicalization Scheme. Both write numbers and strings alike and differ
//! in the order of members only, so they are one walk over the tokens of a text that
//! [`check`](super::check) has accepted. Members are written as they come; an object whose order
//! has to change (most have not) is put in order where it stands when it closes. Its bytes then
//! move once, so nested ones move as often as they are deep: at most the depth that `check` allows.

use std::cmp::Ordering;

use super::cursor::skip_string;
use super::names::{Span, Unescaped, combine, hex4};
use super::number::write_literal;
use super::write::write_escaped;
use super::{is_space, plain_run};

/// The greatest array index of ECMAScript: 2³² - 2.
const LAST_INDEX: u32 = u32::MAX - 1;

/// `JSON.stringify(JSON.parse(text))` of ECMAScript 2023: no white space, array indices (`0` to
/// `4294967294`) first and ascending among the members of every object, numbers as doubles, the
/// fewest escapes. `__proto__` is a name like any other.
pub fn stringify(text: &[u8]) -> Vec<u8> {
    Writer::new(text, Order::IndicesFirst).run()
}

/// The JSON Canonicalization Scheme of RFC 8785: as [`stringify`], but the members of every object
/// sorted by the UTF-16 code units of their names.
pub fn rfc8785(text: &[u8]) -> Vec<u8> {
    Writer::new(text, Order::CodeUnits).run()
}

/// Which member comes first.
#[derive(Clone, Copy)]
enum Order {
    /// Array indices ascending, then the rest as they came.
    IndicesFirst,
    /// By the UTF-16 code units of the names.
    CodeUnits,
}

/// An open container.
struct Frame {
    object: bool,
    /// Where this object's members begin in [`Writer::members`].
    first: usize,
    /// Whether they have come in order so far.
    ordered: bool,
}

/// A member that has been written.
#[derive(Clone, Copy)]
struct Member {
    /// Its name in the source.
    name: Span,
    /// The name as an array index, where the order asks for it.
    index: Option<u32>,
    /// Where it begins in the output.
    start: usize,
    /// Where it ends, known once the object closes.
    end: usize,
}

struct Writer<'a> {
    text: &'a [u8],
    pos: usize,
    order: Order,
    out: Vec<u8>,
    frames: Vec<Frame>,
    /// The members of all open objects.
    members: Vec<Member>,
    /// Where an object is put in order.
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(text: &'a [u8], order: Order) -> Self {
        Self {
            text,
            pos: 0,
            order,
            out: Vec::with_capacity(text.len()),
            frames: Vec::new(),
            members: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<u8> {
        // A string that follows is a name, not a value.
        let mut name_next = false;
        // Every turn takes at least one byte.
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'{' | b'[' => {
                    let object = byte == b'{';
                    self.frames.push(Frame { object, first: self.members.len(), ordered: true });
                    self.copy(byte);
                    name_next = object;
                }
                b'}' | b']' => {
                    self.close();
                    self.copy(byte);
                    name_next = false;
                }
                b',' => {
                    self.copy(byte);
                    name_next = self.frames.last().is_some_and(|frame| frame.object);
                }
                b'"' => {
                    self.string(name_next);
                    name_next = false;
                }
                b'-' | b'0'..=b'9' => self.number(),
                _ if is_space(byte) => self.pos += 1,
                _ => self.copy(byte),
            }
        }
        self.out
    }

    fn copy(&mut self, byte: u8) {
        self.out.push(byte);
        self.pos += 1;
    }

    fn number(&mut self) {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let inside = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|b| !inside(b)).unwrap_or(rest.len());
        write_literal(&mut self.out, rest.get(..length).unwrap_or_default());
        self.pos += length;
    }

    fn string(&mut self, is_name: bool) {
        let start = self.pos + 1;
        let end = skip_string(self.text, self.pos);
        self.pos = end;
        let body = self.text.get(start..end.saturating_sub(1)).unwrap_or_default();
        let escaped = plain_run(body) < body.len();
        if is_name {
            self.member(Span { start, end: start + body.len(), escaped });
        }
        self.out.push(b'"');
        if escaped {
            write_unescaped(&mut self.out, body);
        } else {
            self.out.extend_from_slice(body);
        }
        self.out.push(b'"');
    }

    /// Notes a member whose name is about to be written.
    fn member(&mut self, name: Span) {
        let index = match self.order {
            Order::IndicesFirst => array_index(name, self.text),
            Order::CodeUnits => None,
        };
        let new = Member { name, index, start: self.out.len(), end: 0 };
        if let Some(frame) = self.frames.last_mut()
            && let Some(last) = self.members.get(frame.first..).and_then(<[Member]>::last)
            && compare(last, &new, self.order, self.text).is_gt()
        {
            frame.ordered = false;
        }
        self.members.push(new);
    }

    /// Leaves the innermost container, its members in order.
    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        if !frame.ordered {
            self.put_in_order(frame.first);
        }
        self.members.truncate(frame.first);
    }

    fn put_in_order(&mut self, first: usize) {
        let members = self.members.get_mut(first..).unwrap_or_default();
        let mut end = self.out.len();
        for member in members.iter_mut().rev() {
            member.end = end;
            // The comma in front.
            end = member.start.saturating_sub(1);
        }
        let start = members.first().map_or(self.out.len(), |member| member.start);
        // Stable, so what the order leaves open stays as it came.
        members.sort_by(|a, b| compare(a, b, self.order, self.text));
        self.scratch.clear();
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                self.scratch.push(b',');
            }
            self.scratch.extend_from_slice(self.out.get(member.start..member.end).unwrap_or(b""));
        }
        self.out.truncate(start);
        self.out.extend_from_slice(&self.scratch);
    }
}

fn compare(a: &Member, b: &Member, order: Order, text: &[u8]) -> Ordering {
    match order {
        Order::IndicesFirst => match (a.index, b.index) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        },
        Order::CodeUnits => compare_code_units(a.name, b.name, text),
    }
}

/// The name as an array index: `0`, or digits without a leading zero up to [`LAST_INDEX`].
fn array_index(name: Span, text: &[u8]) -> Option<u32> {
    let body = name.body(text);
    if name.escaped {
        return index_of(Unescaped::new(body));
    }
    match body.first() {
        Some(b'0'..=b'9') => index_of(body.iter().map(|&b| char::from(b))),
        Some(_) | None => None,
    }
}

/// Ends at the eleventh character at the latest: ten digits overflow or pass [`LAST_INDEX`].
fn index_of(mut name: impl Iterator<Item = char>) -> Option<u32> {
    let mut index = name.next()?.to_digit(10)?;
    for digit in name {
        if index == 0 {
            return None;
        }
        index = index.checked_mul(10)?.checked_add(digit.to_digit(10)?)?;
    }
    (index <= LAST_INDEX).then_some(index)
}

/// UTF-16 differs from code point order in one thing: the surrogates of characters past U+FFFF
/// stand before U+E000 to U+FFFF.
fn compare_code_units(a: Span, b: Span, text: &[u8]) -> Ordering {
    let (left, right) = (a.body(text), b.body(text));
    if a.escaped || b.escaped {
        let rank = |c: char| match u32::from(c) {
            high @ 0xe000..=0xffff => high + 0x11_0000,
            other => other,
        };
        return Unescaped::new(left).map(rank).cmp(Unescaped::new(right).map(rank));
    }
    // The first bytes that differ are of characters that begin at one place: either both begin
    // them, and 0xee and 0xef begin U+E000 to U+FFFF, or both continue them.
    let rank = |&byte: &u8| match byte {
        0xee | 0xef => byte + 0x10,
        other => other,
    };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

/// Writes the body of a string again: escapes resolved, then the fewest escapes.
fn write_unescaped(out: &mut Vec<u8>, body: &[u8]) {
    let mut rest = body;
    while !rest.is_empty() {
        let (plain, after) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        rest = match after {
            [b'\\', b'u', digits @ ..] => unicode(out, digits),
            [b'\\', b'/', after @ ..] => {
                out.push(b'/');
                after
            }
            // `\"`, `\\`, `\n` and their like are as short as they get.
            [b'\\', escape, after @ ..] => {
                out.extend_from_slice(&[b'\\', *escape]);
                after
            }
            [other, after @ ..] => {
                out.push(*other);
                after
            }
            [] => &[],
        };
    }
}

/// Writes the character of `\uXXXX`, whose digits come next, and gives what follows it.
fn unicode<'a>(out: &mut Vec<u8>, digits: &'a [u8]) -> &'a [u8] {
    let value = hex4(digits);
    let after = digits.get(4..).unwrap_or_default();
    let low = match after {
        [b'\\', b'u', low @ ..] => hex4(low),
        _ => None,
    };
    let (character, after) = match value.zip(low).and_then(|(high, low)| combine(high, low)) {
        Some(pair) => (pair, after.get(6..).unwrap_or_default()),
        // A lone surrogate, which no checked text has, has no character.
        None => (value.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), after),
    };
    write_escaped(out, character.encode_utf8(&mut [0; 4]));
    after
}

#[cfg(test)]
mod tests;
