//! Writes JSON that is valid and hostile: names that are array indices or look like them, numbers
//! at every edge of a double, every kind of escape, deep nesting. The same texts every time.

use std::fmt::Write as _;

use pregon_core::limits::JSON_DEPTH;

/// One seed, so that a failure repeats.
const SEED: u64 = 0x005e_ed0f_09e6;

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "0e-5",
    "1.0",
    "-1.50",
    "1e21",
    "1E+21",
    "999999999999999999999",
    "1e-6",
    "1e-7",
    "5e-324",
    "2.5e-324",
    "2.4e-324",
    "1e-400",
    "1.7976931348623157e308",
    "1.7976931348623158e308",
    "9007199254740991",
    "9007199254740993",
    "-9223372036854775808",
    "18446744073709551615",
    "2.2250738585072011e-308",
    "1e400",
    "0.1000000000000000055511151231257827021181583404541015625",
];

/// Pieces of strings that something or other escapes, reorders or measures differently.
const PIECES: &[&str] = &[
    "a",
    "Z",
    "0",
    "1",
    "7",
    " ",
    "ñ",
    "€",
    "\u{7f}",
    "\u{80}",
    "\u{2028}",
    "\u{2029}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fb33}",
    "\u{feff}",
    "\u{ffff}",
    "😀",
    "\u{10ffff}",
    "<script>",
    "&",
    "'",
    "/",
    r"\/",
    r#"\""#,
    r"\\",
    r"\n",
    r"\b",
    r"\u0000",
    r"\u001F",
    r"\u0061",
    r"\u0031",
    r"\ud83d\uDE00",
    r"\uFFFE",
];

const NAMES: &[&str] = &[
    "__proto__",
    r"\u005f_proto__",
    "constructor",
    "toString",
    "length",
    "",
    "a",
    "0",
    "00",
    "1",
    "2",
    "9",
    "10",
    "-1",
    "1.0",
    "1e3",
    r"\u0031\u0032",
    "4294967293",
    "4294967294",
    "4294967295",
    "4294967296",
    "18446744073709551616",
];

/// Random choices that repeat (SplitMix64).
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    /// From one digit to `most`.
    fn digits(&mut self, most: usize) -> String {
        (0..=self.below(most)).map(|_| char::from(b"0123456789"[self.below(10)])).collect()
    }
}

pub struct Author {
    chance: Chance,
    text: String,
}

impl Author {
    pub fn new() -> Self {
        Self { chance: Chance(SEED), text: String::new() }
    }

    /// A JSON text without line feeds.
    pub fn text(&mut self) -> String {
        match self.chance.below(40) {
            0 => self.nested(),
            1 => self.lone_surrogate(),
            _ => self.value(0),
        }
        std::mem::take(&mut self.text)
    }

    /// A JSON string.
    pub fn string(&mut self) -> String {
        self.write_string();
        std::mem::take(&mut self.text)
    }

    fn space(&mut self) {
        if self.chance.one_in(6) {
            self.text.push_str(self.chance.of(&[" ", "\t", "\r", "  \t"]));
        }
    }

    fn value(&mut self, depth: usize) {
        self.space();
        let kinds = if depth < 6 { 10 } else { 5 };
        match self.chance.below(kinds) {
            0 | 1 => self.number(),
            2 | 3 => self.write_string(),
            4 => self.text.push_str(self.chance.of(&["true", "false", "null", "[]", "{}"])),
            5 | 6 => self.list(depth),
            _ => self.object(depth),
        }
        self.space();
    }

    fn list(&mut self, depth: usize) {
        self.text.push('[');
        for at in 0..self.chance.below(5) {
            if at > 0 {
                self.text.push(',');
            }
            self.value(depth + 1);
        }
        self.text.push(']');
    }

    fn object(&mut self, depth: usize) {
        self.text.push('{');
        let large = self.chance.one_in(30);
        let count = if large { 30 } else { self.chance.below(7) };
        for at in 0..count {
            if at > 0 {
                self.text.push(',');
            }
            self.space();
            self.name(large);
            self.space();
            self.text.push(':');
            self.value(depth + if large { 4 } else { 1 });
        }
        self.text.push('}');
    }

    /// A name; in a large object one that hardly occurs twice.
    fn name(&mut self, large: bool) {
        match self.chance.below(4) {
            0 if !large => {
                let name = self.chance.of(NAMES);
                write!(self.text, "\"{name}\"").unwrap();
            }
            0 | 1 => {
                let index = self.chance.bits() >> self.chance.below(if large { 44 } else { 64 });
                write!(self.text, "\"{index}\"").unwrap();
            }
            _ => {
                self.write_string();
                if large {
                    self.text.pop();
                    write!(self.text, "{:x}\"", self.chance.bits()).unwrap();
                }
            }
        }
    }

    fn write_string(&mut self) {
        self.text.push('"');
        for _ in 0..self.chance.below(6) {
            match self.chance.below(8) {
                0 => {
                    let unit = self.chance.bits() & 0xffff;
                    if !(0xd800..0xe000).contains(&unit) {
                        write!(self.text, "\\u{unit:04x}").unwrap();
                    }
                }
                1 => {
                    let scalar = u32::try_from(self.chance.bits() & 0x1f_ffff).unwrap();
                    let plain = |c: &char| *c >= ' ' && *c != '"' && *c != '\\';
                    self.text.extend(char::from_u32(scalar).filter(plain));
                }
                _ => self.text.push_str(self.chance.of(PIECES)),
            }
        }
        self.text.push('"');
    }

    fn number(&mut self) {
        let double = f64::from_bits(self.chance.bits());
        let double = if double.is_finite() { double } else { 0.5 };
        let integer = self.chance.bits() >> self.chance.below(64);
        let whole = match self.chance.digits(20).trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        };
        let text = match self.chance.below(10) {
            0 | 1 => self.chance.of(NUMBERS).to_owned(),
            2 => format!("{double:e}"),
            3 => format!("{double:.16e}"),
            4 => format!("{double}"),
            5 => format!("-{integer}"),
            6 => format!("{whole}.{}", self.chance.digits(9)),
            7 => format!("0.{}{whole}", "0".repeat(self.chance.below(9))),
            8 => {
                let (letter, sign) = (self.chance.of(&["e", "E"]), self.chance.of(&["", "+", "-"]));
                // As a rule within the range of a double.
                let end = if self.chance.one_in(20) { 700 } else { 280 };
                format!("{whole}{letter}{sign}{}", self.chance.below(end))
            }
            _ => format!("7{}", self.chance.digits(200)),
        };
        self.text.push_str(&text);
    }

    /// Containers in containers, around the depth that is allowed.
    fn nested(&mut self) {
        let depth = JSON_DEPTH - 5 + self.chance.below(8);
        let mut ends = Vec::with_capacity(depth);
        for _ in 0..depth {
            let list = self.chance.one_in(2);
            let (open, end) = if list { ("[", "]") } else { ("{\"b\":0,\"1\":", "}") };
            self.text.push_str(open);
            ends.push(end);
        }
        self.number();
        self.text.extend(ends.into_iter().rev());
    }

    fn lone_surrogate(&mut self) {
        let texts = [r#"["\ud800"]"#, r#""\udc00""#, r#"{"\uD83D\u0061":1}"#];
        self.text.push_str(self.chance.of(&texts));
    }
}
