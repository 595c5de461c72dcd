//! Verification: what a receiver makes of a request under a contract.
//!
//! It is the other side of [`sign()`](super::sign()), written anew from the contract's text, so that
//! the two check each other: it shares the contract's data with what signs, and the canonical forms,
//! but neither how a payload is put together, nor how a signature is placed, nor the keys.
//!
//! A receiver knows the request and the contract, but not the event. What a signature's payload
//! speaks of is therefore *recovered* ([`recover`]): from headers and members of the body whose
//! templates say it, and from what stands around the signature itself, as `t=` does. A payload with
//! something that the request does not tell is [`Finding::Unverifiable`], and that is named.
//!
//! It is as strict as the contract is about the sender: a signature in another alphabet, or one in
//! the body that is not where the contract puts it, is wrong.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::compiled::{
    Accessor, Contract, Gzip, Signature, SignatureAlgorithm, SignaturePlace, TextPiece, Value,
    decompress,
};
use crate::clock::Timestamp;
use crate::error::Wrong;
use crate::expr::SecretView;
use crate::secret::{ED25519_PUBLIC_LEN, SecretBytes, ed25519_public_parse};

mod body;
mod found;
mod key;
mod pattern;
mod recover;
mod url;

use found::{Found, Token};
use pattern::Captured;
use recover::Known;

/// How far an attempt's time may be from now, either way: what the libraries of Standard Webhooks
/// allow.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// In front of an Ed25519 public key.
const PUBLIC_PREFIX: &str = "whpk_";

/// What a receiver trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyingKey {
    /// A secret that both sides have.
    Hmac(SecretBytes),
    /// The public half of an Ed25519 pair.
    Ed25519([u8; ED25519_PUBLIC_LEN]),
}

impl VerifyingKey {
    /// Reads a key as the contract's receivers hold it: `whpk_…` where Ed25519 is used, else a
    /// secret of the contract's form. What is wrong is said without the text.
    ///
    /// # Errors
    ///
    /// As [`ed25519_public_parse`] and [`SecretForm::parse`](crate::secret::SecretForm::parse).
    pub fn parse(contract: &Contract, text: &str) -> Result<Self, Wrong> {
        if contract.uses_ed25519() && text.starts_with(PUBLIC_PREFIX) {
            return ed25519_public_parse(text).map(VerifyingKey::Ed25519);
        }
        contract.secret().form.parse(text).map(VerifyingKey::Hmac)
    }

    fn is_for(&self, algorithm: SignatureAlgorithm) -> bool {
        algorithm.is_hmac() == matches!(self, VerifyingKey::Hmac(_))
    }
}

/// A request as it came. Its bounds are whoever's that received it.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The URL that was asked for, as far as the receiver can tell; empty: it cannot.
    pub url: &'a str,
    /// Header lines in order; names are compared without regard to case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a Bytes,
}

/// What is found about one of a contract's `signatures`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is there, and made with a trusted key over this request.
    Verified,
    /// It is there, but fits no trusted key, or not this request.
    Wrong,
    /// It is not there.
    Missing,
    /// It is there, but cannot be judged.
    Unverifiable(Obstacle),
}

/// Why a signature cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No key of its kind was given.
    NoKey,
    /// What is signed speaks of this, which the request does not tell: an expression of the contract.
    Unknown(Box<str>),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoKey => f.write_str("no key of its kind is known"),
            Obstacle::Unknown(source) => write!(f, "the request does not tell {source}"),
        }
    }
}

/// What is found about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overall {
    /// Signed with a trusted key, just now as far as the request says when; nothing in it is wrong.
    Verified,
    /// Rightly signed, but the attempt's time is more than [`TOLERANCE`] from now.
    Stale,
    /// Some signature is wrong, or the attempt's time is no time.
    Wrong,
    /// The contract has signatures, the request none.
    Missing,
    /// Signed, but nothing of it can be judged.
    Unverifiable,
    /// The contract signs nothing.
    SignsNothing,
}

/// What is found about a request, signature by signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The contract's signatures by name, in its order.
    pub signatures: Vec<(Box<str>, Finding)>,
    /// What follows from them.
    pub overall: Overall,
}

/// Verifies a request under a contract with every key that is trusted; `now` tells what is stale.
///
/// A signature is good with any of the keys, as while one is rotated. A contract with several
/// signatures may leave out those of kinds that a subscription has no key of; of those that are
/// there and can be judged, all have to be right.
pub fn verify(
    contract: &Contract,
    keys: &[VerifyingKey],
    request: &Received<'_>,
    now: Timestamp,
) -> Verification {
    if contract.signatures.is_empty() {
        return Verification { signatures: Vec::new(), overall: Overall::SignsNothing };
    }
    // What is no gzip stays as it is, and fits no signature.
    let plain = contract.gzip.and_then(|_| decompress(request.body));
    let plain = plain.unwrap_or_else(|| request.body.clone());
    let unsigned = body::take_out(contract, &plain);
    let signed = match contract.gzip {
        Some(Gzip::BeforeSigning) => request.body,
        Some(Gzip::AfterSigning) | None => &unsigned.body,
    };
    let url = url::take_out(contract, request.url);
    let known = Known::of(contract, request, &plain, &url.url);
    let is_text = contract.secret.form.is_text();
    let mut times = Times { read: Vec::new(), now };
    let entries = contract.signatures.iter().enumerate();
    let signatures: Vec<_> = entries
        .map(|(index, signature)| {
            let found = match &signature.place {
                SignaturePlace::Header { header, .. } => {
                    found::in_header(contract, index, header, request)
                }
                SignaturePlace::Body { each, .. } => {
                    unsigned.found(index, each, signature.encoding)
                }
                SignaturePlace::Query { each, .. } => match url.text(index) {
                    Some(text) => found::single(each, text, signature.encoding),
                    None => Found::Nothing,
                },
            };
            let keys = Keys { trusted: keys, is_text };
            let finding = judge(signature, &found, keys, &known, signed, &mut times);
            (signature.name.clone(), finding)
        })
        .collect();
    let overall = overall(&signatures, &times);
    Verification { signatures, overall }
}

/// The keys that are trusted.
#[derive(Clone, Copy)]
struct Keys<'a> {
    trusted: &'a [VerifyingKey],
    /// Whether the contract's secrets are text.
    is_text: bool,
}

/// When the requests that are rightly signed say that they were made.
struct Times {
    read: Vec<Option<Timestamp>>,
    now: Timestamp,
}

impl Times {
    fn are_times(&self) -> bool {
        self.read.iter().all(Option::is_some)
    }

    fn are_near(&self) -> bool {
        let near = |at: &Timestamp| self.now.since(*at).max(at.since(self.now)) <= TOLERANCE;
        self.read.iter().flatten().all(near)
    }
}

fn overall(signatures: &[(Box<str>, Finding)], times: &Times) -> Overall {
    let any = |wanted: fn(&Finding) -> bool| signatures.iter().any(|(_, finding)| wanted(finding));
    if any(|finding| *finding == Finding::Wrong) {
        Overall::Wrong
    } else if any(|finding| *finding == Finding::Verified) {
        match (times.are_times(), times.are_near()) {
            (true, true) => Overall::Verified,
            (true, false) => Overall::Stale,
            (false, _) => Overall::Wrong,
        }
    } else if any(|finding| matches!(finding, Finding::Unverifiable(_))) {
        Overall::Unverifiable
    } else {
        Overall::Missing
    }
}

/// Judges one signature of the contract by every place where it was found: one that fits is enough,
/// for a rotation signs with several keys.
fn judge(
    signature: &Signature,
    found: &Found<'_>,
    keys: Keys<'_>,
    known: &Known<'_>,
    body: &Bytes,
    times: &mut Times,
) -> Finding {
    let tokens = match found {
        Found::Nothing => return Finding::Missing,
        Found::Unreadable => return Finding::Wrong,
        Found::Tokens(tokens) => tokens,
    };
    let Keys { trusted, is_text } = keys;
    let keys: Vec<_> = trusted.iter().filter(|key| key.is_for(signature.algorithm)).collect();
    if signature.payload.speaks_of_secret() {
        return judge_each(signature, tokens, (&keys, is_text), known, body, times);
    }
    if keys.is_empty() {
        return Finding::Unverifiable(Obstacle::NoKey);
    }
    let mut made: Option<(&Captured<'_>, Vec<u8>)> = None;
    for Token { text, around } in tokens {
        // Tokens that say the same of the request have one payload.
        let payload = match made.take_if(|(of, _)| *of == around) {
            Some((_, payload)) => payload,
            None => match payload(signature, &known.with(around), body) {
                Ok(payload) => payload,
                Err(obstacle) => return Finding::Unverifiable(obstacle),
            },
        };
        let bytes = signature.encoding.decode_strictly(text);
        let fits = |key: &&VerifyingKey| {
            bytes.as_ref().is_some_and(|bytes| key.fits(signature.algorithm, &payload, bytes))
        };
        if keys.iter().any(fits) {
            times.read.extend(known.with(around).attempt_time());
            return Finding::Verified;
        }
        made = Some((around, payload));
    }
    Finding::Wrong
}

/// The same where what is signed holds the key: there is a payload for each.
fn judge_each(
    signature: &Signature,
    tokens: &[Token<'_>],
    (keys, is_text): (&[&VerifyingKey], bool),
    known: &Known<'_>,
    body: &Bytes,
    times: &mut Times,
) -> Finding {
    let mut finding = Finding::Unverifiable(Obstacle::NoKey);
    for (key, Token { text, around }) in
        keys.iter().flat_map(|key| tokens.iter().map(move |token| (*key, token)))
    {
        let VerifyingKey::Hmac(secret) = key else { continue };
        let view = SecretView { key: secret.expose(), is_text };
        let payload = match payload(signature, &known.with(around).signed_with(view), body) {
            Ok(payload) => payload,
            Err(obstacle) => return Finding::Unverifiable(obstacle),
        };
        let bytes = signature.encoding.decode_strictly(text);
        if bytes.is_some_and(|bytes| key.fits(signature.algorithm, &payload, &bytes)) {
            times.read.extend(known.with(around).attempt_time());
            return Finding::Verified;
        }
        finding = Finding::Wrong;
    }
    finding
}

/// What the signature was made over.
fn payload(signature: &Signature, known: &Known<'_>, body: &Bytes) -> Result<Vec<u8>, Obstacle> {
    let mut payload = Vec::with_capacity(body.len() + 128);
    for piece in signature.payload.pieces() {
        match piece {
            TextPiece::Literal(text) => payload.extend_from_slice(text.as_bytes()),
            TextPiece::Value(Value::Accessor(Accessor::RequestBody)) => {
                payload.extend_from_slice(body);
            }
            TextPiece::Value(value) => match known.text(value, body) {
                Some(text) => payload.extend_from_slice(text.as_bytes()),
                None => return Err(Obstacle::Unknown(source(value))),
            },
        }
    }
    Ok(payload)
}

/// A value as the document writes it.
fn source(value: &Value) -> Box<str> {
    match value {
        Value::Accessor(accessor) => accessor.to_string().into(),
        Value::Expression(expression) => expression.source().into(),
    }
}

#[cfg(test)]
mod tests;
