//! Numbers as ECMAScript writes them.

/// Digits that a double surely keeps: two decimals of so many digits are two doubles.
const EXACT_DIGITS: usize = 15;

/// Appends a number as `Number::toString` of ECMAScript 2023 (radix 10) writes it: the fewest
/// digits that give the same double again, without an exponent from 1e-6 to below 1e21. `-0` is
/// `0`; what is not finite is `null`, as `JSON.stringify` has it.
pub fn write_number(out: &mut Vec<u8>, value: f64) {
    if value == 0.0 {
        out.push(b'0');
    } else if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        arrange(out, buffer.format_finite(value));
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends the literal of a number as [`write_number`] writes its value.
pub(super) fn write_literal(out: &mut Vec<u8>, literal: &[u8]) {
    match as_it_stands(literal) {
        Some(short) => out.extend_from_slice(short),
        None => {
            let value = std::str::from_utf8(literal).ok().and_then(|text| text.parse().ok());
            write_number(out, value.unwrap_or(f64::NAN));
        }
    }
}

/// The part of a literal that is what its double is written as, where that can be seen: few digits,
/// no exponent, not close to zero. The zeros that end a fraction are left out.
fn as_it_stands(literal: &[u8]) -> Option<&[u8]> {
    if literal.len() > EXACT_DIGITS || literal.iter().any(|b| matches!(b, b'e' | b'E')) {
        return None;
    }
    let mut short = literal;
    if literal.contains(&b'.') {
        while let Some((b'0', front)) = short.split_last() {
            short = front;
        }
        short = short.strip_suffix(b".").unwrap_or(short);
    }
    // Zero has no sign, and below 1e-6 comes an exponent.
    match short.strip_prefix(b"-").unwrap_or(short) {
        b"0" => Some(b"0"),
        [b'0', b'.', b'0', b'0', ..] => None,
        _ => Some(short),
    }
}

/// Arranges the digits of a finite number other than zero, given in any decimal notation.
fn arrange(out: &mut Vec<u8>, text: &str) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = match whole.strip_prefix('-') {
        Some(whole) => {
            out.push(b'-');
            whole
        }
        None => whole,
    };
    // No double has more than 17 digits; the zeros around them come from the notation.
    let mut digits = Digits::default();
    whole.bytes().chain(fraction.bytes()).for_each(|digit| digits.push(digit));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let point = exponent + count(whole.len()) - count(digits.leading);
    place(out, digits.significant(), point);
}

/// Appends `0.digits × 10^point`.
fn place(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let before = usize::try_from(point).unwrap_or(0);
    match point {
        1..=21 if digits.len() <= before => {
            out.extend_from_slice(digits);
            out.resize(out.len() + before - digits.len(), b'0');
        }
        1..=21 => {
            let (whole, fraction) = digits.split_at(before);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        -5..=0 => {
            out.extend_from_slice(b"0.");
            (point..0).for_each(|_| out.push(b'0'));
            out.extend_from_slice(digits);
        }
        _ => {
            let (first, others) = digits.split_at(digits.len().min(1));
            out.extend_from_slice(first);
            if !others.is_empty() {
                out.push(b'.');
                out.extend_from_slice(others);
            }
            out.extend_from_slice(if point > 0 { b"e+" } else { b"e-" });
            write_small(out, (point - 1).unsigned_abs());
        }
    }
}

/// Appends an exponent: at most three digits.
fn write_small(out: &mut Vec<u8>, value: u32) {
    let mut divisor = 100;
    while divisor > 1 && value < divisor {
        divisor /= 10;
    }
    while divisor > 0 {
        out.push(b'0' + u8::try_from(value / divisor % 10).unwrap_or(0));
        divisor /= 10;
    }
}

/// The digits of a number, zeros in front left out.
struct Digits {
    digits: [u8; 40],
    length: usize,
    leading: usize,
}

impl Default for Digits {
    fn default() -> Self {
        Self { digits: [0; 40], length: 0, leading: 0 }
    }
}

impl Digits {
    fn push(&mut self, digit: u8) {
        if digit == b'0' && self.length == 0 {
            self.leading += 1;
        } else if let Some(slot) = self.digits.get_mut(self.length) {
            *slot = digit;
            self.length += 1;
        }
    }

    /// From the first digit that is not zero to the last.
    fn significant(&self) -> &[u8] {
        let digits = self.digits.get(..self.length).unwrap_or_default();
        let last = digits.iter().rposition(|&digit| digit != b'0');
        digits.get(..last.map_or(0, |last| last + 1)).unwrap_or_default()
    }
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
