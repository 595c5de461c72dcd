//! Master keys: who has which, sealing anew, what is refused without one that the store needs, and that
//! what is sealed opens in its place only.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_core::id::{NodeId, TenantId};
use pregon_core::model::{Auth, HeaderText, Resource, ResourceName};
use pregon_core::seal::{Held, KeyId, KeyRing};
use pregon_core::secret::SecretBytes;
use pregon_proto::v1;
use pregon_proto::v1::auth::Kind;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::master_key_service_server::MasterKeyService as _;
use pregon_proto::v1::node_service_server::NodeService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_rpc::caller::{Caller, Role};
use pregon_store::config::Commit;
use pregon_store::node::{NodeStatus, Plane};
use tonic::Code;

use crate::world::{World, ask, assert_refused, from, subscription};

/// The key of every world, and one that comes behind it.
const OLD: &str = "5a";
const NEW: &str = "77";
/// And one behind that.
const NEXT: &str = "88";

fn ring(keys: &str) -> KeyRing {
    let text: Vec<_> = keys.split(' ').map(|key| key.repeat(32)).collect();
    KeyRing::parse(&text.join(" ")).unwrap()
}

fn id(key: &str) -> KeyId {
    ring(key).current()
}

/// A tenant with everything that is sealed: secrets, auth and headers of two subscriptions and a
/// callback.
async fn sealed_in(world: World) -> World {
    world.tenant("acme").await;
    for name in ["erp", "crm"] {
        let bearer = v1::BearerAuth { token: format!("token-of-{name}"), ..Default::default() };
        let header = |header: &str| v1::Header {
            name: header.into(),
            value: format!("{header}-of-{name}"),
            credential: true,
        };
        let given = v1::Subscription {
            auth: Some(v1::Auth { kind: Some(Kind::Bearer(bearer)), ..Default::default() }),
            headers: vec![header("x-one"), header("x-two")],
            ..subscription()
        };
        let request = crate::world::create(name, given);
        ask!(world.subscriptions, create_subscription, request).unwrap();
    }
    let basic = v1::BasicAuth {
        username: "u".into(),
        password: "password-of-it".into(),
        ..Default::default()
    };
    let request = v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback_id: "gate".into(),
        callback: Some(v1::Callback {
            url: crate::world::URL.into(),
            contract: "contracts/preauth".into(),
            auth: Some(v1::Auth { kind: Some(Kind::Basic(basic)), ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    ask!(world.callbacks, create_callback, request).unwrap();
    world
}

/// The same on the engine in memory.
async fn sealed_world() -> World {
    sealed_in(World::new()).await
}

/// Every sealed text of the store: its document, what it is bound to, and its key.
async fn everything(world: &World) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for document in world.store.config.documents("", 1000).await.unwrap() {
        let Some(name) = ResourceName::parse(&document.name) else { continue };
        let mut resource = Resource::decode(&name, &document.bytes).unwrap();
        let mut look = |text: &mut String, binding: &str| {
            found.push((document.name.clone(), binding.to_owned(), text.clone()));
            Ok(())
        };
        resource.each_sealed(&mut look).unwrap();
    }
    found
}

/// Seals page by page until there is no more; what was sealed anew, and what failed.
async fn reseal(world: &World, page_size: i32) -> (i32, Vec<String>) {
    let (mut resealed, mut failed, mut page_token) = (0, Vec::new(), String::new());
    loop {
        let request = v1::ResealDocumentsRequest { page_size, page_token };
        let done = ask!(world.master_keys, reseal_documents, request).unwrap();
        resealed += done.resealed;
        failed.extend(done.failed);
        if done.next_page_token.is_empty() {
            return (resealed, failed);
        }
        page_token = done.next_page_token;
    }
}

#[tokio::test]
async fn in_memory_everything_is_sealed_anew_and_opens_in_its_place_only() {
    everything_is_sealed_anew_and_nothing_else_changes(&sealed_world().await).await;
    what_is_sealed_opens_in_its_place_only(&sealed_world().await, OLD).await;
}

#[tokio::test]
async fn in_redis_everything_is_sealed_anew_and_opens_in_its_place_only() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, store) = crate::explain_cost::redis(&directory).await;
    let world = sealed_in(World::over(store)).await;
    everything_is_sealed_anew_and_nothing_else_changes(&world).await;
    what_is_sealed_opens_in_its_place_only(&world, NEW).await;
}

async fn everything_is_sealed_anew_and_nothing_else_changes(world: &World) {
    let before = everything(world).await;
    assert_eq!(before.len(), 9, "two secrets, three auths, four headers: {before:?}");
    let opened = |ring: &KeyRing, all: &[(String, String, String)]| -> Vec<_> {
        let open = |(_, binding, text): &(String, String, String)| {
            ring.open_text(text, binding).map(|it| it.expose().to_vec())
        };
        all.iter().map(open).collect()
    };
    world.held.send_replace(Arc::new(Held::new(ring(&format!("{NEW} {OLD}")))));
    let (resealed, failed) = reseal(world, 2).await;
    assert_eq!((resealed, failed), (5, vec![]));
    let after = everything(world).await;
    let places = |all: &[(String, String, String)]| -> Vec<_> {
        all.iter().map(|(name, binding, _)| (name.clone(), binding.clone())).collect()
    };
    assert_eq!(places(&after), places(&before));
    assert_eq!(opened(&ring(NEW), &after), opened(&ring(OLD), &before));
    assert!(opened(&ring(OLD), &after).iter().all(Result::is_err));
    assert_eq!(reseal(world, 0).await, (0, vec![]), "what is done stays as it is");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_stays() {
    let world = sealed_world().await;
    let name = "tenants/acme/subscriptions/crm";
    let Some(Resource::Subscription(mut it)) = world.stored(name).await else { panic!("{name}") };
    it.auth = Auth::Bearer { token: STANDARD.encode(ring(OLD).seal(&word(), "x", [1; 24])) };
    world.put(&Resource::Subscription(it.clone())).await;
    let later = ("tenants/acme/subscriptions/later", "{\"of\":\"another release\"}");
    let write = vec![(later.0.to_owned(), Some(later.1.into()))];
    world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    world.held.send_replace(Arc::new(Held::new(ring(&format!("{NEW} {OLD}")))));
    let (resealed, mut failed) = reseal(&world, 0).await;
    failed.sort();
    assert_eq!((resealed, failed), (4, vec![name.to_owned(), later.0.to_owned()]));
    assert_eq!(world.stored(name).await, Some(Resource::Subscription(it)));
}

/// What a release that knows more fields wrote keeps them.
#[tokio::test]
async fn fields_of_another_release_are_kept() {
    let world = World::with_subscription().await;
    let name = everything(&world).await[0].0.clone();
    let found =
        world.store.config.get(std::slice::from_ref(&name)).await.unwrap().pop().unwrap().unwrap();
    let text = std::str::from_utf8(&found.bytes).unwrap();
    let text = text.replacen('{', "{\"later\":[1,2],", 1);
    let write = vec![(name.clone(), Some(text.clone().into()))];
    world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    world.held.send_replace(Arc::new(Held::new(ring(&format!("{NEW} {OLD}")))));
    assert_eq!(reseal(&world, 0).await, (1, vec![]));
    let after = world.store.config.get(&[name]).await.unwrap().pop().unwrap().unwrap();
    let after = std::str::from_utf8(&after.bytes).unwrap();
    assert!(after.starts_with("{\"later\":[1,2],"), "{after}");
    assert_eq!(after.len(), text.len());
}

fn word() -> SecretBytes {
    SecretBytes::new(b"word".to_vec())
}

fn process(name: &str, plane: Plane, keys: &str) -> NodeStatus {
    NodeStatus {
        id: NodeId::parse(name).unwrap(),
        version: "0.1.0".into(),
        start_time: crate::world::START,
        heartbeat_time: crate::world::START,
        draining: false,
        served_revision: 0,
        refused: Vec::new(),
        in_flight: 0,
        claimed: 0,
        lanes: 0,
        plane,
        master_keys: ring(keys).ids(),
        sealing: (plane == Plane::Control).then(|| id(OLD)),
        lacking: Vec::new(),
    }
}

#[tokio::test]
async fn a_first_key_that_somebody_lacks_seals_nothing_and_it_is_said_who() {
    let world = World::with_subscription().await;
    let both = format!("{NEW} {OLD}");
    for status in [
        process("n1", Plane::Data, OLD),
        process("n2", Plane::Data, &both),
        process("control-1", Plane::Control, OLD),
    ] {
        world.store.nodes.announce(status).await.unwrap();
    }
    let mut held = Held::new(ring(&both).sealing_under(id(OLD)));
    held.documents.insert(id(OLD), 1);
    held.documents.insert(id("99"), 0);
    world.held.send_replace(Arc::new(held));
    let request = v1::ResealDocumentsRequest::default();
    let refused = ask!(world.master_keys, reseal_documents, request).unwrap_err();
    for part in [&*id(NEW).to_string(), "nodes/n1", "controlPlanes/control-1"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert!(!refused.message().contains("nodes/n2"), "{}", refused.message());
    assert_refused::<()>(Err(refused), Code::FailedPrecondition, "STATE_CONFLICT");

    let request = v1::ListMasterKeysRequest {};
    let keys = ask!(world.master_keys, list_master_keys, request).unwrap().master_keys;
    let shown = |it: &v1::MasterKey| {
        (it.id.clone(), it.given, it.seals, it.documents, it.lacking.join(" "), it.sealing.clone())
    };
    let control = vec!["controlPlanes/control-1".to_owned()];
    let all = "controlPlanes/control-1 nodes/n1";
    assert_eq!(
        keys.iter().map(shown).collect::<Vec<_>>(),
        [
            (id(NEW).to_string(), true, false, 0, all.into(), vec![]),
            (id(OLD).to_string(), true, true, 1, String::new(), control),
            (id("99").to_string(), false, false, 0, format!("{all} nodes/n2"), vec![]),
        ]
    );
    // Who has which is said of nodes as well; a control plane is none.
    let request = v1::ListNodesRequest::default();
    let listed = ask!(world.nodes, list_nodes, request).unwrap();
    let of = |it: &v1::Node| (it.name.clone(), it.master_key_ids.clone());
    let ids = |ring: KeyRing| ring.ids().iter().map(KeyId::to_string).collect::<Vec<_>>();
    assert_eq!(
        listed.nodes.iter().map(of).collect::<Vec<_>>(),
        [("nodes/n1".into(), ids(ring(OLD))), ("nodes/n2".into(), ids(ring(&both)))]
    );
    let plane = &listed.control_planes[0];
    assert_eq!((&*plane.id, &plane.master_key_ids), ("control-1", &ids(ring(OLD))));
    assert_eq!(plane.sealing_key_id, id(OLD).to_string());
    // One that is silent is counted on no more.
    world.clock.advance(pregon_store::node::LOST_AFTER);
    let request = v1::ListNodesRequest::default();
    assert!(ask!(world.nodes, list_nodes, request).unwrap().control_planes.is_empty());
}

/// Whatever stands between the first key of the file and that everybody seals under it is said.
#[tokio::test]
async fn nothing_is_sealed_anew_under_a_key_that_does_not_seal_everywhere() {
    let world = World::with_subscription().await;
    let both = format!("{NEW} {OLD}");
    let sealed = || {
        let mut held = Held::new(ring(&both));
        held.documents.insert(id(OLD), 1);
        held
    };
    let other = process("control-2", Plane::Control, &both);
    let silent = NodeStatus { master_keys: Vec::new(), ..process("n3", Plane::Data, OLD) };
    let unsettled = Held { settled: false, ..sealed() };
    let (alone, old, new) = (None, id(OLD).to_string(), Some(id(NEW)));
    for (held, status, told) in [
        (sealed(), Some(process("n1", Plane::Data, OLD)), "nodes/n1 lack it".to_owned()),
        (sealed(), Some(silent), "nodes/n3 lack it".to_owned()),
        (sealed(), Some(other.clone()), format!("controlPlanes/control-2 seals under {old}")),
        (unsettled, alone, "is about to seal".to_owned()),
    ] {
        world.held.send_replace(Arc::new(held));
        let here = status.as_ref().map(|it| it.id.clone());
        if let Some(status) = status {
            world.store.nodes.announce(status).await.unwrap();
        }
        let request = v1::ResealDocumentsRequest::default();
        let refused = ask!(world.master_keys, reseal_documents, request).unwrap_err();
        assert!(refused.message().contains(&told), "{}", refused.message());
        assert_refused::<()>(Err(refused), Code::FailedPrecondition, "STATE_CONFLICT");
        if let Some(here) = here {
            world.store.nodes.leave(&here).await.unwrap();
        }
    }
    world.held.send_replace(Arc::new(sealed()));
    world.store.nodes.announce(NodeStatus { sealing: new, ..other }).await.unwrap();
    assert_eq!(reseal(&world, 0).await, (1, vec![]));
}

#[tokio::test]
async fn without_a_key_that_the_store_needs_it_only_reads() {
    let world = World::with_subscription().await;
    let mut held = Held::new(ring(OLD));
    held.documents.insert(id(NEW), 3);
    world.held.send_replace(Arc::new(held));
    let write = || crate::world::create("crm", subscription());
    let refused = ask!(world.subscriptions, create_subscription, write()).unwrap_err();
    assert!(refused.message().contains(&id(NEW).to_string()), "{}", refused.message());
    assert!(refused.message().contains("3 of the store's documents"), "{}", refused.message());
    assert_refused::<()>(Err(refused), Code::Unavailable, "NOT_READY");
    // How much all tenants have there is nothing for one of them.
    let of = Some(BTreeSet::from([TenantId::parse("acme").unwrap()]));
    let tenant = Caller::new("acme-team", Role::TenantManager, of);
    let refused = world.subscriptions.create_subscription(from(tenant, write())).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.message(), format!("master key {} is not here", id(NEW)));
    let list =
        || v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    assert_eq!(
        ask!(world.subscriptions, list_subscriptions, list()).unwrap().subscriptions.len(),
        1
    );
    world.held.send_replace(Arc::new(Held::new(ring(&format!("{OLD} {NEW}")))));
    ask!(world.subscriptions, create_subscription, write()).unwrap();
}

/// A secret's key, a credential and a header's value, each moved to where another is: whoever can
/// write to the store cannot have one opened in another's place.
async fn what_is_sealed_opens_in_its_place_only(world: &World, key: &str) {
    let all = everything(world).await;
    let ring = ring(key);
    for (at, (name, binding, text)) in all.iter().enumerate() {
        assert!(ring.open_text(text, binding).is_ok(), "{name}");
        for (_, elsewhere, _) in all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, it)| it)
        {
            assert!(ring.open_text(text, elsewhere).is_err(), "{binding} opens at {elsewhere}");
        }
    }
    // The same by way of the store: a secret with another's text is shown to nobody.
    let secrets: Vec<_> = all.iter().filter(|(name, ..)| name.contains("/secrets/")).collect();
    let [one, other] = [secrets[0], secrets[1]];
    let Some(Resource::Secret(mut moved)) = world.stored(&one.0).await else { panic!("{one:?}") };
    moved.sealed.clone_from(&other.2);
    world.put(&Resource::Secret(moved)).await;
    let reveal = |name: &str| v1::RevealSecretRequest { name: name.into() };
    let refused = ask!(world.secrets, reveal_secret, reveal(&one.0));
    assert_refused(refused, Code::Internal, "INTERNAL");
    assert!(ask!(world.secrets, reveal_secret, reveal(&other.0)).is_ok());
    // A header's value at another header of the same subscription.
    let name = "tenants/acme/subscriptions/erp";
    let Some(Resource::Subscription(it)) = world.stored(name).await else { panic!("{name}") };
    let [HeaderText::Sealed { sealed: first }, HeaderText::Sealed { .. }] =
        [&it.headers[0].1, &it.headers[1].1]
    else {
        panic!("{:?}", it.headers)
    };
    let own = HeaderText::binding(&name, "X-One");
    assert!(ring.open_text(first, &own).is_ok());
    assert!(ring.open_text(first, &HeaderText::binding(&name, "x-two")).is_err());
    assert!(ring.open_text(first, &Auth::binding(&name)).is_err());
    // Moved in stored documents, they are taken up by nobody: the document is named and stays.
    let crm = "tenants/acme/subscriptions/crm";
    let Some(Resource::Subscription(other)) = world.stored(crm).await else { panic!("{crm}") };
    let (mut auth, mut at_another, mut header) = (it.clone(), it.clone(), it);
    auth.auth = other.auth;
    at_another.headers[0].1 = at_another.headers[1].1.clone();
    header.headers[0].1 = other.headers[0].1.clone();
    let next = self::ring(&format!("{NEXT} {key}"));
    world.held.send_replace(Arc::new(Held::new(next)));
    for moved in [auth, at_another, header].map(Resource::Subscription) {
        world.put(&moved).await;
        let (_, failed) = reseal(world, 0).await;
        assert!(failed.iter().any(|it| it == name), "{failed:?}");
        assert_eq!(world.stored(name).await, Some(moved));
    }
}
