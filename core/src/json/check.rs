//! The gate: one pass over the bytes with a stack of open containers.
//!
//! The scanner stands either before a value or behind one. Opening a container pushes a frame and
//! leaves it before the first value inside; behind a value a comma, or the closing of the innermost
//! frame, is next. The names of all open objects share one list, each frame knowing where its own
//! begin, so that a text without objects allocates nothing for them.

use super::names::{self, Span};
use super::{JsonError, JsonErrorKind as Kind, plain_run, skip_space};

/// Digits before the exponent up to which a number without one is surely finite as a double.
const SAFE_DIGITS: usize = 308;

/// Whether `text` is one JSON value as Pregón accepts it, with at most `max_depth` nested
/// containers. White space around it is allowed.
///
/// # Errors
///
/// The first rule broken, with its byte offset. Invalid UTF-8 is reported before anything else, and
/// a duplicate among more than 16 names of an object where the object closes.
pub fn check(text: &[u8], max_depth: usize) -> Result<(), JsonError> {
    if text.is_empty() {
        return Err(JsonError { offset: 0, kind: Kind::Empty });
    }
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError { offset: 0, kind: Kind::ByteOrderMark });
    }
    if let Err(error) = std::str::from_utf8(text) {
        return Err(JsonError { offset: error.valid_up_to(), kind: Kind::Utf8 });
    }
    let mut scanner = Scanner { text, pos: 0, max_depth, frames: Vec::new(), names: Vec::new() };
    scanner.run()
}

/// An open container.
struct Frame {
    object: bool,
    /// Where this object's names begin in [`Scanner::names`].
    first_name: usize,
}

struct Scanner<'a> {
    text: &'a [u8],
    pos: usize,
    max_depth: usize,
    frames: Vec<Frame>,
    names: Vec<Span>,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), JsonError> {
        loop {
            self.skip_space();
            let opened = match self.peek() {
                Some(b'{') => self.open(true)?,
                Some(b'[') => self.open(false)?,
                Some(_) => {
                    self.scalar()?;
                    false
                }
                None => return Err(self.error(Kind::UnexpectedEnd)),
            };
            if !opened && self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Enters a container; `false` when it is empty and already closed.
    fn open(&mut self, object: bool) -> Result<bool, JsonError> {
        if self.frames.len() >= self.max_depth {
            return Err(self.error(Kind::TooDeep));
        }
        self.pos += 1;
        self.skip_space();
        if self.peek() == Some(if object { b'}' } else { b']' }) {
            self.pos += 1;
            return Ok(false);
        }
        self.frames.push(Frame { object, first_name: self.names.len() });
        if object {
            self.name()?;
        }
        Ok(true)
    }

    /// Moves from behind a value to before the next one; `true` when there is none.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        loop {
            self.skip_space();
            let Some(&Frame { object, first_name }) = self.frames.last() else {
                return match self.peek() {
                    None => Ok(true),
                    Some(0) => Err(self.error(Kind::Nul)),
                    Some(_) => Err(self.error(Kind::TrailingData)),
                };
            };
            match (self.peek(), object) {
                (Some(b','), _) => {
                    self.pos += 1;
                    if object {
                        self.skip_space();
                        self.name()?;
                    }
                    return Ok(false);
                }
                (Some(b']'), false) => {}
                (Some(b'}'), true) => self.close_names(first_name)?,
                (_, _) => return Err(self.unexpected()),
            }
            self.pos += 1;
            self.frames.pop();
        }
    }

    /// Reads a member name and its colon.
    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let start = self.pos + 1;
        let escaped = self.string()?;
        self.names.push(Span { start, end: self.pos - 1, escaped });
        let first_name = self.frames.last().map_or(0, |frame| frame.first_name);
        let own = self.names.get(first_name..).unwrap_or_default();
        if names::last_is_duplicate(own, self.text) {
            return Err(JsonError { offset: start - 1, kind: Kind::DuplicateName });
        }
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected());
        }
        self.pos += 1;
        Ok(())
    }

    fn close_names(&mut self, first_name: usize) -> Result<(), JsonError> {
        let own = self.names.get_mut(first_name..).unwrap_or_default();
        if let Some(start) = names::late_duplicate(own, self.text) {
            return Err(JsonError { offset: start - 1, kind: Kind::DuplicateName });
        }
        self.names.truncate(first_name);
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(_) | None => Err(self.unexpected()),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), JsonError> {
        for &byte in word {
            if self.peek() != Some(byte) {
                return Err(self.unexpected());
            }
            self.pos += 1;
        }
        Ok(())
    }

    /// Reads a string from its opening quote; whether it has escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        self.pos += 1;
        let mut escaped = false;
        loop {
            self.pos += plain_run(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0) => return Err(self.error(Kind::Nul)),
                Some(_) => return Err(self.error(Kind::ControlCharacter)),
                None => return Err(self.error(Kind::UnexpectedEnd)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.text.get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.pos += 2;
                Ok(())
            }
            Some(b'u') => self.unicode(),
            Some(_) => Err(self.error(Kind::InvalidEscape)),
            None => Err(self.end()),
        }
    }

    /// Reads `\uXXXX`, and the second half of a pair.
    fn unicode(&mut self) -> Result<(), JsonError> {
        let at = |pos: usize| self.text.get(pos..).and_then(names::hex4);
        let Some(high) = at(self.pos + 2) else {
            return Err(self.error(Kind::InvalidEscape));
        };
        if !(0xd800..0xe000).contains(&high) {
            self.pos += 6;
            return Ok(());
        }
        let low = match self.text.get(self.pos + 6..self.pos + 8) {
            Some(b"\\u") => at(self.pos + 8),
            Some(_) | None => None,
        };
        if low.and_then(|low| names::combine(high, low)).is_none() {
            return Err(self.error(Kind::LoneSurrogate));
        }
        self.pos += 12;
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        let whole = self.pos;
        match self.peek() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            Some(b'N' | b'I') => return Err(self.unexpected()),
            Some(_) => return Err(self.error(Kind::InvalidNumber)),
            None => return Err(self.end()),
        }
        let whole_digits = self.pos - whole;
        if whole_digits == 1 && self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.error(Kind::InvalidNumber));
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.some_digits()?;
        }
        let exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if exponent {
            self.pos += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.some_digits()?;
        }
        if (exponent || whole_digits > SAFE_DIGITS) && self.is_infinite(start) {
            return Err(JsonError { offset: start, kind: Kind::NumberOutOfRange });
        }
        Ok(())
    }

    fn is_infinite(&self, start: usize) -> bool {
        let literal = self.text.get(start..self.pos).unwrap_or_default();
        let parsed = std::str::from_utf8(literal).ok().and_then(|s| s.parse::<f64>().ok());
        !parsed.is_some_and(f64::is_finite)
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'0'..=b'9') => {
                self.digits();
                Ok(())
            }
            Some(_) => Err(self.error(Kind::InvalidNumber)),
            None => Err(self.end()),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.pos..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.pos = skip_space(self.text, self.pos);
    }

    fn error(&self, kind: Kind) -> JsonError {
        JsonError { offset: self.pos, kind }
    }

    fn end(&self) -> JsonError {
        JsonError { offset: self.text.len(), kind: Kind::UnexpectedEnd }
    }

    /// Names what stands where the grammar wants something else.
    fn unexpected(&self) -> JsonError {
        let rest = self.rest();
        let kind = match rest.first() {
            None => Kind::UnexpectedEnd,
            Some(0) => Kind::Nul,
            Some(b'N' | b'I') if rest.starts_with(b"NaN") || rest.starts_with(b"Infinity") => {
                Kind::NotFinite
            }
            Some(_) => Kind::Unexpected,
        };
        JsonError { offset: self.pos, kind }
    }
}
