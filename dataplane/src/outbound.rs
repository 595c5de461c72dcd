//! The headers of a request, put together.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pregon_core::contract::{HeaderLine, RenderError};

/// The contract's headers and signatures, then what is the same for every request to the receiver.
pub(crate) fn headers(
    lines: &[HeaderLine],
    own: &[(HeaderName, HeaderValue)],
) -> Result<Vec<(HeaderName, HeaderValue)>, RenderError> {
    let mut headers = Vec::with_capacity(lines.len() + own.len());
    for line in lines {
        let unusable = || RenderError::HeaderValue { name: Arc::clone(&line.name) };
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| unusable())?;
        let value = HeaderValue::from_maybe_shared(line.value.clone()).map_err(|_| unusable())?;
        headers.push((name, value));
    }
    headers.extend(own.iter().cloned());
    Ok(headers)
}
