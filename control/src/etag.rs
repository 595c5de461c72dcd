//! Etags: the revision that wrote a resource last, as opaque text.

use pregon_core::error::{Reason, Refusal};

/// The etag of a resource written by this revision; empty for one that is not stored (revision 0).
pub(crate) fn of(revision: i64) -> String {
    if revision == 0 { String::new() } else { format!("r{revision:x}") }
}

/// Refuses a request whose etag is not the resource's. An empty one asks for nothing.
pub(crate) fn check(
    given: &str,
    revision: i64,
    kind: &'static str,
    name: &str,
) -> Result<(), Refusal> {
    if given.is_empty() || given == of(revision) {
        return Ok(());
    }
    let message = format!("{kind} {name} has changed since it was read; read it again");
    Err(Refusal::new(Reason::EtagMismatch, message).about(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_good_for_one_revision() {
        assert!(check("", 7, "tenant", "tenants/a").is_ok());
        assert!(check(&of(7), 7, "tenant", "tenants/a").is_ok());
        for stale in [of(6), of(70), "7".into(), "\u{e9}".into()] {
            let refusal = check(&stale, 7, "tenant", "tenants/a").unwrap_err();
            assert_eq!(refusal.reason, Reason::EtagMismatch);
        }
        assert_eq!(of(0), "");
    }
}
