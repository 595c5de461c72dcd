//! Roles, tenants and rights of callers.

use super::*;

#[test]
fn roles_include_each_other_in_a_line_beside_which_the_publisher_stands() {
    use Role::{Admin, Auditor, Operator, Publisher, TenantManager, Viewer};
    let line = [Auditor, Viewer, TenantManager, Operator, Admin];
    for (ours, role) in line.iter().enumerate() {
        for (theirs, needed) in line.iter().enumerate() {
            assert_eq!(role.covers(*needed), ours >= theirs, "{role} {needed}");
        }
        assert!(!role.covers(Publisher) && !Publisher.covers(*role));
    }
    assert!(Publisher.covers(Publisher));
    assert!(Role::ALL.iter().all(|role| Role::parse(role.word()) == Some(*role)));
    assert_eq!(Role::parse("Admin"), None);
}

#[test]
fn a_bound_caller_touches_its_tenants_and_nothing_else() {
    let tenants = BTreeSet::from([TenantId::parse("acme").unwrap()]);
    let caller = Caller::new("ci", Role::Operator, Some(tenants));
    for mine in ["tenants/acme", "tenants/acme/", "tenants/acme/subscriptions/s"] {
        assert!(caller.may_touch_named(mine).is_ok(), "{mine}");
    }
    for other in [
        "",
        "acme",
        "tenants",
        "tenants/",
        "tenants/-",
        "tenants/ac",
        "tenants/acme2/subscriptions/acme",
        "tenants/ACME",
        "/tenants/acme",
        "eventTypes/acme",
    ] {
        let refused = caller.may_touch_named(other).unwrap_err();
        assert_eq!(refused.reason, Reason::TenantDenied, "{other}");
        assert!(Caller::stranger().may_touch_named(other).is_err());
        assert!(Caller::anyone().may_touch_named(other).is_ok());
    }
}

#[test]
fn payloads_are_read_by_who_may_have_events_sent_to_itself() {
    for role in Role::ALL {
        let reads = matches!(role, Role::Admin | Role::Operator | Role::TenantManager);
        assert_eq!(Caller::new("ci", role, None).reads_payloads(), reads, "{role}");
    }
    assert!(Caller::anyone().reads_payloads() && !Caller::stranger().reads_payloads());
}
