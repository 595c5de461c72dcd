use pregon_core::clock::SystemClock;
use tokio::time::advance;

use super::*;

fn refusals() -> Refusals {
    Refusals::new(Arc::new(SystemClock))
}

fn from(refusals: &Refusals, peer: &str, method: &str) -> Origin {
    Origin::new(Some(refusals.clone()), Some(method), Some(peer.parse().unwrap()), None)
}

fn missing() -> Status {
    crate::status::status(Refusal::new(Reason::CredentialMissing, "none"))
}

/// How many calls these entries tell of.
fn told(entries: &[AuditEntry]) -> u64 {
    entries.iter().map(|entry| 1 + entry.suppressed).sum()
}

#[tokio::test(start_paused = true)]
async fn a_flood_makes_two_entries_a_minute_that_count_every_call() {
    let refusals = refusals();
    for _ in 0..1000 {
        from(&refusals, "192.0.2.1:9", "/a.B/C").ended(&missing());
    }
    let first = refusals.next().await;
    assert_eq!((first.len(), told(&first)), (1, 1));
    assert_eq!((first[0].code.as_str(), first[0].method.as_str()), ("UNAUTHENTICATED", "a.B/C"));
    advance(WINDOW).await;
    let second = refusals.next().await;
    assert_eq!((second.len(), told(&second)), (1, 999));
    // Once it is quiet, it begins anew.
    from(&refusals, "192.0.2.1:9", "/a.B/C").ended(&missing());
    assert_eq!(told(&refusals.next().await), 1);
    assert_eq!(refusals.rest(), []);
}

#[tokio::test(start_paused = true)]
async fn a_call_after_its_window_tells_of_those_before() {
    let refusals = refusals();
    let call = || from(&refusals, "[2001:db8::1]:9", "/a.B/C").ended(&missing());
    for _ in 0..5 {
        call();
    }
    advance(WINDOW).await;
    call();
    let entries = refusals.rest();
    assert_eq!(entries.iter().map(|it| it.suppressed).collect::<Vec<_>>(), [0, 4]);
}

#[tokio::test(start_paused = true)]
async fn many_peers_and_methods_make_no_more_than_their_share() {
    let refusals = refusals();
    let calls = 3 * KINDS;
    for n in 0..calls {
        let peer = format!("192.0.{}.{}:9", n / 256, n % 256);
        from(&refusals, &peer, "/a.B/C").ended(&missing());
    }
    assert!(refusals.state().windows.len() <= KINDS);
    let mut entries = refusals.next().await;
    assert_eq!(entries.len(), ENTRIES);
    advance(WINDOW).await;
    entries.extend(refusals.next().await);
    entries.extend(refusals.rest());
    assert_eq!(entries.len(), ENTRIES + 1);
    assert_eq!(told(&entries), calls as u64);
    // What is beyond blames nobody: it is of many addresses.
    let beyond = &entries[ENTRIES];
    let said = [&beyond.actor.id, &beyond.peer, &beyond.method, &beyond.code, &beyond.reason];
    assert_eq!(said, [""; 5]);
    assert_eq!(beyond.suppressed, (calls - ENTRIES) as u64 - 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_and_alike_says_who_it_was() {
    let refusals = refusals();
    let call = |n: usize| {
        let origin = from(&refusals, "192.0.2.1:1", "/a.B/C");
        origin.know(&Caller::new(&format!("ci-{n}"), crate::caller::Role::Viewer, None));
        origin.ended(&crate::status::status(Refusal::new(Reason::RoleMissing, "no")));
    };
    (0..ENTRIES).for_each(call);
    (0..3).for_each(|_| call(ENTRIES));
    let entries = refusals.rest();
    assert_eq!(told(&entries), ENTRIES as u64 + 3);
    let last = format!("ci-{ENTRIES}");
    let of_last: Vec<_> = entries.iter().filter(|it| it.actor.id == last).cloned().collect();
    assert_eq!(told(&of_last), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_alike_is_one_caller_one_method_one_reason() {
    let refusals = refusals();
    from(&refusals, "[2001:db8::1]:9", "/a.B/C").ended(&missing());
    from(&refusals, "[2001:db8::2]:10", "/a.B/C").ended(&missing()); // the same network
    from(&refusals, "[2001:db8:0:1::1]:9", "/a.B/C").ended(&missing());
    from(&refusals, "[2001:db8::1]:9", "/a.B/D").ended(&missing());
    let invalid = crate::status::status(Refusal::new(Reason::CredentialInvalid, "unknown"));
    from(&refusals, "[2001:db8::1]:9", "/a.B/C").ended(&invalid);
    assert_eq!(refusals.next().await.len(), 4);
    // A caller that is known is one wherever it calls from.
    for peer in ["192.0.2.1:1", "192.0.2.2:1"] {
        let origin = from(&refusals, peer, "/a.B/C");
        origin.know(&Caller::new("ci", crate::caller::Role::Viewer, None));
        origin.ended(&crate::status::status(Refusal::new(Reason::RoleMissing, "no")));
    }
    let entries = refusals.next().await;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].actor.kind, entries[0].actor.id.as_str()), (ActorKind::Token, "ci"));
}

#[tokio::test(start_paused = true)]
async fn only_refusals_of_the_caller_are_noted() {
    let refusals = refusals();
    let origin = from(&refusals, "192.0.2.1:9", "/a.B/C");
    for reason in [Reason::LoadShed, Reason::QuotaExceeded, Reason::FieldsInvalid] {
        let refusal = Refusal::new(reason, "no");
        origin.refused(&refusal, "tenants/a");
        origin.ended(&crate::status::status(refusal));
    }
    assert_eq!(refusals.rest(), []);
    // One call has events of several resources; each refusal says which.
    origin.refused(&Refusal::new(Reason::RateLimited, "slow"), "tenants/a");
    origin.refused(&Refusal::new(Reason::TenantDenied, "no"), "tenants/b");
    let entries = refusals.rest();
    let named: Vec<_> = entries.iter().map(|it| it.resource.as_str()).collect();
    assert_eq!(named, ["tenants/a", "tenants/b"]);
    assert_eq!(entries[0].code, "RESOURCE_EXHAUSTED");
}
