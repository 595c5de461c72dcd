//! What is looked for in the text itself, before or beside the parser: characters, tabs, directives,
//! and positions.

use super::Fault;
use crate::json::JsonError;

/// A position that moves forward through a text, so that finding every place of a document costs one
/// pass in all.
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// Bytes, from 0.
    offset: usize,
    /// Characters, from 0.
    index: usize,
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, offset: 0, index: 0, line: 1, column: 1 }
    }

    /// Line and column of a byte that is not before the last one asked for.
    pub(super) fn at_offset(&mut self, offset: usize) -> (usize, usize) {
        while self.offset < offset && self.step() {}
        (self.line, self.column)
    }

    /// The text before a character that is not before the last one asked for.
    pub(super) fn before_index(&mut self, index: usize) -> &'a str {
        while self.index < index && self.step() {}
        self.text.get(..self.offset).unwrap_or_default()
    }

    fn step(&mut self) -> bool {
        let Some(next) = self.text.get(self.offset..).and_then(|rest| rest.chars().next()) else {
            return false;
        };
        self.offset += next.len_utf8();
        self.index += 1;
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        true
    }
}

/// Refuses what cannot be seen, or is no character: it can be written as an escape in double quotes.
pub(super) fn check_characters(text: &str) -> Result<(), Fault> {
    let mut chars = text.char_indices().peekable();
    while let Some((offset, char)) = chars.next() {
        let line_end = char == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
        let rule = match char {
            '\n' | '\t' => continue,
            '\r' if line_end => continue,
            '\r' => "a carriage return without a line feed; end lines with a line feed",
            '\u{feff}' if offset == 0 => "a byte order mark; save the document without one",
            '\u{feff}' => "a byte order mark; in double quotes, write \\uFEFF",
            '\0' => "a NUL character; remove it",
            char if char.is_control() => {
                "a control character; in double quotes, write it as an escape, as in \\x1B"
            }
            char if is_noncharacter(char) => "a code point that is no character; remove it",
            _ => continue,
        };
        return Err(fault(text, offset, rule));
    }
    Ok(())
}

/// The 66 code points that Unicode promises never to assign.
fn is_noncharacter(char: char) -> bool {
    let code = u32::from(char);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// Refuses tabs. JSON has them between its values; `not_json` says why the text is not JSON.
pub(super) fn check_tabs(text: &str, not_json: JsonError) -> Result<(), Fault> {
    let Some(offset) = text.find('\t') else {
        return Ok(());
    };
    if text.trim_start().starts_with(['{', '[']) {
        let (line, column) = Cursor::new(text).at_offset(not_json.offset);
        let kind = not_json.kind;
        let rule = format!(
            "a tab; use spaces (tabs are read in JSON only, and this is not: {kind} at {line}:{column})"
        );
        return Err(fault(text, offset, &rule));
    }
    Err(fault(text, offset, "a tab; indent with spaces, and in double quotes write \\t"))
}

/// Refuses directives, which can only stand before the document.
pub(super) fn check_directives(text: &str) -> Result<(), Fault> {
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('%') {
            let rule = "a directive (%) is not allowed; remove the line";
            return Err(Fault::new(number + 1, 1, rule));
        }
        if !line.trim().is_empty() && !line.trim_start().starts_with('#') && line != "..." {
            break;
        }
    }
    Ok(())
}

fn fault(text: &str, offset: usize, rule: &str) -> Fault {
    let (line, column) = Cursor::new(text).at_offset(offset);
    Fault::new(line, column, rule)
}
