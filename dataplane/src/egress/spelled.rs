//! The head of a request with names of headers as their contract writes them.
//!
//! HTTP does not tell `X-Sign` from `x-sign`, and the HTTP library writes names in lower case. Some
//! receivers look for the capitals that their sender has always sent. Only the case of letters
//! differs, so the head has the same length, byte for byte.

use std::sync::Arc;

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// A head that is being written.
#[derive(Debug)]
pub(super) struct SpelledHead {
    bytes: Vec<u8>,
    written: usize,
}

impl SpelledHead {
    /// The head that these bytes begin with; none where they do not hold it whole.
    pub fn new(bytes: &[u8], names: &[Arc<str>]) -> Option<Self> {
        let end = bytes.windows(END.len()).position(|window| window == END)? + END.len();
        let mut bytes = bytes.get(..end)?.to_vec();
        let mut at = 0;
        while let Some(line) = bytes.get(at..).and_then(|rest| rest.split(|b| *b == b'\n').next()) {
            let (length, colon) = (line.len(), line.iter().position(|byte| *byte == b':'));
            let own = colon.and_then(|colon| line.get(..colon)).and_then(|name| {
                names.iter().find(|own| own.as_bytes().eq_ignore_ascii_case(name))
            });
            if let Some(own) = own
                && let Some(place) = bytes.get_mut(at..at + own.len())
            {
                place.copy_from_slice(own.as_bytes());
            }
            if length == 0 {
                break;
            }
            at += length + 1;
        }
        Some(Self { bytes, written: 0 })
    }

    /// How much is not written yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// What is not written yet, up to so many bytes.
    pub fn left(&self, most: usize) -> &[u8] {
        let left = &self.bytes[self.written..];
        &left[..left.len().min(most)]
    }

    /// Notes that so many bytes were written, of it and of what follows; whether it is all gone.
    pub fn advance(&mut self, written: usize) -> bool {
        self.written = self.bytes.len().min(self.written + written);
        self.remaining() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are_given_and_nothing_else() {
        let head = b"POST /x-sign: HTTP/1.1\r\nhost: x-sign\r\nx-sign: X-sign: a\r\nx-signed: x-sign\r\n\r\nx-sign: b";
        let names = ["X-Sign".into(), "Other".into()];
        let mut spelled = SpelledHead::new(head, &names).unwrap();
        let expected = "POST /x-sign: HTTP/1.1\r\nhost: x-sign\r\nX-Sign: X-sign: a\r\nx-signed: x-sign\r\n\r\n";
        assert_eq!(spelled.left(1000), expected.as_bytes());
        assert_eq!(spelled.left(4), b"POST");
        assert!(!spelled.advance(4));
        assert_eq!(spelled.left(3), b" /x");
        assert!(spelled.advance(10_000));
        assert!(SpelledHead::new(b"POST / HTTP/1.1\r\n", &names).is_none());
    }
}
