//! Times as a receiver wants them: a pattern (a subset of LDML, as in Java and ICU) and a time zone.
//!
//! Both are parsed once; writing neither fails nor looks at the machine. Zones come from the data
//! that is compiled in, never from `/usr/share/zoneinfo`, so that every node writes the same text
//! for the same moment, also in an image that holds nothing but the program.

use crate::clock::Timestamp;
use crate::error::{Rule, Wrong};
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::fmt;
use std::io::Write;

/// Longest pattern, in bytes: room for a long sentence around the date.
pub const MAX_PATTERN: usize = 128;

/// Longest name of a zone, in bytes; the longest that IANA has is 32.
const MAX_ZONE: usize = 64;

/// A parsed pattern.
///
/// | letters | meaning |
/// |---|---|
/// | `yyyy` `yy` | year, in four digits or its last two |
/// | `MM` `M`, `dd` `d` | month and day from 1, in two digits or as many as needed |
/// | `HH` `H`, `hh` `h` | hour 0..23, hour 1..12 |
/// | `mm` `m`, `ss` `s` | minute and second |
/// | `S` … `SSSSSS` | so many digits of the second's fraction; digits behind the third are 0 |
/// | `a` | `AM` or `PM` |
/// | `XXX` `XX` `X` | offset as `+05:30`, `+0530`, `+0530` or `+05`; `Z` for UTC |
/// | `Z` | offset as `+0530`, `+0000` for UTC |
///
/// Text in single quotes stands for itself, `''` for a quote; so does everything that is no ASCII
/// letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePattern {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// A number in at least so many digits.
    Number(Number, usize),
    /// So many digits of the fraction.
    Fraction(usize),
    HalfDay,
    Offset(Offset),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Year,
    YearOfCentury,
    Month,
    Day,
    Hour,
    HourOfHalfDay,
    Minute,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    /// Whether `Z` stands for UTC.
    zulu: bool,
    colon: bool,
    /// Whether minutes are written when they are 0.
    minutes: bool,
}

impl TimePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`] above [`MAX_PATTERN`] bytes; [`Rule::Malformed`] naming the letters that
    /// have no meaning here, or a quote that is not closed.
    pub fn parse(source: &str) -> Result<Self, Wrong> {
        if source.len() > MAX_PATTERN {
            let text = format!("time pattern of {} bytes, at most {MAX_PATTERN}", source.len());
            return Err(Wrong::new(Rule::TooLong, text));
        }
        let mut pieces = Pieces::default();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let len = if first == '\'' {
                pieces.quoted(rest)?
            } else if first.is_ascii_alphabetic() {
                let count = rest.bytes().take_while(|&byte| char::from(byte) == first).count();
                pieces.field(first, count)?;
                count
            } else {
                pieces.text.push(first);
                first.len_utf8()
            };
            rest = rest.get(len..).unwrap_or_default();
        }
        pieces.end_text();
        Ok(Self { pieces: pieces.done.into() })
    }

    /// Appends a moment as the clocks of `zone` show it. Moments outside
    /// [`Timestamp::MIN`]..=[`Timestamp::MAX`] are written as the nearer of the two.
    pub fn write(&self, time: Timestamp, zone: &Zone, out: &mut Vec<u8>) {
        let time = time.clamp(Timestamp::MIN, Timestamp::MAX);
        let time =
            jiff::Timestamp::from_millisecond(time.millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let offset = zone.0.to_offset(time);
        let local = offset.to_datetime(time);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Number(number, width) => put(out, *width, number.of(local)),
                Piece::Fraction(digits) => {
                    let micros = local.subsec_nanosecond().unsigned_abs() / 1000;
                    let left = u32::try_from(6_usize.saturating_sub(*digits)).unwrap_or(0);
                    put(out, *digits, micros / 10_u32.pow(left));
                }
                Piece::HalfDay => {
                    out.extend_from_slice(if local.hour() < 12 { b"AM" } else { b"PM" });
                }
                Piece::Offset(form) => form.write(offset.seconds(), out),
            }
        }
    }
}

/// What has been read of a pattern.
#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    text: String,
}

impl Pieces {
    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.done.push(Piece::Text(std::mem::take(&mut self.text).into()));
        }
    }

    /// Reads the quoted text in front of `rest`; its length, quotes included.
    fn quoted(&mut self, rest: &str) -> Result<usize, Wrong> {
        if rest.starts_with("''") {
            self.text.push('\'');
            return Ok(2);
        }
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, char)) = chars.next() {
            if char != '\'' {
                self.text.push(char);
            } else if chars.next_if(|&(_, next)| next == '\'').is_some() {
                self.text.push('\'');
            } else {
                return Ok(at + 1);
            }
        }
        Err(Wrong::new(Rule::Malformed, "time pattern: a quote is not closed"))
    }

    fn field(&mut self, letter: char, count: usize) -> Result<(), Wrong> {
        let piece = match (letter, count) {
            ('y', 4) => Piece::Number(Number::Year, count),
            ('y', 2) => Piece::Number(Number::YearOfCentury, count),
            ('M', 1 | 2) => Piece::Number(Number::Month, count),
            ('d', 1 | 2) => Piece::Number(Number::Day, count),
            ('H', 1 | 2) => Piece::Number(Number::Hour, count),
            ('h', 1 | 2) => Piece::Number(Number::HourOfHalfDay, count),
            ('m', 1 | 2) => Piece::Number(Number::Minute, count),
            ('s', 1 | 2) => Piece::Number(Number::Second, count),
            ('S', 1..=6) => Piece::Fraction(count),
            ('a', 1) => Piece::HalfDay,
            ('X', 1..=3) => {
                Piece::Offset(Offset { zulu: true, colon: count == 3, minutes: count > 1 })
            }
            ('Z', 1) => Piece::Offset(Offset { zulu: false, colon: false, minutes: true }),
            _ => {
                let letters = letter.to_string().repeat(count);
                let text =
                    format!("time pattern: {letters} has no meaning; quote it as '{letters}'");
                return Err(Wrong::new(Rule::Malformed, text));
            }
        };
        self.end_text();
        self.done.push(piece);
        Ok(())
    }
}

impl Number {
    fn of(self, local: DateTime) -> u32 {
        let year = u32::from(local.year().unsigned_abs());
        let small = |value: i8| u32::from(value.unsigned_abs());
        match self {
            Number::Year => year,
            Number::YearOfCentury => year % 100,
            Number::Month => small(local.month()),
            Number::Day => small(local.day()),
            Number::Hour => small(local.hour()),
            Number::HourOfHalfDay => (small(local.hour()) + 11) % 12 + 1,
            Number::Minute => small(local.minute()),
            Number::Second => small(local.second()),
        }
    }
}

impl Offset {
    fn write(self, seconds: i32, out: &mut Vec<u8>) {
        let total = seconds.unsigned_abs() / 60;
        if self.zulu && total == 0 {
            out.push(b'Z');
            return;
        }
        out.push(if seconds < 0 { b'-' } else { b'+' });
        put(out, 2, total / 60);
        if self.minutes || !total.is_multiple_of(60) {
            if self.colon {
                out.push(b':');
            }
            put(out, 2, total % 60);
        }
    }
}

/// Appends a number, with zeros in front up to the width.
fn put(out: &mut Vec<u8>, width: usize, number: u32) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{number:0width$}");
}

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Finds a zone by its IANA name, as in `America/Argentina/Buenos_Aires` or `UTC`, whatever the
    /// case of its letters.
    ///
    /// # Errors
    ///
    /// [`Rule::Malformed`] when there is no such zone in the compiled-in data.
    pub fn parse(name: &str) -> Result<Self, Wrong> {
        let named = (name.len() <= MAX_ZONE).then(|| TimeZoneDatabase::bundled().get(name).ok());
        let known = named.flatten().filter(|zone| !zone.is_unknown());
        known.map(Self).ok_or_else(|| {
            let text = "not a time zone; use an IANA name such as America/Lima, or UTC";
            Wrong::new(Rule::Malformed, text)
        })
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2022-10-26T22:36:41.607Z
    const MOMENT: Timestamp = Timestamp::from_millis(1_666_823_801_607);

    fn written(pattern: &str, zone: &str, time: Timestamp) -> String {
        let pattern = TimePattern::parse(pattern).expect("a pattern");
        let mut out = Vec::new();
        pattern.write(time, &Zone::parse(zone).expect("a zone"), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn patterns_write_what_their_letters_say() {
        for (pattern, zone, text) in [
            ("dd/MM/yyyy HH:mm:ss", "America/Argentina/Buenos_Aires", "26/10/2022 19:36:41"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "America/Lima", "2022-10-26T17:36:41.607-05:00"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "UTC", "2022-10-26T22:36:41.607Z"),
            ("yy/M/d H:m:s", "UTC", "22/10/26 22:36:41"),
            ("hh h a", "UTC", "10 10 PM"),
            ("hh h a", "Asia/Kolkata", "04 4 AM"),
            ("S SS SSS SSSS SSSSSS", "UTC", "6 60 607 6070 607000"),
            ("X XX XXX Z", "UTC", "Z Z Z +0000"),
            ("X XX XXX Z", "Asia/Kolkata", "+0530 +0530 +05:30 +0530"),
            ("X XX XXX Z", "Etc/GMT-3", "+03 +0300 +03:00 +0300"),
            ("XXX", "America/New_York", "-04:00"),
            ("'day' d 'of' M, ''yy ñ", "UTC", "day 26 of 10, '22 ñ"),
            ("'it''s' HH", "UTC", "it's 22"),
            ("''''", "UTC", "''"),
            ("", "UTC", ""),
        ] {
            assert_eq!(written(pattern, zone, MOMENT), text, "{pattern}");
        }
    }

    #[test]
    fn clocks_are_those_of_the_zone() {
        let noon = Timestamp::parse("2024-07-01T12:00:00Z").expect("a time");
        assert_eq!(written("h a", "UTC", noon), "12 PM");
        assert_eq!(
            written("h a H", "UTC", noon.minus(std::time::Duration::from_hours(12))),
            "12 AM 0"
        );
        assert_eq!(written("HH XXX", "Europe/Madrid", noon), "14 +02:00");
        let winter = Timestamp::parse("2024-01-01T12:00:00Z").expect("a time");
        assert_eq!(written("HH XXX", "Europe/Madrid", winter), "13 +01:00");
        // What the zone's rules say of years for which its table has no entries.
        let later = Timestamp::parse("2090-07-01T12:00:00Z").expect("a time");
        assert_eq!(written("HH XXX", "Europe/Madrid", later), "14 +02:00");
    }

    #[test]
    fn moments_out_of_range_are_written_as_the_nearest() {
        let full = "yyyy-MM-dd HH:mm:ss.SSS";
        assert_eq!(written(full, "UTC", Timestamp::MAX), "9999-12-30 22:00:00.000");
        assert_eq!(
            written(full, "UTC", Timestamp::from_millis(i64::MAX)),
            "9999-12-30 22:00:00.000"
        );
        assert_eq!(
            written(full, "UTC", Timestamp::from_millis(i64::MIN)),
            "0001-01-01 00:00:00.000"
        );
        assert_eq!(written("SSS", "UTC", Timestamp::from_millis(-1)), "999");
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for (pattern, text) in [
            ("yyy", "yyy has no meaning"),
            ("MMM", "MMM has no meaning"),
            ("dd/MM/YYYY", "YYYY has no meaning"),
            ("SSSSSSS", "SSSSSSS has no meaning"),
            ("yyyy-MM-ddTHH", "T has no meaning; quote it as 'T'"),
            ("ZZ", "ZZ has no meaning"),
            ("XXXX", "XXXX has no meaning"),
            ("HH 'h", "a quote is not closed"),
        ] {
            let wrong = TimePattern::parse(pattern).expect_err(pattern);
            assert_eq!(wrong.rule, Rule::Malformed);
            assert!(wrong.description.contains(text), "{pattern}: {}", wrong.description);
        }
        assert!(TimePattern::parse(&"-".repeat(MAX_PATTERN)).is_ok());
        let wrong = TimePattern::parse(&"-".repeat(MAX_PATTERN + 1)).expect_err("too long");
        assert_eq!(wrong.rule, Rule::TooLong);
    }

    #[test]
    fn zones_are_those_of_iana() {
        for name in ["UTC", "America/Lima", "Europe/Madrid", "Asia/Tokyo", "America/Sao_Paulo"] {
            assert_eq!(Zone::parse(name).map(|zone| zone.name().to_owned()), Ok(name.to_owned()));
        }
        assert_eq!(
            format!("{:?}", Zone::parse("asia/tokyo").expect("a zone")),
            "Zone(\"Asia/Tokyo\")"
        );
        for name in ["", "Mars/Olympus", "+05:00", "Etc/Unknown", "../UTC", &"x".repeat(65)] {
            assert_eq!(Zone::parse(name).expect_err(name).rule, Rule::Malformed);
        }
    }

    proptest! {
        #[test]
        fn every_accepted_pattern_writes_every_moment(
            pattern in "[yMdHhmsSaXZ' :/é-]{0,24}",
            ms in any::<i64>(),
        ) {
            if let Ok(pattern) = TimePattern::parse(&pattern) {
                let mut out = Vec::new();
                let zone = Zone::parse("America/St_Johns").expect("a zone");
                pattern.write(Timestamp::from_millis(ms), &zone, &mut out);
                prop_assert!(String::from_utf8(out).is_ok());
            }
        }
    }
}
