//! The tokens file: whose tokens are valid, and what they are good for.
//!
//! One token a line, `key=value` in any order, `#` begins a comment:
//!
//! ```text
//! name=checkout role=publisher sha256=5f0c…
//! name=erp-team role=tenant_manager sha256=90ab… tenants=acme,globex expires=2027-01-31T00:00:00Z
//! ```
//!
//! The file holds hashes only, so that whoever reads it can call nothing. A token is 32 random
//! bytes: there is nothing to guess, and a plain SHA-256 needs no salt and no slowness. A token is
//! looked up by its hash, so the time that this takes tells nothing of any token.
//!
//! Several lines may have one name: to rotate a token, add the new one, change its users over, and
//! take the old one away.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pregon_core::clock::Timestamp;
use pregon_core::id::TenantId;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::caller::{Caller, Role};
use crate::files::{BadFile, Contents, Source};

/// What every token begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "pregon_";

/// Random bytes of a token.
const RANDOM_LEN: usize = 32;
/// Longer ones are not ours; they are not even hashed.
const TOKEN_LEN: usize = 256;
/// Tokens in a file: every service and team of a large platform, several times over.
const TOKENS: usize = 4096;
/// Tenants of one token; a token for more is a token for all.
const TENANTS: usize = 100;
/// A name is shown in every line of the log that is about a call.
const NAME_LEN: usize = 64;
/// Wrong lines that are named; a file with more is another file altogether.
const WRONG_SHOWN: usize = 10;

/// A token's hash.
pub(crate) type Hash = [u8; 32];

/// A token, as its line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whom it stands for.
    pub(crate) caller: Caller,
    /// When it stops being valid.
    pub(crate) expires: Option<Timestamp>,
}

/// All valid tokens, by hash.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens(HashMap<Hash, Entry>);

impl Tokens {
    /// What a token is good for, and its hash; none if it is no valid one.
    pub(crate) fn find(&self, token: &[u8]) -> Option<(Hash, &Entry)> {
        if token.len() > TOKEN_LEN {
            return None;
        }
        let hash: Hash = Sha256::digest(token).into();
        Some((hash, self.get(&hash)?))
    }

    pub(crate) fn get(&self, hash: &Hash) -> Option<&Entry> {
        self.0.get(hash)
    }

    /// Tokens of a name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.0.values().filter(move |entry| &**entry.caller.actor() == name)
    }
}

impl FromStr for Tokens {
    type Err = String;

    /// Reads a file, or says every wrong line and the rule that it broke.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut tokens, mut wrong) = (HashMap::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match parse_line(line) {
                Err(rules) => wrong.push(format!("line {number}: {}", rules.join(", "))),
                Ok((hash, entry)) => {
                    if tokens.insert(hash, entry).is_some() {
                        wrong.push(format!("line {number}: the token stands above already"));
                    }
                }
            }
        }
        if tokens.len() > TOKENS {
            wrong.push(format!("must hold {TOKENS} tokens at most"));
        } else if tokens.is_empty() && wrong.is_empty() {
            wrong.push("must hold a token: without any, nobody could call".to_owned());
        }
        if wrong.is_empty() {
            return Ok(Self(tokens));
        }
        let more = wrong.len().saturating_sub(WRONG_SHOWN);
        wrong.truncate(WRONG_SHOWN);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        Err(wrong.join("; "))
    }
}

/// Reads a line. What is wrong is never shown: it may be a token.
fn parse_line(line: &str) -> Result<(Hash, Entry), Vec<String>> {
    let mut fields = Fields::default();
    for field in line.split_whitespace() {
        fields.take(field);
    }
    let Fields { name, role, sha256, tenants, expires, mut wrong } = fields;
    for (key, missing) in
        [("name", name.is_none()), ("role", role.is_none()), ("sha256", sha256.is_none())]
    {
        if missing && !wrong.iter().any(|rule| rule.starts_with(key)) {
            wrong.push(format!("{key} must be set"));
        }
    }
    match (name, role, sha256) {
        (Some(name), Some(role), Some(hash)) if wrong.is_empty() => {
            Ok((hash, Entry { caller: Caller::new(&name, role, tenants), expires }))
        }
        _ => Err(wrong),
    }
}

/// The fields of a line.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    role: Option<Role>,
    sha256: Option<Hash>,
    tenants: Option<BTreeSet<TenantId>>,
    expires: Option<Timestamp>,
    wrong: Vec<String>,
}

impl Fields {
    fn take(&mut self, field: &str) {
        let parsed = match field.split_once('=') {
            Some(("name", value)) => put(&mut self.name, "name", parse_name(value)),
            Some(("role", value)) => put(&mut self.role, "role", parse_role(value)),
            Some(("sha256", value)) => put(&mut self.sha256, "sha256", parse_hash(value)),
            Some(("tenants", value)) => put(&mut self.tenants, "tenants", parse_tenants(value)),
            Some(("expires", value)) => put(&mut self.expires, "expires", parse_expires(value)),
            Some(_) | None => {
                Err("must be made of name=, role=, sha256=, tenants= and expires=".to_owned())
            }
        };
        if let Err(rule) = parsed {
            self.wrong.push(rule);
        }
    }
}

fn put<T>(place: &mut Option<T>, key: &str, parsed: Result<T, String>) -> Result<(), String> {
    let value = parsed.map_err(|rule| format!("{key} must be {rule}"))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{key} must be given once")),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@');
    if (1..=NAME_LEN).contains(&text.len()) && text.bytes().all(fit) && !text.starts_with(PREFIX) {
        Ok(text.to_owned())
    } else {
        Err(format!("1 to {NAME_LEN} of A-Z a-z 0-9 _ - . @"))
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let words: Vec<_> = Role::ALL.into_iter().map(Role::word).collect();
        format!("one of {}", words.join(", "))
    })
}

/// The hash of 64 hex digits.
pub(crate) fn parse_hash(text: &str) -> Result<Hash, String> {
    if text.starts_with(PREFIX) {
        return Err("the hash of the token: the token itself belongs to its user only, so make \
                    another one"
            .to_owned());
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "the SHA-256 of the token, in 64 hex digits".to_owned())
}

fn parse_tenants(text: &str) -> Result<BTreeSet<TenantId>, String> {
    let rule = || format!("1 to {TENANTS} ids of tenants, as in acme,globex");
    let parse = |id: &str| TenantId::parse(id).ok().filter(|id| id.as_str() != "-");
    let tenants: Option<BTreeSet<_>> = text.split(',').map(parse).collect();
    tenants.filter(|tenants| tenants.len() <= TENANTS).ok_or_else(rule)
}

fn parse_expires(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "a time of RFC 3339, as in 2027-01-31T00:00:00Z".to_owned())
}

/// A token that was just made.
pub struct NewToken {
    /// The token, for its user. It is kept nowhere.
    pub token: Zeroizing<String>,
    /// The line for the tokens file.
    pub line: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("line", &self.line).finish_non_exhaustive()
    }
}

/// What a token is to be good for, as text.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The name that the log shall know its user by.
    pub name: String,
    /// The word of a role.
    pub role: String,
    /// Ids of tenants, separated by commas; none: all tenants.
    pub tenants: Option<String>,
    /// When it shall stop being valid, RFC 3339; none: never.
    pub expires: Option<String>,
}

impl Grant {
    /// Whether the time at which it shall stop being valid lies ahead. What cannot be read as a
    /// time is for [`Self::issue`] to say.
    ///
    /// # Errors
    ///
    /// The rule, where it does not: such a token would never be valid.
    pub fn check_ahead(&self, now: Timestamp) -> Result<(), String> {
        match self.expires.as_deref().and_then(Timestamp::parse) {
            Some(end) if end <= now => Err(format!("expires must lie ahead of now, {now}")),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes a token. `random` fills a buffer with random bytes fit for keys.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the grant.
    pub fn issue(&self, random: impl FnOnce(&mut [u8])) -> Result<NewToken, Vec<String>> {
        let mut bytes = Zeroizing::new([0; RANDOM_LEN]);
        random(&mut *bytes);
        let token = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)));
        let mut hash = String::with_capacity(64);
        for byte in Sha256::digest(token.as_bytes()) {
            let _ = write!(hash, "{byte:02x}"); // into a String it cannot fail
        }
        let mut fields = Fields::default();
        let mut line = Vec::new();
        let given = [
            ("name", Some(&self.name)),
            ("role", Some(&self.role)),
            ("sha256", Some(&hash)),
            ("tenants", self.tenants.as_ref()),
            ("expires", self.expires.as_ref()),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                let field = format!("{key}={value}");
                fields.take(&field);
                line.push(field);
            }
        }
        match fields.wrong.is_empty() {
            true => Ok(NewToken { token, line: line.join(" ") }),
            false => Err(fields.wrong),
        }
    }
}

/// The tokens file.
#[derive(Debug)]
pub(crate) struct TokensFile(pub(crate) PathBuf);

impl Source for TokensFile {
    type Made = Tokens;
    const WHAT: &'static str = "tokens";
    /// [`TOKENS`] lines of 256 bytes.
    const LEN: u64 = 1024 * 1024;

    fn files(&self) -> Vec<&Path> {
        vec![&self.0]
    }

    fn make(&self, contents: &Contents) -> Result<Tokens, BadFile> {
        let text = contents.first().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| BadFile::new(&self.0, "must be text"))?;
        text.parse().map_err(|rules: String| BadFile::new(&self.0, rules))
    }
}

#[cfg(test)]
mod tests;
