//! API keys are held to the same table as tokens, and to what they say besides.

use std::collections::BTreeSet;

use pregon_core::clock::Clock as _;
use pregon_core::id::{EventTypeId, TenantId};
use pregon_core::model::{ApiKey, ApiKeyLimits, ApiKeySecret, ApiKeyState, Common};

use super::*;
use crate::keys::{NewSecret, caller, new_secret};

const START: &str = "2026-01-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A key of a role, for `acme` only where it is bound.
pub(super) fn key(id: &str, role: Role, bound: bool) -> (ApiKey, NewSecret) {
    let id = ApiKeyId::parse(id).unwrap();
    let made = new_secret(&id, |bytes| getrandom(bytes, id.as_str()));
    let secret =
        ApiKeySecret { sha256: made.sha256.clone(), create_time: at(START), expire_time: None };
    let key = ApiKey {
        id,
        common: Common::default(),
        role: role.word().to_owned(),
        tenants: bound.then(|| BTreeSet::from([TenantId::parse("acme").unwrap()])),
        event_types: Vec::new(),
        environment: None,
        limits: ApiKeyLimits::default(),
        secrets: vec![secret],
        expire_time: None,
        revoke_time: None,
        revoked: false,
        creator: String::new(),
        share: String::new(),
    };
    (key, made)
}

/// Bytes that are others for each id.
fn getrandom(bytes: &mut [u8], id: &str) {
    for (byte, c) in bytes.iter_mut().zip(id.bytes().cycle()) {
        *byte = c;
    }
}

#[test]
fn every_method_wants_of_a_key_what_its_line_says() {
    let world = World::new();
    let unread = key("unread", Role::Admin, false).1.key;
    assert_eq!(reason(world.call(GET, &unread)), Some(Reason::NotReady), "nobody knows yet");

    let (mut keys, mut made) = (Vec::new(), Vec::new());
    for (n, role) in Role::ALL.into_iter().enumerate() {
        for bound in [false, true] {
            let (document, secret) = key(&format!("k{n}{bound}"), role, bound);
            keys.push(document);
            made.push((role, bound, secret.key));
        }
    }
    let (mut expired, of_expired) = key("expired", Role::Admin, false);
    expired.expire_time = Some(at(START));
    let (mut revoked, of_revoked) = key("revoked", Role::Admin, false);
    revoked.revoke_time = Some(at(START));
    keys.extend([expired, revoked]);
    world.book.replace(&keys);
    let forged = format!("{}x", made[0].2.as_str());
    for (path, access) in API {
        let refused = |key: &str| reason(world.call(path, key));
        if access.who == Who::Everyone {
            assert_eq!(refused(&forged), None, "{path}");
            continue;
        }
        assert_eq!(refused(&unread), Some(Reason::CredentialInvalid), "{path}");
        assert_eq!(refused(&forged), Some(Reason::CredentialInvalid), "{path}");
        assert_eq!(refused(&of_expired.key), Some(Reason::CredentialExpired), "{path}");
        assert_eq!(refused(&of_revoked.key), Some(Reason::CredentialRevoked), "{path}");
        for (role, bound, key) in &made {
            let large_enough = match access.who {
                Who::Role(needed) => role.covers(needed),
                Who::Everyone | Who::Known => true,
            };
            let expected = match (large_enough, bound, access.reach) {
                (false, _, _) => Some(Reason::RoleMissing),
                (true, true, Reach::All) => Some(Reason::TenantDenied),
                (true, _, _) => None,
            };
            assert_eq!(refused(key), expected, "{path} {role} {bound}");
        }
    }
    let bound = world.call(GET, &made[1].2).unwrap().caller;
    assert!(bound.may_touch_named("tenants/acme").is_ok());
    let other = bound.may_touch_named("tenants/other").unwrap_err();
    assert_eq!(other.reason, Reason::TenantDenied);
}

#[test]
fn what_cannot_be_read_lets_nobody_in() {
    let world = World::new();
    let (good, secret) = key("good", Role::Viewer, false);
    let id = good.id.clone();
    world.book.replace([&good]);
    assert_eq!(reason(world.call(GET, &secret.key)), None);
    for spoil in [
        |key: &mut ApiKey| key.role = "boss".into(),
        |key: &mut ApiKey| key.event_types = vec!["a.*.b*".into()],
        |key: &mut ApiKey| key.secrets[0].sha256 = "5f".into(),
    ] {
        let mut bad = good.clone();
        spoil(&mut bad);
        world.book.change(vec![(id.clone(), Some(bad))]);
        assert_eq!(reason(world.call(GET, &secret.key)), Some(Reason::CredentialInvalid));
        world.book.change(vec![(id.clone(), Some(good.clone()))]);
        assert_eq!(reason(world.call(GET, &secret.key)), None);
    }
    world.book.change(vec![(id, None)]);
    assert_eq!(reason(world.call(GET, &secret.key)), Some(Reason::CredentialInvalid));
    let shown = format!("{secret:?} {good:?}");
    assert!(!shown.contains(secret.key.as_str()), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn an_old_secret_is_valid_until_its_end_and_the_lapse_is_told() {
    let world = World::new();
    let (mut document, old) = key("rotated", Role::Viewer, false);
    world.book.replace([&document]);
    let admitted = world.call(GET, &old.key).unwrap();
    let mut lapse = world.guard.lapse(&admitted).unwrap();
    let new = new_secret(&document.id, |bytes| bytes.fill(7));
    document.secrets[0].expire_time = Some(at("2026-01-01T00:01:00Z"));
    let create_time = at(START);
    let sha256 = new.sha256.clone();
    document.secrets.push(ApiKeySecret { sha256, create_time, expire_time: None });
    world.book.change(vec![(document.id.clone(), Some(document.clone()))]);
    assert_eq!(reason(world.call(GET, &new.key)), None);
    assert_eq!(reason(world.call(GET, &old.key)), None);
    let hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, &mut lapse).await.is_err(), "the clock stands still");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(lapse.await.reason, Reason::CredentialExpired);
    assert_eq!(reason(world.call(GET, &old.key)), Some(Reason::CredentialExpired));

    let admitted = world.call(GET, &new.key).unwrap();
    let lapse = world.guard.lapse(&admitted).unwrap();
    document.revoke_time = Some(world.clock.now());
    world.book.change(vec![(document.id.clone(), Some(document))]);
    assert_eq!(lapse.await.reason, Reason::CredentialRevoked);
}

#[test]
fn what_was_revoked_is_so_for_a_clock_that_is_behind() {
    let world = World::new();
    let (mut document, secret) = key("revoked", Role::Viewer, false);
    document.revoke_time = Some(at("2026-01-01T00:01:00Z"));
    world.book.replace([&document]);
    assert_eq!(reason(world.call(GET, &secret.key)), None, "it is to be, later");
    document.revoked = true;
    world.book.replace([&document]);
    assert_eq!(reason(world.call(GET, &secret.key)), Some(Reason::CredentialRevoked));
    assert_eq!(document.state(world.clock.now()), ApiKeyState::Revoked);
}

#[test]
fn a_caller_knows_the_end_and_the_limits_of_its_credential() {
    let world = World::new();
    let (mut document, secret) = key("ends", Role::Viewer, false);
    let end = |world: &World| world.call(GET, &secret.key).unwrap().caller.end();
    world.book.replace([&document]);
    assert_eq!(end(&world), None);
    let (early, late) = (at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z"));
    document.expire_time = Some(late);
    document.secrets[0].expire_time = Some(early);
    document.limits.calls_per_second = 9;
    world.book.replace([&document]);
    assert_eq!(end(&world), Some(early));
    let caller = world.call(GET, &secret.key).unwrap().caller;
    assert_eq!(caller.limits(), document.limits);

    let token = issue(Role::Viewer, None, Some("2026-01-03T00:00:00Z"), 99);
    world.reload(std::slice::from_ref(&token.line));
    assert_eq!(world.call(GET, &token.token).unwrap().caller.end(), Some(late));
}

#[test]
fn keys_have_the_share_that_they_say() {
    let (mut first, _) = key("first", Role::Viewer, true);
    let own = caller(&first).unwrap();
    assert_eq!((&**own.share(), own.share()), ("apiKeys/first", own.actor()));
    first.share = "apiKeys/maker".into();
    let made = caller(&first).unwrap();
    assert_eq!((&**made.actor(), &**made.share()), ("apiKeys/first", "apiKeys/maker"));
}

#[tokio::test(start_paused = true)]
async fn limits_hold_from_one_version_of_a_key_to_the_next() {
    let world = World::new();
    let (mut document, secret) = key("limited", Role::Publisher, false);
    document.limits =
        ApiKeyLimits { calls_per_second: 2, events_per_second: 1, bytes_per_second: 1024 };
    document.event_types = vec!["order.*".into()];
    world.book.replace([&document]);
    let publish = "/pregon.v1.EventService/Publish";
    let call = || world.call(publish, &secret.key);
    let caller = call().unwrap().caller;
    let kind = |text: &str| EventTypeId::parse(text).unwrap();
    assert!(caller.may_publish(&kind("order.paid")).is_ok());
    let denied = caller.may_publish(&kind("user.created")).unwrap_err();
    assert_eq!(denied.reason, Reason::EventTypeDenied);
    assert!(call().is_ok());
    world.book.change(vec![(document.id.clone(), Some(document))]);
    let refused = call().err().unwrap();
    assert_eq!(refused.refusal.reason, Reason::RateLimited);
    assert!(refused.refusal.message.contains("limits.calls_per_second of apiKeys/limited is 2"));
    assert_eq!(refused.refusal.retry_after, Some(Duration::from_millis(500)));
    assert!(caller.count_event(4096).is_ok());
    let refused = caller.count_event(1).unwrap_err();
    assert!(refused.message.contains("limits.events_per_second"), "{}", refused.message);
    tokio::time::advance(Duration::from_secs(1)).await;
    let refused = caller.count_event(1).unwrap_err();
    assert!(refused.message.contains("limits.bytes_per_second"), "{}", refused.message);
    assert!(call().is_ok());
}
