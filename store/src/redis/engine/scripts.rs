//! The scripts of the configuration and of the nodes.

use std::sync::LazyLock;

use crate::redis::engine::script::Script;

/// What is put before each.
pub const PRELUDE: &str = include_str!("../lua/config_prelude.lua");

/// The one that raises a store to the form of this release.
pub(in crate::redis) static RAISE: LazyLock<Script> =
    LazyLock::new(|| Script::new("allow-oom", PRELUDE, include_str!("../lua/raise.lua")));

/// The one that keeps the audit log within its bounds.
pub(in crate::redis) static AUDIT_TRIM: LazyLock<Script> =
    LazyLock::new(|| Script::new("allow-oom", PRELUDE, include_str!("../lua/audit_trim.lua")));

/// As they are sent. What grows the configuration is refused when there is no memory; a node may
/// always say that it is there.
#[derive(Debug)]
pub(in crate::redis) struct Scripts {
    pub commit: Script,
    pub audit: Script,
    /// The same where there is no memory.
    pub audit_always: Script,
    pub lane: Script,
    pub setup: Script,
    pub announce: Script,
}

impl Scripts {
    /// All of them.
    pub fn new() -> Self {
        Self {
            commit: Script::new("", PRELUDE, include_str!("../lua/commit.lua")),
            audit: Script::new("", PRELUDE, include_str!("../lua/audit.lua")),
            audit_always: Script::new("allow-oom", PRELUDE, include_str!("../lua/audit.lua")),
            lane: Script::new("", PRELUDE, include_str!("../lua/lane.lua")),
            setup: Script::new("", PRELUDE, include_str!("../lua/setup.lua")),
            announce: Script::new("allow-oom", PRELUDE, include_str!("../lua/announce.lua")),
        }
    }
}
