//! The headers and the target of a request, put together.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use pregon_core::contract::{HeaderLine, RenderError};
use pregon_core::trace::TraceContext;
use pregon_core::url::EndpointUrl;

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

/// Path and query of a request whose contract adds parameters to the URL; none: those of the URL.
///
/// # Errors
///
/// They do not fit into a request.
pub(crate) fn uri(url: &EndpointUrl, sent: Option<&str>) -> Result<Option<Uri>, RenderError> {
    let Some(sent) = sent else { return Ok(None) };
    let added = sent.get(url.as_str().len()..).unwrap_or_default();
    let path = PathAndQuery::try_from(format!("{}{added}", url.path_and_query()));
    path.map(|path| Some(Uri::from(path))).map_err(|_| RenderError::QueryTooLong)
}

/// Names of headers that are not in lower case, as they are to be written.
pub(crate) fn spelled(lines: &[HeaderLine], own: &[Arc<str>]) -> Vec<Arc<str>> {
    let capital = |name: &str| name.bytes().any(|byte| byte.is_ascii_uppercase());
    let lines = lines.iter().filter(|line| capital(&line.name)).map(|line| &line.name);
    lines.chain(own).map(Arc::clone).collect()
}
