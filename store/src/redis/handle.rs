//! What the planes hold of an engine.

use std::sync::Arc;

use crate::redis::engine::Engine;
use crate::redis::publish::accept::Publisher;

/// What the planes hold of an engine.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub engine: Arc<Engine>,
    pub publisher: Publisher,
}
