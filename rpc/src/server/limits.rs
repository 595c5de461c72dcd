//! How much a server takes on.

use std::time::Duration;

/// How much a server takes on. The defaults suit a server with a GiB of memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; one more takes the place of a stranger, or is closed when it comes.
    /// Each costs some 100 KiB when busy.
    pub connections: usize,
    /// Calls at once on one connection; a client waits with one more, it does not fail.
    pub calls_per_connection: u32,
    /// Calls at once on all connections; one more is shed with LOAD_SHED.
    pub calls: usize,
    /// Bytes of answers that one connection's peer has not taken yet; a call waits for more room.
    pub unsent_per_connection: usize,
    /// Bytes of answers that nobody has taken yet, on all connections.
    pub unsent: usize,
    /// Bytes of large messages that one connection's peer has begun, and that are not answered yet;
    /// one more is not read. Beside them, 64 KiB of each call may lie unread.
    pub arriving_per_connection: usize,
    /// The same, on all connections.
    pub arriving: usize,
    /// How long calls under way may go on when the server is to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            calls_per_connection: 128,
            calls: 4096,
            unsent_per_connection: 16 << 20,
            unsent: 256 << 20,
            arriving_per_connection: 16 << 20,
            arriving: 256 << 20,
            drain: Duration::from_secs(20),
        }
    }
}
