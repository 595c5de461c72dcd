//! Others write at the same time: what a handler read no longer holds when it commits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use pregon_core::event::Erasure;
use pregon_core::id::{LaneNo, TenantId};
use pregon_core::model::Resource;
use pregon_core::outcome::EndReason;
use pregon_core::seal::{Held, KeyRing, key_of};
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::erase_events_request::Place;
use pregon_proto::v1::master_key_service_server::MasterKeyService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::{Caller, Role};
use pregon_store::config::{Changes, Commit, Committed, Document, Head, ListRange};
use pregon_store::settlement::Transition;
use pregon_store::{ConfigStore, Store, StoreError};
use tonic::Code;

use crate::receivers::{Callbacks, Fields, Kind, Subscriptions};
use crate::world::{World, ask, assert_refused, assert_wrong, contract, from, subscription};

type Deed = Box<dyn FnOnce(Store) -> BoxFuture<'static, ()> + Send>;

/// Does something right before a commit, or loses its answer.
struct Meddler {
    store: Store,
    before: Mutex<VecDeque<Deed>>,
    lose_answers: Mutex<usize>,
}

impl Meddler {
    fn before_commit<F>(&self, deed: impl FnOnce(Store) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.push_back(Box::new(|store| Box::pin(deed(store))));
    }
}

#[async_trait]
impl ConfigStore for Meddler {
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let deed = self.before.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(deed) = deed {
            deed(self.store.clone()).await;
        }
        let answer = self.store.config.commit(commit).await;
        let mut lose = self.lose_answers.lock().unwrap_or_else(PoisonError::into_inner);
        if *lose > 0 {
            *lose -= 1;
            return Err(StoreError::Unavailable("the answer got lost".into()));
        }
        answer
    }

    async fn recall(&self, id: [u8; 16], of: [u8; 16]) -> Result<Option<Committed>, StoreError> {
        self.store.config.recall(id, of).await
    }

    async fn get(&self, names: &[String]) -> Result<Vec<Option<Document>>, StoreError> {
        self.store.config.get(names).await
    }

    async fn list(&self, range: ListRange) -> Result<Vec<Document>, StoreError> {
        self.store.config.list(range).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.store.config.head().await
    }

    async fn head_at(&self, revision: i64) -> Result<Option<Head>, StoreError> {
        self.store.config.head_at(revision).await
    }

    async fn documents(&self, after: &str, limit: usize) -> Result<Vec<Document>, StoreError> {
        self.store.config.documents(after, limit).await
    }

    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> Result<Changes, StoreError> {
        self.store.config.changes(known, limit, wait).await
    }

    async fn next_lane(&self) -> Result<LaneNo, StoreError> {
        self.store.config.next_lane().await
    }
}

/// A world with the tenant `acme`, and who meddles with it from then on.
async fn meddled() -> (World, Arc<Meddler>) {
    let mut meddler = None;
    let world = World::meddled(|store| {
        let it = Arc::new(Meddler {
            store: store.clone(),
            before: Mutex::default(),
            lose_answers: Mutex::default(),
        });
        meddler = Some(Arc::clone(&it));
        Store { config: it, ..store }
    });
    world.tenant("acme").await;
    (world, meddler.unwrap())
}

/// Writes a document again, as it is.
async fn touch(store: Store, name: &'static str) {
    let found = store.config.get(&[name.to_owned()]).await.unwrap().pop().unwrap().unwrap();
    let write = vec![(name.to_owned(), Some(found.bytes))];
    store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
}

/// Another control plane over the same store.
fn another(store: Store) -> Arc<pregon_control::Control> {
    let world = World::meddled(|_| store);
    world.control
}

fn update(etag: &str) -> v1::UpdateTenantRequest {
    v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant {
            name: "tenants/acme".into(),
            display_name: "Acme".into(),
            etag: etag.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn create(id: &str) -> v1::CreateSubscriptionRequest {
    crate::world::create(id, subscription())
}

#[tokio::test]
async fn an_unconditional_update_is_decided_again() {
    let (world, meddler) = meddled().await;
    for _ in 0..3 {
        meddler.before_commit(|store| touch(store, "tenants/acme"));
    }
    let now = ask!(world.tenants, update_tenant, update("")).unwrap();
    assert_eq!(now.tenant.unwrap().display_name, "Acme");
    let get = v1::GetTenantRequest { name: "tenants/acme".into() };
    let stored = ask!(world.tenants, get_tenant, get).unwrap().tenant.unwrap();
    assert_eq!((stored.display_name.as_str(), stored.revision), ("Acme", now.revision));
}

#[tokio::test]
async fn a_conditional_update_is_aborted() {
    let (world, meddler) = meddled().await;
    let get = v1::GetTenantRequest { name: "tenants/acme".into() };
    let read = ask!(world.tenants, get_tenant, get).unwrap().tenant.unwrap();
    meddler.before_commit(|store| touch(store, "tenants/acme"));
    let answer = ask!(world.tenants, update_tenant, update(&read.etag));
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test]
async fn whoever_meddles_without_end_is_not_waited_for() {
    let (world, meddler) = meddled().await;
    for _ in 0..100 {
        meddler.before_commit(|store| touch(store, "tenants/acme"));
    }
    let answer = ask!(world.tenants, update_tenant, update(""));
    assert_refused(answer, Code::ResourceExhausted, "LOAD_SHED");
}

#[tokio::test]
async fn a_name_goes_to_the_first() {
    let (world, meddler) = meddled().await;
    meddler.before_commit(|store| async move {
        let other = pregon_control::Subscriptions::new(another(store));
        ask!(other, create_subscription, create("erp")).unwrap();
    });
    let answer = ask!(world.subscriptions, create_subscription, create("erp"));
    assert_refused(answer, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn no_child_slips_into_a_tenant_that_goes() {
    let (world, meddler) = meddled().await;
    meddler.before_commit(|store| async move {
        let other = pregon_control::Subscriptions::new(another(store));
        ask!(other, create_subscription, create("erp")).unwrap();
    });
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    let answer = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(answer, Code::FailedPrecondition, "CHILDREN_EXIST");
    // The other way round: the tenant goes first.
    meddler.before_commit(|store| async move {
        let other = pregon_control::Tenants::new(another(store));
        let delete = v1::DeleteTenantRequest {
            name: "tenants/acme".into(),
            force: true,
            ..Default::default()
        };
        ask!(other, delete_tenant, delete).unwrap();
    });
    let answer = ask!(world.subscriptions, create_subscription, create("crm"));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let left = world.names().await;
    let kept = |name: &String| {
        name.contains("/lanes/") || ["erasures/acme", "books/apiKeys"].contains(&name.as_str())
    };
    assert!(left.iter().all(kept), "{left:?}");
}

/// What is to be erased is written down before anything is, so that nothing stays of it where a call
/// is cut off.
#[tokio::test]
async fn an_erasing_that_is_cut_off_is_finished() {
    for many in [false, true] {
        let (world, meddler) = meddled().await;
        world.subscription("acme", "erp").await;
        let position = world.publish("acme", Some("e1"), r#"{"who":"jane"}"#).await;
        let lane = world.lane("tenants/acme/subscriptions/erp").await;
        let failed = Transition::Failed(EndReason::AttemptsExhausted);
        let key = world.settle_new(&[lane], failed).await[0];
        *meddler.lose_answers.lock().unwrap() = 1;
        let (name, reason) = ("tenants/acme/events/e1".to_owned(), "she asked".to_owned());
        let cut = if many {
            let parent = "tenants/acme".to_owned();
            let place = Some(Place::DataPath("event.data.who".into()));
            let value = "jane".to_owned();
            let run = v1::EraseEventsRequest { parent, reason, place, value, ..Default::default() };
            ask!(world.deliveries, erase_events, run).unwrap().next().await.unwrap().map(|_| ())
        } else {
            let one = v1::EraseEventRequest { name, reason, ..Default::default() };
            ask!(world.deliveries, erase_event, one).map(|_| ())
        };
        assert_refused(cut, Code::Unavailable, "STORE_UNAVAILABLE");
        let event = async || world.store.log.event(position).await.unwrap().unwrap().0;
        let answer = async || world.store.log.attempts(key).await.unwrap()[0].response.clone();
        assert!(event().await.erased.is_none(), "nothing is erased yet");
        // Or it is cut off a moment later.
        let why = Erasure { time: world.now(), reason: "she asked".into() };
        world.store.operate.erase_event(position, &why).await.unwrap();
        assert!(event().await.erased.is_some() && answer().await.is_some());
        another(world.store.clone()).erase_put_off(&mut String::new()).await.unwrap();
        assert_eq!(answer().await, None);
    }
}

/// Who holds a key of a tenant makes none for the next tenant of its name.
#[tokio::test]
async fn no_api_key_outlives_its_tenant() {
    let (world, meddler) = meddled().await;
    let request = || {
        let (role, tenants) = (v1::ApiKeyRole::TenantManager.into(), vec!["tenants/acme".into()]);
        let api_key = Some(v1::ApiKey { role, tenants, ..Default::default() });
        v1::CreateApiKeyRequest { api_key, ..Default::default() }
    };
    let own = ask!(world.api_keys, create_api_key, request()).unwrap().api_key.unwrap();
    meddler.before_commit(|store| async move {
        let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
        ask!(pregon_control::Tenants::new(another(store)), delete_tenant, delete).unwrap();
    });
    let acme = BTreeSet::from([TenantId::parse("acme").unwrap()]);
    let holder = Caller::new(&own.name, Role::TenantManager, Some(acme));
    let answer = world.api_keys.create_api_key(from(holder, request())).await;
    let answer = answer.map(tonic::Response::into_inner);
    assert_refused(answer, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    // The other way round: the key goes with the tenant.
    world.tenant("acme").await;
    meddler.before_commit(move |store| async move {
        let keys = pregon_control::ApiKeys::new(another(store));
        ask!(keys, create_api_key, request()).unwrap();
    });
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    let left = world.names().await;
    assert!(!left.iter().any(|it| it.starts_with("apiKeys/")), "{left:?}");
}

#[tokio::test]
async fn no_eleventh_key_slips_in() {
    let (world, meddler) = meddled().await;
    ask!(world.subscriptions, create_subscription, create("erp")).unwrap();
    let key = |id: &str| v1::CreateSecretRequest {
        parent: "tenants/acme/subscriptions/erp".into(),
        secret_id: id.into(),
        ..Default::default()
    };
    for index in 1..9 {
        ask!(world.secrets, create_secret, key(&index.to_string())).unwrap();
    }
    let last = key("other");
    meddler.before_commit(|store| async move {
        let other = pregon_control::Secrets::new(another(store));
        ask!(other, create_secret, last).unwrap();
    });
    let answer = ask!(world.secrets, create_secret, key("mine"));
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}

fn under_mine() -> v1::CreateSubscriptionRequest {
    let it = v1::Subscription { contract: "contracts/mine".into(), ..subscription() };
    v1::CreateSubscriptionRequest { subscription: Some(it), ..create("erp") }
}

fn delete_mine() -> v1::DeleteContractRequest {
    v1::DeleteContractRequest { name: "contracts/mine".into(), ..Default::default() }
}

fn https_only() -> v1::UpdateContractRequest {
    let given = v1::Contract {
        name: "contracts/mine".into(),
        document: contract("mine", "url: { ports: [443] }"),
        ..Default::default()
    };
    v1::UpdateContractRequest { contract: Some(given), ..Default::default() }
}

#[tokio::test]
async fn nobody_slips_under_a_contract_that_goes() {
    let (world, meddler) = meddled().await;
    world.contract("mine", "").await;
    meddler.before_commit(|store| async move {
        let other = pregon_control::Subscriptions::new(another(store));
        ask!(other, create_subscription, under_mine()).unwrap();
    });
    let answer = ask!(world.contracts, delete_contract, delete_mine());
    assert_refused(answer, Code::FailedPrecondition, "CONTRACT_IN_USE");
    let gone = v1::DeleteSubscriptionRequest {
        name: "tenants/acme/subscriptions/erp".into(),
        ..Default::default()
    };
    ask!(world.subscriptions, delete_subscription, gone).unwrap();
    // The other way round: the contract goes first.
    meddler.before_commit(|store| async move {
        let other = pregon_control::Contracts::new(another(store));
        ask!(other, delete_contract, delete_mine()).unwrap();
    });
    let answer = ask!(world.subscriptions, create_subscription, under_mine());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

fn extending() -> v1::CreateContractRequest {
    let document = "contract: child\nextends: contracts/mine\n".to_owned();
    v1::CreateContractRequest {
        contract_id: "child".into(),
        contract: Some(v1::Contract { document, ..Default::default() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn nobody_extends_past_a_contract_that_changes_or_goes() {
    let (world, meddler) = meddled().await;
    world.contract("mine", "").await;
    // The contract changes first: what extends it has the change.
    meddler.before_commit(|store| async move {
        let other = pregon_control::Contracts::new(another(store));
        ask!(other, update_contract, https_only()).unwrap();
    });
    let made = ask!(world.contracts, create_contract, extending()).unwrap();
    assert!(made.contract.unwrap().composed.contains("[443]"));
    let gone = v1::DeleteContractRequest { name: "contracts/child".into(), ..Default::default() };
    ask!(world.contracts, delete_contract, gone).unwrap();
    // The other way round: it is extended right before it changes, and takes that along.
    meddler.before_commit(|store| async move {
        let other = pregon_control::Contracts::new(another(store));
        ask!(other, create_contract, extending()).unwrap();
    });
    let mut plain = https_only();
    plain.contract.as_mut().unwrap().document = contract("mine", "url: { ports: [8443] }");
    let revision = ask!(world.contracts, update_contract, plain).unwrap().revision;
    let child = v1::GetContractRequest { name: "contracts/child".into() };
    let child = ask!(world.contracts, get_contract, child).unwrap().contract.unwrap();
    assert!(child.composed.contains("[8443]") && child.revision == revision, "{child:?}");
    let gone = v1::DeleteContractRequest { name: "contracts/child".into(), ..Default::default() };
    ask!(world.contracts, delete_contract, gone).unwrap();
    // And right before it goes.
    meddler.before_commit(|store| async move {
        let other = pregon_control::Contracts::new(another(store));
        ask!(other, create_contract, extending()).unwrap();
    });
    let answer = ask!(world.contracts, delete_contract, delete_mine());
    assert_refused(answer, Code::FailedPrecondition, "CONTRACT_IN_USE");
}

#[tokio::test]
async fn nobody_changes_past_a_contract_that_changes() {
    let (world, meddler) = meddled().await;
    world.contract("mine", "").await;
    ask!(world.subscriptions, create_subscription, under_mine()).unwrap();
    let elsewhere = |url: &str| v1::UpdateSubscriptionRequest {
        subscription: Some(v1::Subscription {
            name: "tenants/acme/subscriptions/erp".into(),
            url: url.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    // The subscription changes first, and then does not fit.
    let first = elsewhere("https://example.com:8443/");
    meddler.before_commit(|store| async move {
        let other = pregon_control::Subscriptions::new(another(store));
        ask!(other, update_subscription, first).unwrap();
    });
    let answer = ask!(world.contracts, update_contract, https_only());
    assert_refused(answer, Code::FailedPrecondition, "CONTRACT_IN_USE");
    // The contract changes first.
    ask!(world.subscriptions, update_subscription, elsewhere("https://example.com/")).unwrap();
    meddler.before_commit(|store| async move {
        let other = pregon_control::Contracts::new(another(store));
        ask!(other, update_contract, https_only()).unwrap();
    });
    let late = elsewhere("https://example.com:8443/");
    let answer = ask!(world.subscriptions, update_subscription, late);
    assert_wrong(answer, &[("subscription.url", "URL_REFUSED")]);
}

#[tokio::test]
async fn a_lost_answer_is_given_to_the_repeat() {
    let (world, meddler) = meddled().await;
    *meddler.lose_answers.lock().unwrap() = 1;
    let request = v1::CreateSubscriptionRequest { request_id: "one".into(), ..create("") };
    let answer = ask!(world.subscriptions, create_subscription, request.clone());
    assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    let made = ask!(world.subscriptions, create_subscription, request).unwrap();
    let list = v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let list = ask!(world.subscriptions, list_subscriptions, list).unwrap();
    assert_eq!(list.subscriptions, [made.subscription.unwrap()]);
}

/// Whoever leans on a contract keeps its turn until it is written.
async fn nobody_overtakes<K: Kind>() {
    let mine = Fields { contract: "contracts/mine", ..Fields::default() };
    let (world, meddler) = meddled().await;
    world.tenant("beta").await;
    world.contract("mine", "").await;
    let world = Arc::new(world);
    let (other, (sender, second)) = (Arc::clone(&world), tokio::sync::oneshot::channel());
    meddler.before_commit(move |_| async move {
        let create = async move { K::create(&other, "beta", "one", mine).await.unwrap().1 };
        let second = tokio::spawn(create);
        // Long enough for it to be written, if it did not have to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        sender.send(second).unwrap();
    });
    let first = K::create(&world, "acme", "one", mine).await.unwrap().1;
    let second = second.await.unwrap().await.unwrap();
    assert!(first < second, "{first} {second}");
}

#[tokio::test]
async fn creations_under_one_contract_take_turns() {
    nobody_overtakes::<Subscriptions>().await;
    nobody_overtakes::<Callbacks>().await;
}

/// What is sealed anew was read before somebody else wrote: it is read again.
#[tokio::test]
async fn a_write_during_sealing_anew_is_not_lost() {
    const NAME: &str = "tenants/acme/subscriptions/erp";
    let (world, meddler) = meddled().await;
    world.subscription("acme", "erp").await;
    let keys = format!("{} {}", "77".repeat(32), "5a".repeat(32));
    let ring = KeyRing::parse(&keys).unwrap();
    world.held.send_replace(Arc::new(Held::new(ring.clone())));
    let secrets = v1::ListSecretsRequest { parent: NAME.into(), ..Default::default() };
    let secret = ask!(world.secrets, list_secrets, secrets).unwrap().secrets[0].name.clone();
    let name = secret.clone();
    meddler.before_commit(async move |store| {
        let revoke = v1::RevokeSecretRequest { name, force: true, ..Default::default() };
        let secrets = pregon_control::Secrets::new(another(store));
        ask!(secrets, revoke_secret, revoke).unwrap();
    });
    let request = v1::ResealDocumentsRequest { page_size: 1000, ..Default::default() };
    let done = ask!(world.master_keys, reseal_documents, request).unwrap();
    assert_eq!((done.resealed, done.failed.len()), (1, 0));
    let Some(Resource::Secret(after)) = world.stored(&secret).await else { panic!("{secret}") };
    assert!(after.revoke_time.is_some(), "the write that came between");
    assert_eq!(key_of(&after.sealed), Ok(ring.current()));
}
