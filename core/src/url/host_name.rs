//! What a host's name may look like.

/// Longest host name, in bytes (RFC 1035 section 2.3.4, as text without the root's full stop).
const HOST_LEN: usize = 253;
/// Longest label of a host name, in bytes (RFC 1035 section 2.3.4).
const LABEL_LEN: usize = 63;

/// Whether a name can be looked up: labels of 1 to 63 bytes, and perhaps a full stop for the root.
pub(super) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= HOST_LEN && name.split('.').all(|label| (1..=LABEL_LEN).contains(&label.len()))
}
