//! JSON as Pregón accepts it, read in place and kept byte for byte.
//!
//! An event's data is text that somebody else signs, stores and compares, so it is never rebuilt
//! from a tree: it is checked once, at the edge, and afterwards only looked at. [`check`] is the
//! edge. It accepts what RFC 8259 allows and refuses, with the byte offset, what two parsers could
//! read differently: duplicate member names, lone surrogates, numbers that no double can hold,
//! nesting past a bound, anything that is not UTF-8. Behind it, [`find`], [`Node`], [`compact`] and the
//! canonical forms may assume a checked text: on another one they answer nonsense, but neither panic nor loop.
//!
//! Everything here is iterative (no recursion that a text could drive) and takes time linear in the
//! text, times the logarithm of the members for an object with many.

mod canonical;
mod check;
mod cursor;
mod names;
mod number;
mod path;
mod write;

#[cfg(test)]
mod tests;

pub use canonical::{rfc8785, stringify};
pub use check::check;
pub use cursor::{Elements, Kind, Members, Name, Node, Number};
pub use number::write_number;
pub(crate) use path::parse_step;
pub use path::{Path, Step, find};
#[cfg(test)]
pub(crate) use tests::json_text;
pub use write::{compact, write_string};

/// Why a text was refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// Offset of the first byte that cannot stand, from 0.
    pub offset: usize,
    /// The rule that it breaks.
    pub kind: JsonErrorKind,
}

/// What [`check`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JsonErrorKind {
    /// No bytes at all.
    #[error("empty text")]
    Empty,
    /// A byte order mark in front.
    #[error("byte order mark")]
    ByteOrderMark,
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// The text stops inside a value.
    #[error("unexpected end of text")]
    UnexpectedEnd,
    /// A byte that the grammar does not allow here.
    #[error("unexpected character")]
    Unexpected,
    /// A raw NUL byte, inside a string or outside.
    #[error("NUL byte")]
    Nul,
    /// A raw control character inside a string.
    #[error("control character in string")]
    ControlCharacter,
    /// A backslash followed by no escape of RFC 8259.
    #[error("invalid escape")]
    InvalidEscape,
    /// An escaped surrogate without its other half.
    #[error("lone surrogate")]
    LoneSurrogate,
    /// A number that the grammar does not allow, as in `01` or `1.`.
    #[error("invalid number")]
    InvalidNumber,
    /// A number that is infinite as a double, as in `1e400`.
    #[error("number out of range of a double")]
    NumberOutOfRange,
    /// `NaN` or `Infinity`, which JSON does not have.
    #[error("NaN or Infinity")]
    NotFinite,
    /// More nested arrays and objects than allowed.
    #[error("nesting too deep")]
    TooDeep,
    /// A member name that the same object has already, compared after unescaping.
    #[error("duplicate member name")]
    DuplicateName,
    /// Something after the one value.
    #[error("trailing data")]
    TrailingData,
}

/// How many leading bytes of a string's body stand for themselves: no quote, backslash or control.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES * 0x80;
    let mut run = 0;
    // Eight bytes at a time; subtraction borrows upwards only, so the lowest mark is exact.
    let mut words = bytes.chunks_exact(8);
    for chunk in &mut words {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let marks = (quote.wrapping_sub(ONES) & !quote
            | slash.wrapping_sub(ONES) & !slash
            | word.wrapping_sub(ONES * 0x20) & !word)
            & TOPS;
        if marks != 0 {
            return run + marks.trailing_zeros() as usize / 8;
        }
        run += 8;
    }
    let rest = words.remainder();
    run + rest.iter().position(|&b| !is_plain(b)).unwrap_or(rest.len())
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The first position at or after `pos` that holds no white space.
pub(crate) fn skip_space(text: &[u8], mut pos: usize) -> usize {
    while text.get(pos).is_some_and(|&b| is_space(b)) {
        pos += 1;
    }
    pos
}
