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
        since: Timestamp::parse("2025-01-01T00:00:00Z").unwrap(),
        role: role.word().to_owned(),
        user: "jane@acme".to_owned(),
        end: Timestamp::parse("2026-01-01T01:00:00Z").unwrap(),
        maker,
    }
}

/// By the secret of a key that [`key`] makes.
fn of_key(role: Role, id: &str) -> Grant {
    let secret = key(id, Role::Admin, false).1.sha256;
    grant(role, Maker::Key { id: ApiKeyId::parse(id).unwrap(), secret })
}

/// By a line of the tokens file.
fn of_line(world: &World, maker: Role) -> Grant {
    let line = world.lines.iter().find(|line| line.contains(&format!("name={maker}-"))).unwrap();
    let hash = line.split_whitespace().find_map(|field| field.strip_prefix("sha256="));
    grant(Role::Viewer, Maker::Token(hash.unwrap().to_owned()))
}

/// Methods of the API that a portal token never calls, whatever its role.
const CLOSED: [&str; 9] = [
    "/pregon.v1.ApiKeyService/CreateApiKey",
    "/pregon.v1.ApiKeyService/GetApiKey",
    "/pregon.v1.ApiKeyService/ListApiKeys",
    "/pregon.v1.ApiKeyService/RotateApiKey",
    "/pregon.v1.ApiKeyService/RevokeApiKey",
    "/pregon.v1.ApiKeyService/CreatePortalToken",
    "/pregon.v1.AuditLogService/ListAuditEntries",
    "/pregon.v1.TenantService/ListTenants",
    "/pregon.v1.NodeService/ListNodes",
];

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
        assert_eq!(&**caller.share(), "apiKeys/backend", "a manager makes for itself");
        for path in CLOSED {
            assert!(reason(world.call(path, &token)).is_some(), "{path}");
        }
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

    // By the tokens file: of a line that could make it, and is there.
    let world = World::new();
    let call = |grant: &Grant| world.call(GET, &sealed(grant));
    let admitted = call(&of_line(&world, Role::Admin)).unwrap();
    assert_eq!(&**admitted.caller.share(), "tenants/acme/portal");
    let refused = call(&of_line(&world, Role::Viewer)).err().unwrap();
    assert_eq!(refused.refusal.reason, Reason::CredentialRevoked);
    let who = refused.caller.unwrap();
    assert_eq!(&**who.actor(), "tenants/acme/portal/jane@acme", "the log knows who it was");
    let gone = grant(Role::Viewer, Maker::Token("5f".repeat(32)));
    assert_eq!(reason(call(&gone)), Some(Reason::CredentialRevoked));
    let strange = grant(Role::Viewer, Maker::Anyone);
    assert_eq!(reason(call(&strange)), Some(Reason::CredentialInvalid));
}

#[test]
fn a_portal_token_goes_with_the_secret_that_made_it() {
    let world = World::new();
    let (mut document, _) = key("backend", Role::Operator, false);
    world.book.replace([&document]);
    let token = sealed(&of_key(Role::Viewer, "backend"));
    assert_eq!(&**world.call(GET, &token).unwrap().caller.share(), "tenants/acme/portal");
    let new = crate::keys::new_secret(&document.id, |bytes| bytes.fill(7));
    let end = world.clock.now().plus(Duration::from_secs(60));
    document.secrets[0].expire_time = Some(end);
    let newer = pregon_core::model::ApiKeySecret {
        sha256: new.sha256,
        create_time: world.clock.now(),
        expire_time: None,
    };
    document.secrets.push(newer);
    world.book.replace([&document]);
    assert_eq!(world.call(GET, &token).unwrap().caller.end(), Some(end), "while it overlaps");
    document.secrets.remove(0);
    world.book.replace([&document]);
    assert_eq!(reason(world.call(GET, &token)), Some(Reason::CredentialRevoked));
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
    let mut by_file = lapse(&sealed(&of_line(&world, Role::Admin)));
    document.revoke_time = Some(world.clock.now());
    world.book.replace([&document]);
    assert_eq!(revoked.await.reason, Reason::CredentialRevoked);
    let day = Duration::from_secs(86_400);
    assert!(tokio::time::timeout(day, &mut by_file).await.is_err());
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(by_file.await.reason, Reason::CredentialExpired);
}
