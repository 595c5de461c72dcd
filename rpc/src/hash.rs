//! Hashes of credentials: what is kept of them.

use std::fmt::Write as _;

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// A hash as 64 hex digits.
pub(crate) fn hex(hash: &Hash) -> String {
    let mut text = String::with_capacity(64);
    for byte in hash {
        let _ = write!(text, "{byte:02x}"); // into a String it cannot fail
    }
    text
}
