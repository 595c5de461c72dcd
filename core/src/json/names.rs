//! Member names: unescaping without allocation, and duplicate detection.
//!
//! Most objects are small and their names carry no escapes: each new name is compared with those
//! before it. From [`LINEAR`] names on, that would be quadratic, and a hash set would be open to
//! names made to collide, so the names of a large object are sorted once, when it closes: `n log n`
//! comparisons, whatever the names are.

use std::cmp::Ordering;

/// Names up to which an object's names are compared pairwise (at most 120 short comparisons).
const LINEAR: usize = 16;

/// A member name: where its body stands (between the quotes), and whether it has escapes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

impl Span {
    pub(super) fn body(self, text: &[u8]) -> &[u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    fn compare(self, other: Span, text: &[u8]) -> Ordering {
        let (left, right) = (self.body(text), other.body(text));
        if self.escaped || other.escaped {
            // Code point order is byte order in UTF-8, so both branches sort alike.
            Unescaped::new(left).cmp(Unescaped::new(right))
        } else {
            left.cmp(right)
        }
    }

    fn same(self, other: Span, text: &[u8]) -> bool {
        if self.escaped || other.escaped {
            self.compare(other, text) == Ordering::Equal
        } else {
            self.body(text) == other.body(text)
        }
    }
}

/// Whether the last of these names of one object occurs before. Beyond [`LINEAR`] names it is left
/// to [`late_duplicate`].
pub(super) fn last_is_duplicate(names: &[Span], text: &[u8]) -> bool {
    match names.split_last() {
        Some((last, earlier)) if earlier.len() < LINEAR => {
            earlier.iter().any(|name| name.same(*last, text))
        }
        Some(_) | None => false,
    }
}

/// The first name of a closed object that repeats an earlier one. Sorts the names.
pub(super) fn late_duplicate(names: &mut [Span], text: &[u8]) -> Option<usize> {
    if names.len() <= LINEAR {
        return None;
    }
    names.sort_unstable_by(|a, b| a.compare(*b, text).then(a.start.cmp(&b.start)));
    names
        .iter()
        .zip(names.iter().skip(1))
        .filter(|(a, b)| a.same(**b, text))
        .map(|(_, second)| second.start)
        .min()
}

/// The characters of a string's body, escapes resolved. What a checked text cannot hold (a lone
/// surrogate, a broken escape) becomes U+FFFD.
#[derive(Clone, Debug)]
pub(super) struct Unescaped<'a> {
    body: &'a [u8],
    pos: usize,
}

impl<'a> Unescaped<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, pos: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.body.get(self.pos).copied()?;
        self.pos += 1;
        Some(byte)
    }

    fn escape(&mut self) -> char {
        match self.byte() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => self.unicode(),
            Some(other @ (b'"' | b'\\' | b'/')) => char::from(other),
            Some(_) | None => char::REPLACEMENT_CHARACTER,
        }
    }

    fn unicode(&mut self) -> char {
        let Some(high) = self.hex() else {
            return char::REPLACEMENT_CHARACTER;
        };
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        let low = match self.body.get(self.pos..self.pos + 2) {
            Some(b"\\u") => {
                self.pos += 2;
                self.hex().unwrap_or_default()
            }
            Some(_) | None => 0,
        };
        combine(high, low).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let value = hex4(self.body.get(self.pos..)?)?;
        self.pos += 4;
        Some(value)
    }
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.byte()?;
        if first == b'\\' {
            return Some(self.escape());
        }
        if first < 0x80 {
            return Some(char::from(first));
        }
        let width = match first {
            0xf0.. => 4,
            0xe0.. => 3,
            _ => 2,
        };
        let start = self.pos - 1;
        let bytes = self.body.get(start..start + width).unwrap_or_default();
        self.pos = self.body.len().min(start + width);
        let decoded = std::str::from_utf8(bytes).ok().and_then(|s| s.chars().next());
        Some(decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// The value of four hexadecimal digits in front of `bytes`.
pub(super) fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..4)?;
    digits.iter().try_fold(0, |value, &b| Some(value << 4 | char::from(b).to_digit(16)?))
}

/// The character of a surrogate pair, if it is one.
pub(super) fn combine(high: u32, low: u32) -> Option<char> {
    if (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low) {
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    } else {
        None
    }
}
