//! What is wrong with a file and where, on a line of its own as compilers print it.

use std::fmt;

/// A fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was given.
    file: String,
    /// Line and column in characters, from 1; none: the whole file.
    place: Option<(usize, usize)>,
    /// The key and the rule.
    text: String,
}

impl Fault {
    /// Of the whole file.
    pub fn of(file: &str, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, text: text.into() }
    }

    /// At a line and a column.
    pub fn at(file: &str, line: usize, column: usize, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: Some((line, column)), text: text.into() }
    }

    /// At a byte of the file's bytes.
    pub fn at_byte(file: &str, bytes: &[u8], offset: usize, text: impl Into<String>) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        Self::at(file, line, column, text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        f.write_str(" ")?;
        // What a text quotes may not begin a line of its own.
        for c in self.text.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_its_place() {
        let bytes = "{\n\"ñ\": x".as_bytes();
        let offset = bytes.len() - 1;
        let fault = Fault::at_byte("e.json", bytes, offset, "bad\nthing");
        assert_eq!(fault.to_string(), "e.json:2:6: bad\\nthing");
        assert_eq!(Fault::at_byte("e", b"x", 0, "y").to_string(), "e:1:1: y");
        assert_eq!(Fault::at_byte("e", b"a\nb", 900, "y").to_string(), "e:2:2: y");
        assert_eq!(Fault::of("e", "y").to_string(), "e: y");
    }
}
