//! Portal tokens reach their tenant and no credentials, and end with whoever had them made.

use pregon_core::clock::Clock as _;
use pregon_core::id::TenantId;
use pregon_core::model::ApiKey;

use super::of_keys::key;
use super::*;
use crate::portal::{Grant, Maker, PortalKeys};

fn sealed(grant: &Grant) -> String {
    PortalKeys::new(vec![[9; 32].into()]).seal(grant).unwrap().to_string()
}

fn grant(role: Role, maker: Maker) -> Grant {
    Grant {
        tenant: TenantId::parse("acme").unwrap(),
        role: role.word().to_owned(),
        user: "jane@acme".to_owned(),
        end: Timestamp::parse("2026-01-01T01:00:00Z").unwrap(),
        maker,
    }
}

fn of_key(role: Role, id: &str) -> Grant {
    grant(role, Maker::Key(ApiKeyId::parse(id).unwrap()))
}

#[test]
fn every_method_wants_of_a_portal_token_what_its_line_says() {
    let world = World::new();
    let (document, _) = key("backend", Role::TenantManager, false);
    world.book.replace([&document]);
    for role in [Role::TenantManager, Role::Viewer, Role::Auditor] {
        let token = sealed(&of_key(role, "backend"));
        for (path, access) in API {
            let large_enough = match access.who {
                Who::Role(needed) => role.covers(needed),
                Who::Everyone | Who::Known => true,
            };
            let expected = match (access.who, large_enough, access.reach) {
                (Who::Everyone, ..) => None,
                (_, false, _) | (_, true, Reach::Credentials) => Some(Reason::RoleMissing),
                (_, true, Reach::All) => Some(Reason::TenantDenied),
                (_, true, Reach::Named | Reach::Shared) => None,
            };
            assert_eq!(reason(world.call(path, &token)), expected, "{path} {role}");
        }
        let caller = world.call(GET, &token).unwrap().caller;
        assert_eq!(&**caller.actor(), "tenants/acme/portal/jane@acme");
        assert_eq!(&**caller.share(), "tenants/acme/portal");
        assert!(caller.may_touch_named("tenants/acme/subscriptions/s").is_ok());
        assert!(caller.may_touch_named("tenants/other").is_err());
        assert_eq!(caller.end(), Some(Timestamp::parse("2026-01-01T01:00:00Z").unwrap()));
    }
}

#[test]
fn a_portal_token_is_good_while_it_could_be_made() {
    let world = World::new();
    let (document, _) = key("backend", Role::TenantManager, true);
    world.book.replace([&document]);
    let id = document.id.clone();
    let token = sealed(&of_key(Role::Viewer, "backend"));
    assert_eq!(reason(world.call(GET, &token)), None);
    type Spoil = fn(&mut ApiKey);
    let spoils: [(Spoil, Reason); 4] = [
        (|key| key.role = "viewer".into(), Reason::CredentialRevoked),
        (
            |key| key.tenants = Some([TenantId::parse("b").unwrap()].into()),
            Reason::CredentialRevoked,
        ),
        (|key| key.revoked = true, Reason::CredentialRevoked),
        (|key| key.expire_time = Some(Timestamp::MIN), Reason::CredentialExpired),
    ];
    for (spoil, expected) in spoils {
        let mut other = document.clone();
        spoil(&mut other);
        world.book.change(vec![(id.clone(), Some(other))]);
        assert_eq!(reason(world.call(GET, &token)), Some(expected));
    }
    world.book.change(vec![(id.clone(), None)]);
    assert_eq!(reason(world.call(GET, &token)), Some(Reason::CredentialInvalid));
    world.book.change(vec![(id, Some(document))]);
    assert_eq!(reason(world.call(GET, &token)), None);
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(reason(world.call(GET, &token)), Some(Reason::CredentialExpired));

    // By the tokens file: a name of a line that could make it.
    let world = World::new();
    let by = |name: &str| sealed(&grant(Role::Viewer, Maker::Token(name.to_owned())));
    assert_eq!(reason(world.call(GET, &by("admin-0"))), None);
    assert_eq!(reason(world.call(GET, &by("viewer-8"))), Some(Reason::CredentialRevoked));
    assert_eq!(reason(world.call(GET, &by("nobody"))), Some(Reason::CredentialRevoked));
    let strange = sealed(&grant(Role::Viewer, Maker::Anyone));
    assert_eq!(reason(world.call(GET, &strange)), Some(Reason::CredentialInvalid));
}

#[test]
fn a_portal_token_counts_against_the_limits_of_its_maker() {
    let world = World::new();
    let (mut document, secret) = key("slow", Role::TenantManager, false);
    document.limits.calls_per_second = 1;
    world.book.replace([&document]);
    assert_eq!(reason(world.call(GET, &secret.key)), None);
    let token = sealed(&of_key(Role::Viewer, "slow"));
    assert_eq!(reason(world.call(GET, &token)), Some(Reason::RateLimited));
}

#[tokio::test(start_paused = true)]
async fn the_lapse_of_a_portal_token_is_told() {
    let world = World::new();
    let (mut document, _) = key("backend", Role::TenantManager, false);
    world.book.replace([&document]);
    let lapse = |token: &str| {
        let admitted = world.call(GET, token).unwrap();
        world.guard.lapse(&admitted).unwrap()
    };
    let revoked = lapse(&sealed(&of_key(Role::Viewer, "backend")));
    let mut by_file = lapse(&sealed(&grant(Role::Viewer, Maker::Token("admin-0".into()))));
    document.revoke_time = Some(world.clock.now());
    world.book.replace([&document]);
    assert_eq!(revoked.await.reason, Reason::CredentialRevoked);
    let day = Duration::from_secs(86_400);
    assert!(tokio::time::timeout(day, &mut by_file).await.is_err());
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(by_file.await.reason, Reason::CredentialExpired);
}
