use super::*;
use crate::id::PoolName;
use crate::url::EgressRules;

#[test]
fn documents_come_back_as_they_were_written() {
    let tenant = Resource::Tenant(Tenant {
        id: TenantId::parse("acme").unwrap(),
        common: Common { display_name: "Acme".into(), ..Common::default() },
        suspended: false,
        limits: TenantLimits::default(),
        egress: None,
        egress_rules: EgressRules::default(),
        since: None,
    });
    let Resource::Tenant(mut ruled) = tenant.clone() else { panic!("{tenant:?}") };
    ruled.egress = Some(PoolName::parse("fixed").unwrap());
    let texts = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect();
    ruled.egress_rules = EgressRules {
        allow: texts(&["*.example.com:443", "203.0.113.0/24"]),
        deny: texts(&["[2001:db8::/32]:8000-8999"]),
    };
    let ruled = Resource::Tenant(ruled);
    assert_eq!(Resource::decode(&ruled.name(), &ruled.encode()), Ok(ruled));
    let name = tenant.name();
    assert_eq!(name.to_string(), "tenants/acme");
    assert_eq!(ResourceName::parse("tenants/acme"), Some(name.clone()));
    assert_eq!(Resource::decode(&name, &tenant.encode()), Ok(tenant));
    assert!(Resource::decode(&name, b"{}").unwrap_err().to_string().contains("tenants/acme"));
    assert_eq!(ResourceName::parse("robots/r2d2"), None);
}

#[test]
fn names_show_their_kinds() {
    for name in [
        "tenants/a",
        "eventTypes/order.captured",
        "contracts/mine",
        "tenants/a/subscriptions/b",
        "tenants/a/callbacks/b",
        "tenants/a/subscriptions/b/secrets/k",
        "tenants/a/callbacks/b/secrets/k",
    ] {
        let parsed = ResourceName::parse(name);
        assert_eq!(parsed.map(|parsed| parsed.to_string()).as_deref(), Some(name));
    }
    assert_eq!(ResourceName::parse("tenants/a/children"), None);
    assert_eq!(ResourceName::parse("tenants/a/robots/b"), None);
}

#[test]
fn a_secret_names_its_signer_whatever_release_wrote_it() {
    let read = |field: &str, signer: &str| {
        let text = format!(
            r#"{{"{field}":{signer},"id":"k","create_time":0,"update_time":0,
            "algorithm":"HMAC","sealed":"","fingerprint":"","activate_time":0}}"#
        );
        let secret: Secret = serde_json::from_str(&text).unwrap();
        secret.name().to_string()
    };
    let subscription = r#"{"tenant":"a","subscription":"b"}"#;
    for field in ["signer", "subscription"] {
        assert_eq!(read(field, subscription), "tenants/a/subscriptions/b/secrets/k");
    }
    let callback = r#"{"tenant":"a","callback":"b"}"#;
    assert_eq!(read("signer", callback), "tenants/a/callbacks/b/secrets/k");
}

#[test]
fn a_secret_signs_from_its_activation_up_to_its_end() {
    let at = |s: i64| Timestamp::from_millis(s * 1000);
    let mut secret = Secret {
        signer: SubscriptionName::parse("tenants/a/subscriptions/b").unwrap().into(),
        id: SecretId::parse("k").unwrap(),
        common: Common::default(),
        algorithm: SecretAlgorithm::Hmac,
        sealed: String::new(),
        fingerprint: String::new(),
        activate_time: at(10),
        expire_time: Some(at(20)),
        revoke_time: None,
    };
    let states = [9, 10, 19, 20].map(|s| secret.state(at(s)));
    use SecretState::{Active, Expired, Scheduled};
    assert_eq!(states, [Scheduled, Active, Active, Expired]);
    secret.revoke_time = Some(at(11));
    assert_eq!(secret.state(at(12)), SecretState::Revoked);
}
