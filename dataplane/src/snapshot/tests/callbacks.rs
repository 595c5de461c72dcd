//! Callbacks and credentials.

use pregon_core::contract::Verdict;
use pregon_core::id::CallbackName;
use pregon_core::model::{Auth, Callback, CallbackState, HeaderText};

use super::*;
use crate::testing::documents::{callback, callback_secret, contract, sealed, sealed_as};

const NAME: &str = "tenants/acme/callbacks/auth";

fn auth() -> Callback {
    callback("acme", "auth", "https://acme.example/ask")
}

fn entry(snapshot: &Snapshot) -> Option<&Arc<CallbackEntry>> {
    snapshot.callback(&CallbackName::parse(NAME).unwrap())
}

fn keys(snapshot: &Snapshot) -> Vec<String> {
    entry(snapshot).unwrap().keys.iter().map(|key| key.id().to_string()).collect()
}

#[tokio::test]
async fn a_callback_comes_and_goes_with_its_keys() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.push(Resource::Callback(auth()));
    resources.extend(["k1", "k2"].map(|id| Resource::Secret(callback_secret(&auth(), id))));
    let snapshot = running.write(&resources).await;
    assert_eq!(keys(&snapshot), ["k2", "k1"]);
    assert_eq!(entry(&snapshot).unwrap().revision, snapshot.revision());
    let mut revoked = callback_secret(&auth(), "k2");
    revoked.revoke_time = Some(Timestamp::from_millis(1));
    assert_eq!(keys(&*running.write(&[Resource::Secret(revoked)]).await), ["k1"]);
    let changed = Callback { state: CallbackState::Paused, ..auth() };
    let snapshot = running.write(&[Resource::Callback(changed)]).await;
    assert_eq!(entry(&snapshot).unwrap().state, CallbackState::Paused);
    assert_eq!(keys(&snapshot), ["k1"]);
    let gone = running.delete(NAME).await;
    assert!(entry(&gone).is_none());
    assert!(gone.tenant(&TenantId::parse("acme").unwrap()).is_some());
    // Its secret came before it: it waits, as a subscription's does.
    let key = Resource::Secret(callback_secret(&auth(), "k3"));
    running.write(&[key]).await;
    assert_eq!(keys(&*running.write(&[Resource::Callback(auth())]).await), ["k3"]);
}

#[tokio::test]
async fn a_callback_follows_its_contract_and_keeps_its_last_good_version() {
    let running = Running::start(Arc::default());
    let ours = Callback { contract: pregon_core::id::ContractId::parse("mine").unwrap(), ..auth() };
    let mut resources = base();
    resources.push(Resource::Callback(ours.clone()));
    assert!(entry(&*running.write(&resources).await).is_none(), "it waits for its contract");
    let snapshot = running.write(&[contract("mine", "body: 1")]).await;
    assert_eq!(entry(&snapshot).unwrap().contract.revision(), snapshot.revision());
    let snapshot = running.write(&[contract("mine", "body: 2")]).await;
    assert_eq!(entry(&snapshot).unwrap().contract.revision(), snapshot.revision());

    let place = entry(&snapshot).unwrap().take_place().unwrap();
    let bad = [
        Callback { verdict: "response.(".into(), ..ours.clone() },
        Callback { url: "nowhere".into(), ..ours.clone() },
        Callback { headers: vec![("a b".into(), "".into())], ..ours.clone() },
    ];
    for (bad, why) in bad.into_iter().zip(["verdict: ", "url: ", "headers[0]: "]) {
        running.write(&[Resource::Callback(bad)]).await;
        let refused = running.configuration.refused();
        assert_eq!(refused[0].resource, NAME);
        assert!(refused[0].reason.starts_with(why), "{}", refused[0].reason);
    }
    let good = Resource::Secret(callback_secret(&ours, "k1"));
    running.write(&[good]).await;
    running.store.trim(true);
    let mut one = ours;
    one.max_concurrency = 1;
    let snapshot = running.write(&[sub("acme", 1, &["*"])]).await;
    let kept = entry(&snapshot).unwrap();
    assert_eq!((kept.url.as_str(), keys(&snapshot).len()), ("https://acme.example/ask", 1));
    assert!(kept.verdict.is_none());
    // What is in flight is counted over all of that.
    let verdict = "response.status == 200";
    one.verdict = verdict.into();
    let snapshot = running.write(&[Resource::Callback(one)]).await;
    let now = entry(&snapshot).unwrap();
    assert_eq!(now.verdict, Some(Verdict::compile(verdict).unwrap()));
    assert!(now.take_place().is_none());
    drop(place);
    assert!(now.take_place().is_some());
}

#[tokio::test]
async fn credentials_are_opened_once_and_shown_to_nobody() {
    let running = Running::start(Arc::default());
    let mut ours = subscription("acme", 1, &["*"]);
    let token = sealed(&ours.name(), "t0ken");
    ours.auth = Auth::Bearer { token: token.clone() };
    ours.headers = vec![("x-own".into(), "1".into()), ("cookie".into(), "c00kie".into())];
    let hidden = sealed_as("s3aled", &HeaderText::binding(&ours.name(), "X-Partner"));
    ours.headers.push(("x-partner".into(), HeaderText::Sealed { sealed: hidden }));
    let mut theirs = subscription("acme", 2, &["*"]);
    theirs.auth = Auth::Bearer { token };
    let mut resources = base();
    resources.extend([ours.clone(), theirs].map(Resource::Subscription));
    let snapshot = running.write(&resources).await;

    let lane = snapshot.lane(LaneNo(1)).unwrap();
    let lines: Vec<_> = lane.headers.lines().map(|(n, v)| (n.as_str(), v)).collect();
    assert_eq!(lines[0], ("authorization", &http::HeaderValue::from_static("Bearer t0ken")));
    assert!(lines.iter().all(|(_, value)| value.is_sensitive()));
    assert_eq!((lines[1].0, lines[2].0), ("x-own", "cookie"));
    assert_eq!(lines[3], ("x-partner", &http::HeaderValue::from_static("s3aled")));
    let kept: Vec<_> = lane.headers.kept().iter().map(|(n, v)| (&**n, &**v)).collect();
    let masked = ["authorization", "cookie", "x-partner"].map(|name| (name, "[masked]"));
    assert_eq!(kept, [masked[0], ("x-own", "1"), masked[1], masked[2]]);
    let secrets: Vec<_> = lane.headers.secrets();
    assert!(secrets.iter().any(|secret| secret.expose() == b"s3aled"), "looked for in answers");
    let debug = format!("{lane:?}");
    let shown = ["t0ken", "c00kie", "s3aled"].map(|secret| debug.contains(secret));
    assert_eq!(shown, [false; 3], "{debug}");

    // A credential that was sealed for another subscription opens nowhere else.
    assert!(snapshot.lane(LaneNo(2)).is_none());
    let refused = running.configuration.refused();
    assert_eq!(refused[0].resource, "tenants/acme/subscriptions/s2");
    assert_eq!(refused[0].reason, "auth: a sealed secret was changed or belongs elsewhere");
    // One that no header can hold is refused without its text.
    ours.auth =
        Auth::ApiKey { header: "x-key".into(), value: sealed(&ours.name(), "s3cret\r\nx: y") };
    let snapshot = running.write(&[Resource::Subscription(ours)]).await;
    let refused = running.configuration.refused();
    assert_eq!(refused[0].reason, "auth: not a header's value");
    assert_eq!(snapshot.lane(LaneNo(1)).unwrap().headers.lines().len(), 4, "the last good one");
}

#[tokio::test]
async fn a_header_that_was_sealed_for_another_place_opens_nowhere_else() {
    let running = Running::start(Arc::default());
    let mut ours = subscription("acme", 1, &["*"]);
    let other = sealed_as("s3aled", &HeaderText::binding(&ours.name(), "x-other"));
    ours.headers = vec![("x-partner".into(), HeaderText::Sealed { sealed: other })];
    let mut resources = base();
    resources.push(Resource::Subscription(ours));
    running.write(&resources).await;
    let refused = running.configuration.refused();
    assert_eq!(refused[0].reason, "headers[0]: a sealed secret was changed or belongs elsewhere");
}
