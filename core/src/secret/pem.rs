//! PEM, read and written (RFC 7468).

use data_encoding::BASE64;
use rustls_pki_types::pem::{SectionKind, from_buf};
use zeroize::Zeroizing;

use super::SecretBytes;

/// Characters of a line (RFC 7468, section 2).
const LINE: usize = 64;

/// Whether a text means to be PEM.
pub(super) fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// The first key of a text; none where there is none that can be read.
pub(super) fn read(text: &str) -> Option<(SectionKind, SecretBytes)> {
    let (kind, der) = from_buf(&mut text.as_bytes()).ok()??;
    Some((kind, SecretBytes::new(der)))
}

/// A structure as PEM under a label, as in `PRIVATE KEY`; wiped when dropped.
pub(super) fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64.encode(der));
    let room = body.len() + body.len() / LINE + 2 * label.len() + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}
