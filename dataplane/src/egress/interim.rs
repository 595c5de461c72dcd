//! Counts interim responses (1xx) in the bytes of a response, ahead of the parser, and reads the
//! status of the answer itself.
//!
//! hyper skips interim responses in a loop of its own and tells of each only through an extension
//! that costs every request four allocations; and what it cannot read to the end has no status.
//! Here the usual response costs a look at its first line.

/// How far the bytes of one exchange were read.
#[derive(Debug)]
pub(super) struct InterimCount {
    count: usize,
    at: At,
    /// The begin of the status line that is being read.
    line: [u8; LINE],
    status: Option<u16>,
}

#[derive(Debug)]
enum At {
    /// In a status line, so many bytes from its begin.
    StatusLine(usize),
    /// Behind the status of an interim head; whether the line is blank up to here.
    Interim { blank: bool },
    /// Behind the status of the answer itself, in its line.
    Answer,
    /// Behind the answer's first line.
    Over,
}

/// Where the status stands in `HTTP/1.1 200 OK`.
const STATUS_AT: usize = 9;
/// The status line up to the character behind the status.
const LINE: usize = STATUS_AT + 4;

impl Default for InterimCount {
    fn default() -> Self {
        Self { count: 0, at: At::StatusLine(0), line: [0; LINE], status: None }
    }
}

impl InterimCount {
    /// Reads on; the number of interim heads so far.
    pub fn add(&mut self, bytes: &[u8]) -> usize {
        for &byte in bytes {
            self.at = match (&self.at, byte) {
                (At::Over, _) => break,
                (At::StatusLine(0), b'\r' | b'\n') => At::StatusLine(0), // parsers skip these
                (At::StatusLine(n), _) if byte != b'\n' && n + 1 < LINE => {
                    let n = *n;
                    self.line[n] = byte;
                    At::StatusLine(n + 1)
                }
                (At::StatusLine(n), _) => {
                    self.line[*n..].fill(byte);
                    self.behind_status(byte)
                }
                (At::Answer, b'\n') => self.end_of_line(),
                (At::Answer, _) => At::Answer,
                (At::Interim { blank: true }, b'\n') => At::StatusLine(0),
                (At::Interim { blank: false }, b'\n') => At::Interim { blank: true },
                (At::Interim { blank }, b'\r') => At::Interim { blank: *blank },
                (At::Interim { .. }, _) => At::Interim { blank: false },
            };
        }
        self.count
    }

    /// The status of the answer, once its line is there.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// What begins as no head does is none, whatever comes later: no parser goes past it either.
    fn behind_status(&mut self, last: u8) -> At {
        let (version, rest) = self.line.split_at(STATUS_AT);
        let interim = matches!(rest, [b'1', b'0'..=b'9', b'0'..=b'9', b' ' | b'\r' | b'\n']);
        match (is_known(version) && interim, last) {
            (true, _) => {
                self.count += 1;
                At::Interim { blank: last == b'\n' }
            }
            (false, b'\n') => self.end_of_line(),
            (false, _) => At::Answer,
        }
    }

    fn end_of_line(&mut self) -> At {
        let (version, rest) = self.line.split_at(STATUS_AT);
        let status = match rest {
            [a @ b'2'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ' | b'\r' | b'\n'] => {
                [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'))
            }
            _ => 0,
        };
        self.status = Some(status).filter(|status| is_known(version) && *status > 0);
        At::Over
    }
}

/// Whether these bytes begin a head.
fn is_known(version: &[u8]) -> bool {
    matches!(version, b"HTTP/1.0 " | b"HTTP/1.1 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_however_the_bytes_come() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </1>\r\nx:\r\n\r\n\r\n";
        let lax = "HTTP/1.1 100\n\n";
        let answer = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 100 not a head\r\n\r\n";
        let all = [interim, lax, interim, answer].concat();
        for size in 1..all.len() {
            let mut count = InterimCount::default();
            let counts: Vec<_> =
                all.as_bytes().chunks(size).map(|chunk| count.add(chunk)).collect();
            assert_eq!(counts.last(), Some(&3), "in pieces of {size}");
            assert!(counts.is_sorted());
        }
    }

    #[test]
    fn status_is_read_from_its_line() {
        let status = |text: &str| {
            let mut whole = InterimCount::default();
            whole.add(text.as_bytes());
            let mut bytewise = InterimCount::default();
            text.bytes().for_each(|byte| {
                bytewise.add(&[byte]);
            });
            assert_eq!(whole.status(), bytewise.status(), "{text:?}");
            whole.status()
        };
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        for line in ["HTTP/1.1 204 No Content\r\n", "\r\nHTTP/1.0 204\n", "HTTP/1.1 204 \r\n"] {
            assert_eq!(status(line), Some(204), "{line:?}");
            assert_eq!(status(&format!("{interim}{line}:crooked\r\n")), Some(204), "{line:?}");
        }
        for line in [
            "HTTP/1.1 204 No",
            "HTTP/1.1 99 Low\r\n",
            "HTTP/1.1 2000\r\n",
            "HTTP/1.1 20\n\nx",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "200\n",
            interim,
        ] {
            assert_eq!(status(line), None, "{line:?}");
        }
        // An answer behind what is no interim head belongs to something else.
        for line in
            ["HTTP/1.1\x1b100 Continue", "HTTP/1.1 1x0 No", "HTTP/1.1 1000 No", "220 mx1", "1"]
        {
            let text = format!("{line}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(status(&text), None, "{text:?}");
        }
    }
}
