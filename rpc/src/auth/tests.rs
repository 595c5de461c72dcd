use pregon_core::clock::{ManualClock, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::access::API;
use crate::caller::Role;
use crate::keys::Book;
use crate::tokens::{Grant, NewToken};

mod of_keys;
mod of_portal;

const GET: &str = "/pregon.v1.TenantService/GetTenant";

/// A guard of the API with a token for each role, one of them bound to `acme`.
struct World {
    guard: Guard,
    clock: Arc<ManualClock>,
    tokens: watch::Sender<Arc<Tokens>>,
    lines: Vec<String>,
    made: Vec<(Role, bool, String)>,
    book: Book,
}

fn issue(role: Role, tenants: Option<&str>, expires: Option<&str>, seed: u8) -> NewToken {
    let grant = Grant {
        name: format!("{role}-{seed}"),
        role: role.word().into(),
        tenants: tenants.map(str::to_owned),
        expires: expires.map(str::to_owned),
    };
    grant.issue(|bytes| bytes.fill(seed)).unwrap()
}

impl World {
    fn new() -> Self {
        let (mut lines, mut made) = (Vec::new(), Vec::new());
        for (seed, role) in (0..).step_by(2).zip(Role::ALL) {
            for (seed, tenants) in [(seed, None), (seed + 1, Some("acme"))] {
                let token = issue(role, tenants, None, seed);
                lines.push(token.line);
                made.push((role, tenants.is_some(), token.token.to_string()));
            }
        }
        let clock = ManualClock::at(Timestamp::parse("2026-01-01T00:00:00Z").unwrap());
        let (tokens, current) = watch::channel(Arc::new(lines.join("\n").parse().unwrap()));
        let book = Book::default();
        let portal = PortalKeys::new(vec![[9; 32].into()]);
        let credentials = Credentials { tokens: Some(current), keys: Some(book.keys()), portal };
        let guard = Guard::new(Table::api(), Some(credentials), clock.clone());
        Self { guard, clock, tokens, lines, made, book }
    }

    fn token(&self, role: Role, bound: bool) -> &str {
        &self.made.iter().find(|made| made.0 == role && made.1 == bound).unwrap().2
    }

    fn call(&self, path: &str, token: &str) -> Result<Admitted, Refusal> {
        self.guard.admit(Some(path), &mut with(&[&format!("Bearer {token}")]))
    }

    fn reload(&self, lines: &[String]) {
        self.tokens.send_replace(Arc::new(lines.join("\n").parse().unwrap()));
    }
}

fn with(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
}

fn reason(admitted: Result<Admitted, Refusal>) -> Option<Reason> {
    admitted.err().map(|refusal| refusal.reason)
}

#[test]
fn every_method_wants_what_its_line_says() {
    let world = World::new();
    for (path, access) in API {
        let stranger = reason(world.guard.admit(Some(path), &mut HeaderMap::new()));
        let wrong = reason(world.call(path, "pregon_wrong"));
        if access.who == Who::Everyone {
            assert_eq!((stranger, wrong), (None, None), "{path}");
            continue;
        }
        assert_eq!(stranger, Some(Reason::CredentialMissing), "{path}");
        assert_eq!(wrong, Some(Reason::CredentialInvalid), "{path}");
        for (role, bound, token) in &world.made {
            let large_enough = match access.who {
                Who::Role(needed) => role.covers(needed),
                Who::Everyone | Who::Known => true,
            };
            let expected = match (large_enough, bound, access.reach) {
                (false, _, _) => Some(Reason::RoleMissing),
                (true, true, Reach::All) => Some(Reason::TenantDenied),
                (true, _, _) => None,
            };
            assert_eq!(reason(world.call(path, token)), expected, "{path} {role} {bound}");
        }
    }
}

#[test]
fn of_a_probe_only_who_may_read_everything_sees_the_detail() {
    let world = World::new();
    let probe = "/grpc.health.v1.Health/Check";
    let sees = |headers: &mut HeaderMap| world.guard.admit(Some(probe), headers).unwrap().sees_all;
    assert!(!sees(&mut HeaderMap::new()) && !sees(&mut with(&["Bearer pregon_wrong"])));
    for (role, bound, token) in &world.made {
        let sees = sees(&mut with(&[&format!("Bearer {token}")]));
        assert_eq!(sees, *role != Role::Publisher && !bound, "{role} {bound}");
    }
    let open = Guard::new(Table::api(), None, world.clock.clone());
    assert!(open.admit(Some(probe), &mut HeaderMap::new()).unwrap().sees_all);
}

#[test]
fn what_is_not_listed_is_denied_to_everybody() {
    let world = World::new();
    let path = "/pregon.v1.TenantService/Forgotten";
    let admin = world.token(Role::Admin, false);
    assert_eq!(reason(world.call(path, admin)), Some(Reason::RoleMissing));
    // To a stranger it is as any other.
    let stranger = reason(world.guard.admit(Some(path), &mut HeaderMap::new()));
    assert_eq!(stranger, Some(Reason::CredentialMissing));
    let mut headers = with(&[&format!("Bearer {admin}")]);
    assert_eq!(reason(world.guard.admit(None, &mut headers)), Some(Reason::RoleMissing));

    let open = Guard::new(Table::api(), None, world.clock.clone());
    let call = |method| open.admit(method, &mut HeaderMap::new());
    assert_eq!(reason(call(Some(path))), Some(Reason::RoleMissing));
    assert!(call(None).is_ok(), "the routes say that it does not exist");
    let admitted = call(Some(GET)).unwrap();
    assert_eq!(admitted.caller, Caller::anyone());
    assert!(open.lapse(&admitted).is_none());
}

#[test]
fn only_one_bearer_token_is_a_credential() {
    let world = World::new();
    let token = world.token(Role::Viewer, false).to_owned();
    let call = |values: &[&str]| {
        let mut headers = with(values);
        let refused = reason(world.guard.admit(Some(GET), &mut headers));
        assert!(!headers.contains_key(AUTHORIZATION), "nothing behind sees it");
        refused
    };
    for good in [format!("Bearer {token}"), format!("bearer  {token} "), format!("BEARER {token}")]
    {
        assert_eq!(call(&[&good]), None, "{good}");
    }
    let good = format!("Bearer {token}");
    for bad in ["", "Bearer", "Bearer ", &token, &format!("Basic {token}"), &format!("{good}x")] {
        assert_eq!(call(&[bad]), Some(Reason::CredentialInvalid), "{bad}");
    }
    assert_eq!(call(&[&good, &good]), Some(Reason::CredentialInvalid));
    assert_eq!(call(&[&format!("Bearer {}", "x".repeat(10_000))]), Some(Reason::CredentialInvalid));
    assert_eq!(call(&[]), Some(Reason::CredentialMissing));
}

#[test]
fn a_token_lives_until_its_time_or_its_lines_end() {
    let world = World::new();
    let made = issue(Role::Viewer, None, Some("2026-01-01T00:01:00Z"), 99);
    let mut lines = world.lines.clone();
    lines.push(made.line);
    assert_eq!(reason(world.call(GET, &made.token)), Some(Reason::CredentialInvalid));
    world.reload(&lines);
    assert_eq!(reason(world.call(GET, &made.token)), None);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(reason(world.call(GET, &made.token)), Some(Reason::CredentialExpired));
    world.reload(&world.lines);
    assert_eq!(reason(world.call(GET, &made.token)), Some(Reason::CredentialInvalid));
}

#[tokio::test(start_paused = true)]
async fn a_lapse_is_reported_when_it_happens_and_not_before() {
    let world = World::new();
    let day = Duration::from_secs(86_400);
    let stays = world.call(GET, world.token(Role::Viewer, false)).unwrap();
    let mut stays = world.guard.lapse(&stays).unwrap();
    let goes = world.call(GET, world.token(Role::Admin, false)).unwrap();
    let goes = world.guard.lapse(&goes).unwrap();
    assert!(tokio::time::timeout(day, &mut stays).await.is_err());
    let rest: Vec<_> = world.lines.iter().filter(|line| !line.contains("admin")).cloned().collect();
    world.reload(&rest);
    assert_eq!(goes.await.reason, Reason::CredentialInvalid);
    assert!(tokio::time::timeout(day, &mut stays).await.is_err());

    let made = issue(Role::Viewer, None, Some("2026-01-01T00:10:00Z"), 99);
    world.reload(&[made.line]);
    assert_eq!(stays.await.reason, Reason::CredentialInvalid);
    let expires = world.call(GET, &made.token).unwrap();
    let mut expires = world.guard.lapse(&expires).unwrap();
    assert!(tokio::time::timeout(day, &mut expires).await.is_err(), "the clock stands still");
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(expires.await.reason, Reason::CredentialExpired);
}

proptest! {
    /// Whatever a header holds, it lets nobody in.
    #[test]
    fn no_other_header_is_let_in(value in "[ -~]{0,80}", scheme in "(Bearer |bearer |)") {
        let world = World::new();
        let refused = reason(world.guard.admit(Some(GET), &mut with(&[&format!("{scheme}{value}")])));
        prop_assert_eq!(refused, Some(Reason::CredentialInvalid));
    }
}
