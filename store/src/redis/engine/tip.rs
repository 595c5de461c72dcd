//! Where the log ended a moment ago, for all who watch it.

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::watch::Place;

/// The latest look at the marks, and when it was.
#[derive(Debug, Default)]
pub(in crate::redis) struct Tip(pub Mutex<Option<(Instant, Place)>>);
