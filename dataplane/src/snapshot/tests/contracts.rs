//! Contracts of the platform's own, and who is under them.

use pregon_core::id::ContractId;
use pregon_core::model::Subscription;

use super::*;
use crate::testing::documents::{contract, contract_document};

/// A subscription of `acme` to everything, under this contract.
fn under(lane: u64, contract: &str) -> Subscription {
    let contract = ContractId::parse(contract).unwrap();
    Subscription { contract, ..subscription("acme", lane, &["*"]) }
}

fn written(lane: u64, contract: &str) -> Resource {
    Resource::Subscription(under(lane, contract))
}

fn revision(snapshot: &Snapshot, lane: u64) -> i64 {
    snapshot.lane(LaneNo(lane)).unwrap().contract.revision()
}

#[tokio::test]
async fn built_in_contracts_are_there_from_the_start() {
    let running = Running::start(Arc::default());
    let built_in = pregon_core::contract::builtins();
    let mut resources = base();
    let ids = built_in.iter().map(|it| it.contract.id().as_str());
    resources.extend(ids.zip(1..).map(|(id, lane)| written(lane, id)));
    let snapshot = running.write(&resources).await;
    assert_eq!(snapshot.lanes().len(), built_in.len());
    assert!(running.configuration.refused().is_empty());
    // A contract carries what it says: of these, some carry no orders.
    let carried = matching(&snapshot, &event("acme", "order.captured", "{}")).len();
    assert!(0 < carried && carried < built_in.len(), "{carried}");
}

#[tokio::test]
async fn a_changed_contract_reaches_every_lane_under_it_and_no_other() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend([contract("mine", "body: 1"), contract("other", "body: 1")]);
    resources.extend([written(1, "mine"), written(2, "other"), written(3, "mine")]);
    resources.push(Resource::Secret(secret("acme", 1, "k1", 0)));
    let before = running.write(&resources).await;
    assert_eq!([1, 2, 3].map(|lane| revision(&before, lane)), [101; 3]);

    let after = running.write(&[contract("mine", "body: 2")]).await;
    let changed: Vec<(u64, bool)> = after
        .lane_changes(&before)
        .into_iter()
        .map(|change| match change {
            LaneChange::Changed { before, after } => {
                (after.lane.0, before.keys.iter().count() == after.keys.iter().count())
            }
            LaneChange::Added(lane) | LaneChange::Removed(lane) => panic!("{lane:?}"),
        })
        .collect();
    assert_eq!(changed, [(1, true), (3, true)]);
    assert_eq!([1, 2, 3].map(|lane| revision(&after, lane)), [102, 101, 102]);
    let tenant = after.tenant(&TenantId::parse("acme").unwrap()).unwrap();
    assert!(tenant.lanes().iter().all(|lane| after.lane(lane.lane) == Some(lane)));

    // A subscription that moved is under its new contract only; one that is gone under none.
    running.write(&[written(1, "other")]).await;
    running.delete("tenants/acme/subscriptions/s3").await;
    let last = running.write(&[contract("mine", "body: 3")]).await;
    assert_eq!([1, 2].map(|lane| revision(&last, lane)), [101, 101]);
    assert!(last.lane(LaneNo(3)).is_none());
    let last = running.write(&[contract("other", "body: 3")]).await;
    assert_eq!([1, 2].map(|lane| revision(&last, lane)), [last.revision(); 2]);
}

#[tokio::test]
async fn what_a_subscription_says_anew_stands_over_every_revision_of_its_contract() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.push(contract("mine", "overridable: [timeouts]\ntimeouts: [20s]"));
    let own = Subscription { overrides: "timeouts: [5s]".into(), ..under(1, "mine") };
    resources.extend([Resource::Subscription(own), written(2, "mine")]);
    let timeouts = |at: &Arc<Snapshot>| {
        [1, 2].map(|lane| at.lane(LaneNo(lane)).unwrap().contract.timeout(1).as_secs())
    };
    assert_eq!(timeouts(&running.write(&resources).await), [5, 20]);
    let after = running.write(&[contract("mine", "overridable: [timeouts]\ntimeouts: [9s]")]).await;
    assert_eq!(timeouts(&after), [5, 9]);
    assert_eq!([1, 2].map(|lane| revision(&after, lane)), [after.revision(); 2]);
    let without = Subscription { overrides: String::new(), ..under(1, "mine") };
    let last = running.write(&[Resource::Subscription(without)]).await;
    assert_eq!(timeouts(&last), [9, 9]);
}

#[tokio::test]
async fn a_refused_contract_leaves_the_last_good_one() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend([contract("mine", "body: 1"), written(1, "mine")]);
    let good = running.write(&resources).await.revision();
    let refused = async |resource: Resource, why: &str| {
        let snapshot = running.write(&[resource]).await;
        assert_eq!(revision(&snapshot, 1), good);
        let refused = running.configuration.refused();
        assert_eq!(refused[0].revision, snapshot.revision());
        assert!(refused[0].reason.contains(why), "{}", refused[0].reason);
    };
    refused(contract("mine", "boddy: 1"), "document: 2:1: ").await;
    refused(contract_document("mine", "contract: theirs\nbody: 1\n"), "document: ").await;
    let Resource::Contract(theirs) = contract("theirs", "body: 1") else { panic!() };
    refused(contract_document("mine", &theirs.document), "is that of contracts/theirs").await;
    refused(contract("preauth", "body: 1"), "built-in").await;

    // Read again from the start, it is still refused, and what was good stays.
    running.write(&[contract("mine", "boddy: 1")]).await;
    running.store.trim(true);
    let snapshot = running.write(&[sub("acme", 2, &["*"])]).await;
    assert_eq!(revision(&snapshot, 1), good);
    assert_eq!(snapshot.lanes().len(), 2);
    // A contract that is gone stays with who was under it.
    let snapshot = running.delete("contracts/mine").await;
    assert_eq!(revision(&snapshot, 1), good);
    let snapshot = running.delete("contracts/preauth").await;
    assert_eq!(snapshot.lanes().len(), 2);
    assert_eq!(running.write(&[written(2, "preauth")]).await.lanes().len(), 2);
}

#[tokio::test]
async fn a_subscription_waits_for_its_contract_with_its_keys() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend([written(1, "mine"), Resource::Secret(secret("acme", 1, "k1", 0))]);
    let snapshot = running.write(&resources).await;
    assert!(snapshot.lane(LaneNo(1)).is_none());
    running.write(&[sub("acme", 2, &["*"])]).await;
    let refused = running.configuration.refused();
    let reported: Vec<_> = refused.iter().map(|it| (&*it.resource, &*it.reason)).collect();
    let waits = "contract: contracts/mine is not known; it waits for it";
    assert_eq!(reported, [("tenants/acme/subscriptions/s1", waits)], "told once");

    let snapshot = running.write(&[contract("mine", "body: 1")]).await;
    assert_eq!(snapshot.lane(LaneNo(1)).unwrap().keys.iter().count(), 1);
    // What moves to a contract that is not known goes on as it was.
    let snapshot = running.write(&[written(1, "later")]).await;
    let lane = snapshot.lane(LaneNo(1)).unwrap();
    assert_eq!((lane.contract.id().as_str(), lane.keys.iter().count()), ("mine", 1));
    running.store.trim(true);
    let snapshot = running.write(&[sub("acme", 3, &["*"])]).await;
    let lane = snapshot.lane(LaneNo(1)).unwrap();
    assert_eq!((lane.contract.id().as_str(), lane.keys.iter().count()), ("mine", 1));
    let snapshot = running.write(&[contract("later", "body: 1")]).await;
    let lane = snapshot.lane(LaneNo(1)).unwrap();
    assert_eq!((lane.contract.id().as_str(), lane.keys.iter().count()), ("later", 1));
    // One that is deleted while it waits does not come alive.
    running.write(&[written(4, "never")]).await;
    running.delete("tenants/acme/subscriptions/s4").await;
    assert!(running.write(&[contract("never", "body: 1")]).await.lane(LaneNo(4)).is_none());
}

#[tokio::test]
async fn filters_see_labels_and_attributes() {
    let running = Running::start(Arc::default());
    let mut acme = tenant("acme");
    acme.common.labels.insert("plan".into(), "gold".into());
    let mut labelled = subscription("acme", 1, &["*"]);
    labelled.common.labels.insert("region".into(), "uy".into());
    labelled.filter = "tenant.labels.plan == 'gold' && subscription.labels.region == \
                       event.attributes.region"
        .into();
    let resources = [
        Resource::Tenant(acme.clone()),
        event_type("order.captured", ""),
        Resource::Subscription(labelled),
        sub("acme", 2, &["*"]),
    ];
    let before = running.write(&resources).await;
    let with = |region: &str| Event {
        attributes: [("region".to_owned(), region.to_owned())].into(),
        ..event("acme", "order.captured", "{}")
    };
    assert_eq!(matching(&before, &with("uy")), [1, 2]);
    assert_eq!(matching(&before, &with("ar")), [2]);
    // The same labels again change no lane; others do.
    acme.common.display_name = "Acme".into();
    let same = running.write(&[Resource::Tenant(acme.clone())]).await;
    assert_eq!(same.lane_changes(&before).len(), 0);
    acme.common.labels.insert("plan".into(), "silver".into());
    let after = running.write(&[Resource::Tenant(acme)]).await;
    assert_eq!(after.lane_changes(&same).len(), 2);
    assert_eq!(matching(&after, &with("uy")), [2]);
}
