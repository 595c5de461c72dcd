//! How long the audit log is kept.

use std::time::Duration;

use clap::Args;

use super::Wrongs;

/// The longest that an entry is kept: ten years.
const LONGEST: u64 = 3650 * 86_400;

/// This setting, as text.
#[derive(Args, Clone, Debug)]
pub(super) struct AuditArgs {
    /// How long entries of the audit log are kept, 1h to 3650d.
    ///
    /// 90d: a quarter of a year is what an investigation looks back on. Of calls that were let in
    /// 65536 entries and 64 MiB are kept at most, and as many of callers who are held to tenants; of
    /// refused ones 32768 and 16 MiB. To keep them longer, take them from the log or by OTLP.
    #[arg(long, env = "PREGON_AUDIT_RETENTION", default_value = "90d", value_name = "DURATION")]
    audit_retention: String,
}

impl AuditArgs {
    pub(super) fn read(self, wrong: &mut Wrongs) -> Duration {
        wrong.duration("--audit-retention", &self.audit_retention, 3600, LONGEST)
    }
}
