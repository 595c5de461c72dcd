//! Bodies compressed with gzip (RFC 1952), without a time or a name: the same body, the same bytes.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::error::BODY_LEN;

/// The body, compressed.
pub(super) fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// What was compressed; none of what is no gzip, or longer than a body may be.
pub(in crate::contract) fn decompress(body: &[u8]) -> Option<Bytes> {
    let mut out = Vec::new();
    let most = u64::try_from(BODY_LEN).unwrap_or(u64::MAX);
    GzDecoder::new(body).take(most + 1).read_to_end(&mut out).ok()?;
    (out.len() <= BODY_LEN).then(|| out.into())
}
