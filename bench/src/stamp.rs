//! What a generated event carries so that the sink can say which it is and how long it took.
//!
//! The data of an event is `{"bench":"PPPP.SSSSSSSSSS.NNNNNNNNNNNNNNNNNNNN","pad":"…"}`: the phase
//! of the run, the number of the event within it, and the moment from which its latency counts.
//! All have fixed width and stand first, so that the sink finds them with one short scan instead
//! of parsing JSON; and they are part of the data, which every contract delivers byte for byte.
//! The padding does not compress, lest a store that compresses look better than it is.

use std::time::Duration;

use crate::clock::Moment;

/// What stands before a stamp.
const MARK: &[u8] = b"{\"bench\":\"";
/// Digits of phase, number and moment.
const WIDTHS: [usize; 3] = [4, 10, 20];
/// Bytes of a stamp: the digits and two full stops.
const STAMP_LEN: usize = WIDTHS[0] + 1 + WIDTHS[1] + 1 + WIDTHS[2];
/// What stands between the stamp and the padding.
const MIDDLE: &str = "\",\"pad\":\"";
/// The end of the data.
const TAIL: &str = "\"}";
/// How far into a body a stamp is looked for: past the envelope of every contract.
pub const HEAD_LEN: usize = 1024;
/// The shortest data that holds a stamp, in bytes.
pub const MIN_SIZE: usize = MARK.len() + STAMP_LEN + MIDDLE.len() + TAIL.len();
/// Largest number of a phase.
pub const MAX_PHASE: u64 = 9999;
/// Largest number of an event.
pub const MAX_SEQUENCE: u64 = 9_999_999_999;
/// Different paddings; neighbouring events differ.
const PADS: usize = 64;

/// Which event this is, and since when it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The part of the run that the event belongs to.
    pub phase: u64,
    /// Number of the event within the phase.
    pub sequence: u64,
    /// The moment from which its latency counts.
    pub since: Moment,
}

impl Stamp {
    /// Finds the stamp in the first part of a body.
    pub fn find(head: &[u8]) -> Option<Stamp> {
        let head = &head[..head.len().min(HEAD_LEN)];
        let start = head.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let text = head.get(start..start + STAMP_LEN)?;
        let (phase, rest) = digits(text, WIDTHS[0])?;
        let (sequence, rest) = digits(rest.strip_prefix(b".")?, WIDTHS[1])?;
        let (since, _) = digits(rest.strip_prefix(b".")?, WIDTHS[2])?;
        Some(Stamp { phase, sequence, since: Moment(since) })
    }

    /// How long the event took if it arrived at `now`.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.since)
    }
}

fn digits(text: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(width)?;
    let mut value: u64 = 0;
    for digit in number {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some((value, rest))
}

/// Makes the data of events, all of one size.
#[derive(Debug)]
pub struct DataMaker {
    phase: u64,
    pads: Vec<String>,
    size: usize,
}

impl DataMaker {
    /// Data of `size` bytes, at least [`MIN_SIZE`], for events of one phase.
    pub fn new(phase: u64, size: usize) -> Self {
        let size = size.max(MIN_SIZE);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let pads = (0..PADS)
            .map(|_| (0..size - MIN_SIZE).map(|_| letter(&mut random)).collect())
            .collect();
        Self { phase, pads, size }
    }

    /// Appends the data of one event.
    pub fn write(&self, sequence: u64, since: Moment, out: &mut String) {
        out.reserve(self.size);
        out.push_str("{\"bench\":\"");
        push_digits(out, self.phase, WIDTHS[0]);
        out.push('.');
        push_digits(out, sequence, WIDTHS[1]);
        out.push('.');
        push_digits(out, since.0, WIDTHS[2]);
        out.push_str(MIDDLE);
        out.push_str(&self.pads[usize::try_from(sequence).unwrap_or(0) % PADS]);
        out.push_str(TAIL);
    }
}

/// The next of a fixed sequence of letters and digits (xorshift64).
fn letter(random: &mut u64) -> char {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let [.., low] = random.to_be_bytes();
    char::from(LETTERS[usize::from(low % 64)])
}

fn push_digits(out: &mut String, value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut rest = value;
    for digit in text[..width].iter_mut().rev() {
        let [.., low] = (rest % 10).to_be_bytes();
        *digit += low;
        rest /= 10;
    }
    for digit in &text[..width] {
        out.push(char::from(*digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_within_an_envelope() {
        let maker = DataMaker::new(42, 500);
        let mut data = String::new();
        maker.write(1_234_567, Moment(98_765_432_109), &mut data);
        assert_eq!(data.len(), 500);
        assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok(), "{data}");

        let body = format!("{{\"type\":\"bench.event\",\"timestamp\":\"t\",\"data\":{data}}}");
        let stamp = Stamp::find(body.as_bytes());
        let since = Moment(98_765_432_109);
        assert_eq!(stamp, Some(Stamp { phase: 42, sequence: 1_234_567, since }));
    }

    #[test]
    fn what_is_not_a_stamp_is_not_one() {
        let mut data = String::new();
        DataMaker::new(1, 0).write(7, Moment(8), &mut data);
        assert_eq!(data.len(), MIN_SIZE);
        assert!(Stamp::find(data.as_bytes()).is_some());
        for cut in 0..MIN_SIZE - MIDDLE.len() - TAIL.len() {
            assert_eq!(Stamp::find(&data.as_bytes()[..cut]), None, "{cut} bytes");
        }
        assert_eq!(Stamp::find(data.replace('.', ",").as_bytes()), None);
        assert_eq!(Stamp::find(data.replace('0', "x").as_bytes()), None);
        assert_eq!(Stamp::find(format!("{}{data}", " ".repeat(HEAD_LEN)).as_bytes()), None);
    }

    #[test]
    fn neighbours_are_padded_differently_and_always_alike() {
        let make = |sequence| {
            let mut data = String::new();
            DataMaker::new(1, 300).write(sequence, Moment(0), &mut data);
            data
        };
        assert_eq!(make(5), make(5));
        assert_ne!(make(5)[MIN_SIZE..], make(6)[MIN_SIZE..]);
    }
}
