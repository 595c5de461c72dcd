//! What a receiver answered.

use bytes::Bytes;

/// An answer as contracts look at it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// Its body, up to [`crate::limits::RESPONSE_READ`].
    pub body: &'a Bytes,
}
