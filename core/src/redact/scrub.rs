//! Scrubbing: what must not be kept, taken out of a text that somebody else wrote.
//!
//! A receiver that fails often answers with the request it got, credentials and data included. Its
//! text has no paths, so values are looked for as they are and in the forms that programs give
//! them: base64, hexadecimal, escaped for JSON or for a URL. What is shorter than four bytes is
//! not looked for: it stands in any text.

use std::collections::HashMap;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

use super::{SensitivePath, SensitiveRoot};
use crate::json::{Kind, Node, write_string};

/// Bytes by which a value is found; shorter ones are not looked for.
const HEAD: usize = 4;
/// Bytes of values that are looked for, in all their forms. Beyond it nothing of a text is kept.
const VALUES_LEN: usize = 1024 * 1024;
/// Number of values that are looked for, in all their forms. Beyond it nothing of a text is kept.
const VALUES: usize = 16 * 1024;

/// What stands in place of a value.
const SCRUBBED: &[u8] = b"[redacted]";
/// What stands in place of a text in which too much would have to be looked for.
const NOT_KEPT: &[u8] = b"[not kept: the event holds too many sensitive values]";

/// Values that must not be kept, ready to be looked for; wiped when dropped.
#[derive(Default)]
pub struct Scrub {
    by_head: HashMap<[u8; HEAD], Vec<Zeroizing<Vec<u8>>>>,
    count: usize,
    bytes: usize,
}

impl Scrub {
    /// A credential: as it is, and as programs write it.
    pub fn add_secret(&mut self, secret: &[u8]) {
        self.add_text(secret);
        self.add(HEXLOWER.encode(secret).into_bytes());
        self.add(HEXUPPER.encode(secret).into_bytes());
    }

    /// The values that paths lead to in an event's data, each leaf by itself.
    pub fn add_data(&mut self, json: &[u8], paths: &[SensitivePath]) {
        for found in super::found(json, SensitiveRoot::Event, paths) {
            self.add_leaves(Node::of(found));
        }
    }

    fn add_leaves(&mut self, node: Node<'_>) {
        if self.is_full() {
            return;
        }
        match node.kind() {
            Kind::Object => {
                for (_, value) in node.members() {
                    self.add_leaves(value);
                }
            }
            Kind::Array => {
                for value in node.elements() {
                    self.add_leaves(value);
                }
            }
            Kind::String => {
                // As it was published, and as text.
                let source = node.source();
                self.add(
                    source.get(1..source.len().saturating_sub(1)).unwrap_or_default().to_vec(),
                );
                if let Some(text) = node.as_str() {
                    self.add_text(text.as_bytes());
                }
            }
            Kind::Number => self.add(node.source().to_vec()),
            Kind::Null | Kind::Bool => {}
        }
    }

    fn add_text(&mut self, value: &[u8]) {
        if value.len() < HEAD {
            return;
        }
        // With its padding where it has it, so that none is left behind.
        let base64 = [BASE64, BASE64_NOPAD, BASE64URL_NOPAD].map(|form| form.encode(value));
        for form in base64 {
            self.add_escaped(&form);
        }
        if let Ok(text) = std::str::from_utf8(value) {
            self.add_escaped(text);
            self.add(form_urlencoded(value));
        }
        self.add(value.to_vec());
    }

    /// As it stands in JSON; some writers escape the slash, and some all that is not ASCII.
    fn add_escaped(&mut self, text: &str) {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        write_string(&mut quoted, text);
        let quoted = String::from_utf8_lossy(&quoted);
        let inside = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(text);
        let ascii: String = inside.chars().flat_map(escaped).collect();
        for form in [inside, &ascii] {
            self.add(form.as_bytes().to_vec());
            self.add(form.replace('/', "\\/").into_bytes());
        }
    }

    fn add(&mut self, value: Vec<u8>) {
        let value = Zeroizing::new(value);
        let Some(head) = value.first_chunk::<HEAD>().copied() else { return };
        if self.is_full() {
            return;
        }
        let values = self.by_head.entry(head).or_default();
        if !values.contains(&value) {
            self.count += 1;
            self.bytes += value.len();
            values.push(value);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes > VALUES_LEN || self.count > VALUES
    }

    /// The text without the values; itself if there is none in it. `more`: the text goes on, so a
    /// value may have been cut at its end.
    pub fn clean(&self, text: Vec<u8>, more: bool) -> Vec<u8> {
        if self.is_full() && !text.is_empty() {
            return NOT_KEPT.to_vec();
        }
        let mut out = Vec::new();
        let (mut at, mut done) = (0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| rest.len() >= HEAD) {
            let Some(length) = self.begins(rest, more) else {
                at += 1;
                continue;
            };
            out.extend_from_slice(&text[done..at]);
            out.extend_from_slice(SCRUBBED);
            at += length;
            done = at;
        }
        if done == 0 {
            return text;
        }
        out.extend_from_slice(&text[done..]);
        out
    }

    /// How much of the longest value a text begins with.
    fn begins(&self, text: &[u8], more: bool) -> Option<usize> {
        let values = self.by_head.get(text.first_chunk::<HEAD>()?)?;
        let length = |value: &Zeroizing<Vec<u8>>| match text.starts_with(value) {
            true => Some(value.len()),
            false => (more && value.starts_with(text)).then_some(text.len()),
        };
        values.iter().filter_map(length).max()
    }
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("values", &self.count).finish_non_exhaustive()
    }
}

/// As in a URL's query, capitals as most programs write them.
fn form_urlencoded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

fn escaped(c: char) -> Vec<char> {
    if c.is_ascii() {
        return vec![c];
    }
    let mut units = [0; 2];
    let units = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
    units.collect::<String>().chars().collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn cleaned(scrub: &Scrub, text: &str) -> String {
        String::from_utf8(scrub.clean(text.as_bytes().to_vec(), false)).unwrap()
    }

    #[test]
    fn credentials_are_found_in_every_form() {
        let mut scrub = Scrub::default();
        let secret = "s3cr/t\"é+key";
        scrub.add_secret(secret.as_bytes());
        let json = serde_json::to_string(secret).unwrap();
        for form in [
            secret.to_owned(),
            json.trim_matches('"').to_owned(),
            json.trim_matches('"').replace('/', "\\/"),
            "s3cr/t\\\"\\u00e9+key".to_owned(),
            "s3cr\\/t\\\"\\u00e9+key".to_owned(),
            BASE64_NOPAD.encode(secret.as_bytes()),
            BASE64URL_NOPAD.encode(secret.as_bytes()),
            HEXLOWER.encode(secret.as_bytes()),
            HEXUPPER.encode(secret.as_bytes()),
            "s3cr%2Ft%22%C3%A9%2Bkey".to_owned(),
        ] {
            let text = format!("you sent {form}, {form}!");
            assert_eq!(cleaned(&scrub, &text), "you sent [redacted], [redacted]!", "{form}");
        }
        assert_eq!(cleaned(&scrub, "s3cr/t"), "s3cr/t");
        assert_eq!(cleaned(&scrub, ""), "");
    }

    #[test]
    fn values_of_data_are_found_leaf_by_leaf() {
        let data = br#"{"user":{"mail":"ada@example.org","cards":[4111222233334444,"5500-0000"],
            "ok":true,"age":42,"name":"\u0041da L"},"total":1234}"#;
        let paths = [SensitivePath::parse("event.data.user").unwrap()];
        let mut scrub = Scrub::default();
        scrub.add_data(data, &paths);
        let echo = r#"{"got":{"mail":"ada@example.org","n":4111222233334444,"c":"5500-0000"},
            "name":"Ada L","raw":"\u0041da L","ok":true,"age":42,"total":1234}"#;
        let want = r#"{"got":{"mail":"[redacted]","n":[redacted],"c":"[redacted]"},
            "name":"[redacted]","raw":"[redacted]","ok":true,"age":42,"total":1234}"#;
        assert_eq!(cleaned(&scrub, echo), want);
    }

    #[test]
    fn value_that_is_cut_at_the_end_is_found_and_the_longest_wins() {
        let mut scrub = Scrub::default();
        scrub.add_secret(b"tokentoken");
        scrub.add_secret(b"tokentoken-and-more");
        let cut = |text: &str| scrub.clean(text.as_bytes().to_vec(), true);
        assert_eq!(cut("a tokentoken-and-more b"), b"a [redacted] b");
        assert_eq!(cut("a tokentoken b"), b"a [redacted] b");
        assert_eq!(cut("a tokentoken-an"), b"a [redacted]");
        assert_eq!(cut("a token"), b"a [redacted]");
        assert_eq!(cleaned(&scrub, "a token"), "a token");
    }

    #[test]
    fn nothing_is_kept_where_too_much_would_have_to_be_looked_for() {
        let many: Vec<_> = (0..20_000).map(|n| format!("\"value {n}\"")).collect();
        let data = Bytes::from(format!("[{}]", many.join(",")));
        let mut scrub = Scrub::default();
        scrub.add_data(&data, &[SensitivePath::parse("event.data").unwrap()]);
        assert_eq!(scrub.clean(b"anything".to_vec(), false), NOT_KEPT);
        assert_eq!(scrub.clean(Vec::new(), false), b"");
    }
}
