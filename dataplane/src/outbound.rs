//! The headers of a request, put together.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pregon_core::contract::{HeaderLine, RenderError};
use pregon_core::trace::TraceContext;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The contract's headers and signatures and the trace that the request belongs to, then what is
/// the same for every request to the receiver.
pub(crate) fn headers<'a>(
    lines: &[HeaderLine],
    trace: Option<&TraceContext>,
    own: impl ExactSizeIterator<Item = &'a (HeaderName, HeaderValue)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, RenderError> {
    let mut headers = Vec::with_capacity(lines.len() + own.len() + 2);
    for line in lines {
        let unusable = || RenderError::HeaderValue { name: Arc::clone(&line.name) };
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| unusable())?;
        let value = HeaderValue::from_maybe_shared(line.value.clone()).map_err(|_| unusable())?;
        headers.push((name, value));
    }
    if let Some(trace) = trace {
        headers.extend(HeaderValue::try_from(trace.traceparent()).map(|it| (TRACEPARENT, it)));
        let state = trace.state.as_deref().and_then(|state| HeaderValue::from_str(state).ok());
        headers.extend(state.map(|it| (TRACESTATE, it)));
    }
    headers.extend(own.cloned());
    Ok(headers)
}
