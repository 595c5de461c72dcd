//! A contract's `verification`: the challenge that a subscription's receiver has to answer before
//! events go to it.
//!
//! An asking is a few requests, in order, each with the answer that it must get. What the receiver
//! is to answer with is new for each asking, so that no earlier answer does. A request may be
//! signed as deliveries are, or so that no key of the receiver's fits, for receivers that have to
//! tell the two apart.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use url::form_urlencoded;

use super::body::BodyTemplate;
use super::retry::Retry;
use super::template::Template;
use super::text::{Place, TextTemplate};
use crate::error::{Rule, Wrong, words};
use crate::expr::{Expression, Names};

/// Requests of one asking: a right and a wrong one, and some to spare.
pub const STEPS: RangeInclusive<usize> = 1..=4;
/// Parameters that a step adds to the URL: no known sender has more than three.
pub const QUERY: usize = 20;
/// Bytes of a parameter's name.
pub const QUERY_NAME_LEN: usize = 128;
/// Characters of a challenge's text: below eight it can be guessed, above 128 it does not fit where
/// receivers keep it.
pub const TEXT_LEN: RangeInclusive<u64> = 8..=128;
/// How long after it has passed a receiver may be asked again: below ten seconds is a hammer, above
/// a month nobody means it.
pub const REPEAT: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(30 * 24 * 3600);

/// Characters of a length that most receivers' fields hold.
const TEXT_LEN_DEFAULT: usize = 32;
words! {
    /// A challenge's method, by its name in a contract.
    ChallengeMethod {
        /// No body.
        Get = "GET",
        /// With a body, if the step has one.
        Post = "POST",
        /// No body, neither there nor back.
        Head = "HEAD",
        /// No body.
        Options = "OPTIONS",
    }
}

words! {
    /// Whether a challenge is signed, by its name in a contract.
    ChallengeSign {
        /// It is not.
        None = "none",
        /// As deliveries are.
        Right = "right",
        /// So that no key fits: the receiver must refuse it.
        Wrong = "wrong",
    }
}

words! {
    /// What a challenge's text is made of, by its name in a contract.
    Alphabet {
        /// `A-Z a-z 0-9`.
        Alphanumeric = "alphanumeric",
        /// `0-9`, the first not 0, for receivers that read a number.
        Digits = "digits",
        /// `0-9 a-f`.
        Hex = "hex",
    }
}

/// What the receiver is to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeForm {
    /// What it is made of.
    pub alphabet: Alphabet,
    /// How many characters; within [`TEXT_LEN`].
    pub length: usize,
}

impl Default for ChallengeForm {
    /// 32 letters and digits: 190 random bits.
    fn default() -> Self {
        Self { alphabet: Alphabet::Alphanumeric, length: TEXT_LEN_DEFAULT }
    }
}

impl ChallengeForm {
    /// A new text; `random` fills a buffer with random bytes.
    pub fn text(self, random: &mut dyn FnMut(&mut [u8])) -> String {
        const ALL: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let letters: &[u8] = match self.alphabet {
            Alphabet::Alphanumeric => ALL,
            Alphabet::Digits => &ALL[..10],
            Alphabet::Hex => b"0123456789abcdef",
        };
        // A byte beyond the last whole round would make the first letters more frequent.
        let fair = 256 - 256 % letters.len();
        let mut text = String::with_capacity(self.length);
        let mut bytes = [0; 64];
        while text.len() < self.length {
            random(&mut bytes);
            let fit = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
            for letter in fit.map(|byte| char::from(letters[byte % letters.len()])) {
                let leading_zero = text.is_empty() && letter == '0';
                if text.len() < self.length && !(leading_zero && self.alphabet == Alphabet::Digits)
                {
                    text.push(letter);
                }
            }
        }
        text
    }
}

/// What the answer to a challenge must be: a condition.
#[derive(Clone, Debug)]
pub struct Expected(pub(super) Expression);

impl PartialEq for Expected {
    fn eq(&self, other: &Self) -> bool {
        self.0.source() == other.0.source()
    }
}

impl Expected {
    /// Compiles a condition over `response`, `challenge`, `tenant`, `subscription` and
    /// `secret`.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`].
    pub fn parse(source: &str, names: Names<'_>) -> Result<Self, Wrong> {
        Expression::compile(source, names).map(Self)
    }
}

/// A step of a `verification` as it is stated.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// How it is asked.
    pub method: ChallengeMethod,
    /// What is added to the URL's query, in order.
    pub query: Vec<(Box<str>, TextTemplate)>,
    /// Headers in order, beside `content-type`, `user-agent` and signatures; names in lower case.
    pub headers: Vec<(Arc<str>, TextTemplate)>,
    /// What is sent, of a POST.
    pub body: Option<Template>,
    /// Whether it is signed.
    pub sign: ChallengeSign,
    /// What must come back.
    pub expect: Expected,
}

/// A contract's `verification` as it is stated.
#[derive(Clone, Debug, PartialEq)]
pub struct VerificationSpec {
    /// What is asked, in order; within [`STEPS`].
    pub steps: Vec<StepSpec>,
    /// What the receiver is to answer with.
    pub challenge: ChallengeForm,
    /// When an asking that failed is made again.
    pub retry: Retry,
    /// How long after it has passed a receiver is asked again; within [`REPEAT`].
    pub repeat: Option<Duration>,
}

/// A contract's `verification`, compiled.
#[derive(Clone, Debug)]
pub struct VerificationRule {
    steps: Box<[Step]>,
    challenge: ChallengeForm,
    retry: Retry,
    repeat: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) method: ChallengeMethod,
    pub(super) query: Vec<(Box<str>, TextTemplate)>,
    pub(super) headers: Vec<(Arc<str>, TextTemplate)>,
    pub(super) body: Option<BodyTemplate>,
    pub(super) sign: ChallengeSign,
    pub(super) expect: Expected,
}

impl VerificationRule {
    pub(in crate::contract) fn compile(spec: VerificationSpec) -> Result<Self, Wrong> {
        let steps = spec.steps.into_iter().map(Step::compile).collect::<Result<_, _>>()?;
        let (challenge, retry, repeat) = (spec.challenge, spec.retry, spec.repeat);
        Ok(Self { steps, challenge, retry, repeat })
    }

    /// How many requests an asking has at most: one that fails is the last.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// A step, counted from 0.
    pub(super) fn step(&self, step: usize) -> Option<&Step> {
        self.steps.get(step)
    }

    /// What the receiver is to answer with.
    pub fn challenge(&self) -> ChallengeForm {
        self.challenge
    }

    /// When an asking that failed is made again.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// How long after it has passed a receiver is asked again; none: never.
    pub fn repeat(&self) -> Option<Duration> {
        self.repeat
    }

    /// The first parameter of a step that a URL has already, so that it cannot be added.
    pub fn in_query_of(&self, url: &str) -> Option<&str> {
        let names = self.steps.iter().flat_map(|step| &step.query).map(|(name, _)| &**name);
        let mut names = names.filter(|name| has_parameter(url, name));
        names.next()
    }

    pub(in crate::contract) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(|step| &step.headers).map(|(name, _)| &**name)
    }
}

impl Step {
    fn compile(spec: StepSpec) -> Result<Self, Wrong> {
        let wrong = |text: &str| Err(Wrong::new(Rule::ContractInvalid, text));
        if spec.body.is_some() && spec.method != ChallengeMethod::Post {
            return wrong("verification: only a POST has a body");
        }
        for (_, template) in &spec.headers {
            template.check(Place::ChallengeHeader)?;
        }
        for (_, template) in &spec.query {
            template.check(Place::Challenge)?;
        }
        let body = spec.body.as_ref().map(BodyTemplate::compile).transpose()?;
        let StepSpec { method, query, headers, sign, expect, .. } = spec;
        Ok(Self { method, query, headers, body, sign, expect })
    }
}

/// Whether a URL's query has a parameter of this name.
pub(super) fn has_parameter(url: &str, name: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    form_urlencoded::parse(query.as_bytes()).any(|(other, _)| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_their_alphabet_and_length() {
        // Bytes that are not fair, leading zeros, and everything in between.
        let mut next = 255_u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(1);
                *byte = next;
            }
        };
        let of = |alphabet, length| ChallengeForm { alphabet, length };
        let digits = of(Alphabet::Digits, 9).text(&mut random);
        assert_eq!(digits, "123456789");
        assert!(digits.parse::<u32>().is_ok());
        let hex = of(Alphabet::Hex, 128).text(&mut random);
        assert!(hex.len() == 128 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        let text = ChallengeForm::default().text(&mut random);
        assert!(text.len() == 32 && text.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(text, ChallengeForm::default().text(&mut random));
        // Every letter of the alphabet comes, and as often as every other.
        let mut all = of(Alphabet::Alphanumeric, 62 * 4).text(&mut random).into_bytes();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 62);
    }

    #[test]
    fn parameters_are_known_by_their_decoded_names() {
        let url = "https://r.example/a?x=1&hub%2Emode=y&z";
        assert!(["x", "hub.mode", "z"].iter().all(|name| has_parameter(url, name)));
        assert!(!["hub", "1", "a", "X"].iter().any(|name| has_parameter(url, name)));
        assert!(!has_parameter("https://r.example/x", "x"));
    }
}
