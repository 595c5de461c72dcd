//! Writing: strings with the fewest escapes, and texts without insignificant white space.

use super::cursor::skip_string;
use super::{is_space, plain_run, skip_space};

/// Appends `s` as a JSON string, escaping only what RFC 8259 forces: `"`, `\`, the controls
/// with a short form (`\b \t \n \f \r`), and other controls as lower-case `\u00xx`.
pub fn write_string(out: &mut Vec<u8>, s: &str) {
    out.reserve(s.len() + 2);
    out.push(b'"');
    write_escaped(out, s);
    out.push(b'"');
}

/// What stands between the quotes in [`write_string`].
pub(super) fn write_escaped(out: &mut Vec<u8>, s: &str) {
    let mut rest = s.as_bytes();
    loop {
        let (plain, after) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = after.split_first() else {
            break;
        };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = after;
    }
}

/// The text without insignificant white space, everything else byte for byte. The text must have
/// passed [`check`](super::check).
pub fn compact(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut pos = skip_space(text, 0);
    while let Some(&byte) = text.get(pos) {
        if byte == b'"' {
            let end = skip_string(text, pos);
            out.extend_from_slice(text.get(pos..end).unwrap_or_default());
            pos = end;
        } else {
            if !is_space(byte) {
                out.push(byte);
            }
            pos += 1;
        }
    }
    out
}
