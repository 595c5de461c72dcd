//! Counts interim responses (1xx) in the bytes of a response, ahead of the parser.
//!
//! hyper skips them in a loop of its own and tells of each only through an extension that costs
//! every request four allocations. Here the usual response costs a look at its tenth byte.

/// How far the bytes of one exchange were read.
#[derive(Debug)]
pub(super) struct InterimCount {
    count: usize,
    at: At,
}

#[derive(Debug)]
enum At {
    /// In a status line, so many bytes from its begin.
    StatusLine(usize),
    /// Behind the status of an interim head; whether the line is blank up to here.
    Interim { blank: bool },
    /// The answer itself has begun.
    Answer,
}

/// Where the status stands in `HTTP/1.1 200 OK`.
const STATUS_AT: usize = 9;

impl Default for InterimCount {
    fn default() -> Self {
        Self { count: 0, at: At::StatusLine(0) }
    }
}

impl InterimCount {
    /// Reads on; the number of interim heads so far.
    pub fn add(&mut self, bytes: &[u8]) -> usize {
        for byte in bytes {
            self.at = match (&self.at, byte) {
                (At::Answer, _) => break,
                (At::StatusLine(0), b'\r' | b'\n') => At::StatusLine(0), // parsers skip these
                (At::StatusLine(STATUS_AT), b'1') => {
                    self.count += 1;
                    At::Interim { blank: false }
                }
                (At::StatusLine(STATUS_AT), _) => At::Answer,
                (At::StatusLine(n), _) => At::StatusLine(n + 1),
                (At::Interim { blank: true }, b'\n') => At::StatusLine(0),
                (At::Interim { blank: false }, b'\n') => At::Interim { blank: true },
                (At::Interim { blank }, b'\r') => At::Interim { blank: *blank },
                (At::Interim { .. }, _) => At::Interim { blank: false },
            };
        }
        self.count
    }
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
}
