//! `multipart/form-data` bodies of RFC 7578, with what a form has: names and values, no files.
//!
//! The boundary follows from the fields, so that the same fields always make the same bytes.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::form::{Field, FormError, fields};

/// In front of a boundary's 32 hexadecimal digits.
const BOUNDARY: &str = "pregon-";

/// In front of a field's name.
const HEAD: &str = "Content-Disposition: form-data; name=\"";

/// An object of scalars as parts, in the order of its members, and the boundary between them.
///
/// # Errors
///
/// As [`urlencode`](crate::form::urlencode).
pub fn encode(json: &[u8]) -> Result<(Vec<u8>, String), FormError> {
    let fields = fields(json)?;
    let mut digest = Sha256::digest(json);
    let mut boundary = named(&digest);
    while fields.iter().any(|(_, value)| holds(value, boundary.as_bytes())) {
        digest = Sha256::digest(digest);
        boundary = named(&digest);
    }
    let mut out = Vec::with_capacity(json.len() + fields.len() * 128);
    for field in &fields {
        part(&mut out, &boundary, field);
    }
    end(&mut out, &boundary);
    Ok((out, boundary))
}

/// The parts with one more behind them; the boundary is the one that they begin with. None of what
/// is no such body.
pub fn append(parts: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    let line = parts.split(|byte| *byte == b'\r').next()?;
    let boundary = std::str::from_utf8(line.strip_prefix(b"--")?).ok()?.trim_end_matches("--");
    let mut last = Vec::new();
    end(&mut last, boundary);
    let mut out = parts.strip_suffix(last.as_slice())?.to_vec();
    part(&mut out, boundary, &(name.into(), value.as_bytes().into()));
    out.extend_from_slice(&last);
    Some(out)
}

/// Fields of parts, in order: names, and values' bytes.
pub type Parts<'a> = Vec<(String, &'a [u8])>;

/// The fields of such parts, in order, and the boundary between them; none of what [`encode`] does
/// not make.
pub fn decode(parts: &[u8]) -> Option<(Parts<'_>, String)> {
    let line = parts.split(|byte| *byte == b'\r').next()?;
    let boundary = std::str::from_utf8(line.strip_prefix(b"--")?).ok()?.trim_end_matches("--");
    let (mut last, between) = (Vec::new(), format!("\r\n--{boundary}\r\n").into_bytes());
    end(&mut last, boundary);
    let mut rest = parts.strip_suffix(last.as_slice())?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(between.get(2..)?)?;
        rest = rest.strip_prefix(HEAD.as_bytes())?;
        let at = rest.windows(5).position(|window| window == b"\"\r\n\r\n")?;
        let name = std::str::from_utf8(rest.get(..at)?).ok()?;
        let name = name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
        rest = rest.get(at + 5..)?;
        let length = rest.windows(between.len()).position(|window| window == between);
        let length = length.unwrap_or(rest.len().checked_sub(2)?);
        fields.push((name, rest.get(..length)?));
        rest = rest.get(length..)?.strip_prefix(b"\r\n")?;
    }
    Some((fields, boundary.to_owned()))
}

fn named(digest: &[u8]) -> String {
    let digits = HEXLOWER.encode(digest);
    format!("{BOUNDARY}{}", digits.get(..32).unwrap_or(&digits))
}

fn holds(value: &[u8], text: &[u8]) -> bool {
    value.windows(text.len()).any(|window| window == text)
}

fn part(out: &mut Vec<u8>, boundary: &str, (name, value): &Field<'_>) {
    // As the WHATWG's HTML standard has it: what would end the name or the line.
    let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let head = format!("--{boundary}\r\n{HEAD}{name}\"\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of such a body.
pub fn end(out: &mut Vec<u8>, boundary: &str) {
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_parts_in_order() {
        let (body, boundary) = encode(br#"{"json":"{\"a\": 1}\r\n","a\"b":1.50}"#).unwrap();
        assert_eq!(boundary.len(), "pregon-".len() + 32);
        let head = "Content-Disposition: form-data; name";
        let expected = format!(
            "--{boundary}\r\n{head}=\"json\"\r\n\r\n{{\"a\": 1}}\r\n\r\n--{boundary}\r\n\
             {head}=\"a%22b\"\r\n\r\n1.50\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body.clone()).unwrap(), expected);
        let fields =
            vec![("json".to_owned(), &b"{\"a\": 1}\r\n"[..]), ("a\"b".to_owned(), &b"1.50"[..])];
        assert_eq!(decode(&body), Some((fields, boundary)));
        assert_eq!(decode(b"{}"), None);
    }

    #[test]
    fn one_more_part_is_what_it_would_have_been() {
        for (before, after) in [("{}", 1), (r#"{"a":"1"}"#, 2)] {
            let (body, boundary) = encode(before.as_bytes()).unwrap();
            let more = String::from_utf8(append(&body, "sig", "x|y").unwrap()).unwrap();
            assert_eq!(more.matches(&format!("--{boundary}\r\n")).count(), after);
            let last = format!("name=\"sig\"\r\n\r\nx|y\r\n--{boundary}--\r\n");
            assert!(more.ends_with(&last), "{more}");
        }
        assert_eq!(append(b"{}", "a", "b"), None);
    }

    #[test]
    fn nothing_nested_is_taken() {
        assert!(encode(br#"{"a":[]}"#).is_err());
    }
}
