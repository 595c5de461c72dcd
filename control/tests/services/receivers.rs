//! What holds of subscriptions and callbacks alike: each test runs for both.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_rpc::caller::{Caller, Role};
use tonic::{Code, Status};

use crate::world::{URL, World, assert_refused, assert_wrong, from, from_anyone, subscription};

/// What both kinds show.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    name: String,
    state: &'static str,
    revision: i64,
    etag: String,
    update_time: Option<prost_types::Timestamp>,
    secrets_live: i32,
    /// When, who and why.
    change: Option<(Option<prost_types::Timestamp>, String, String)>,
}

/// An answer: what it shows, and the revision that the write made.
pub type Answer = Result<(Seen, i64), Status>;

/// A kind of receiver.
pub trait Kind: 'static {
    const WORD: &'static str;

    fn name(tenant: &str, id: &str) -> String;
    fn create(
        world: &World,
        tenant: &str,
        id: &str,
        fields: Fields,
    ) -> impl Future<Output = Answer> + Send;
    fn get(world: &World, name: &str) -> impl Future<Output = Seen> + Send;
    fn list(world: &World, wanted: Fields) -> impl Future<Output = Result<Vec<String>, Status>>;
    fn change(world: &World, name: &str, mask: &str) -> impl Future<Output = Answer> + Send;
    fn pause(world: &World, to: Move) -> impl Future<Output = Answer> + Send;
    fn resume(world: &World, to: Move) -> impl Future<Output = Answer> + Send;
}

/// Fields of a receiver, as they are given or wanted.
#[derive(Clone, Copy, Default)]
pub struct Fields {
    pub environment: v1::Environment,
    pub paused: bool,
    pub contract: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
}

impl Fields {
    fn labels(self) -> HashMap<String, String> {
        self.labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }
}

/// A move of a state.
#[derive(Clone)]
pub struct Move {
    name: String,
    note: String,
    validate_only: bool,
    caller: Caller,
}

pub struct Subscriptions;
pub struct Callbacks;

macro_rules! kinds {
    ($($kind:ident: $word:literal, $field:ident, $id:ident, $service:ident, $blank:expr;
        $create:ident $CreateRequest:ident, $get:ident $GetRequest:ident,
        $list:ident $ListRequest:ident $State:ident,
        $update:ident $UpdateRequest:ident, $pause:ident $PauseRequest:ident,
        $resume:ident $ResumeRequest:ident;)*) => {$(
        impl Kind for $kind {
            const WORD: &'static str = $word;

            fn name(tenant: &str, id: &str) -> String {
                format!("tenants/{tenant}/{}s/{id}", $word)
            }

            async fn create(world: &World, tenant: &str, id: &str, fields: Fields) -> Answer {
                let mut given = $blank;
                given.contract = fields.contract.into();
                given.environment = fields.environment.into();
                given.labels = fields.labels();
                let request = v1::$CreateRequest {
                    parent: format!("tenants/{tenant}"),
                    $id: id.into(),
                    $field: Some(given),
                    ..Default::default()
                };
                let answer = world.$service.$create(from_anyone(request)).await?.into_inner();
                Ok((seen!(answer.$field), answer.revision))
            }

            async fn get(world: &World, name: &str) -> Seen {
                let request = v1::$GetRequest { name: name.into() };
                let answer = world.$service.$get(from_anyone(request)).await.unwrap();
                seen!(answer.into_inner().$field)
            }

            async fn list(world: &World, wanted: Fields) -> Result<Vec<String>, Status> {
                let request = v1::$ListRequest {
                    parent: "tenants/acme".into(),
                    environment: wanted.environment.into(),
                    state: if wanted.paused { v1::$State::Paused.into() } else { 0 },
                    contract: wanted.contract.into(),
                    labels: wanted.labels(),
                    ..Default::default()
                };
                let answer = world.$service.$list(from_anyone(request)).await?.into_inner();
                Ok(answer.$service.into_iter().map(|it| it.name).collect())
            }

            async fn change(world: &World, name: &str, mask: &str) -> Answer {
                let mut given = $blank;
                given.name = name.into();
                let update_mask = crate::world::mask(&[mask]);
                let $field = Some(given);
                let request = v1::$UpdateRequest { $field, update_mask, ..Default::default() };
                let answer = world.$service.$update(from_anyone(request)).await?.into_inner();
                Ok((seen!(answer.$field), answer.revision))
            }

            async fn pause(world: &World, to: Move) -> Answer {
                let Move { name, note, validate_only, caller } = to;
                let request = v1::$PauseRequest { name, note, validate_only };
                let answer = world.$service.$pause(from(caller, request)).await?.into_inner();
                Ok((seen!(answer.$field), answer.revision))
            }

            async fn resume(world: &World, to: Move) -> Answer {
                let Move { name, note, validate_only, caller } = to;
                let request = v1::$ResumeRequest { name, note, validate_only };
                let answer = world.$service.$resume(from(caller, request)).await?.into_inner();
                Ok((seen!(answer.$field), answer.revision))
            }
        }
    )*};
}

macro_rules! seen {
    ($shown:expr) => {{
        let it = $shown.unwrap();
        let state = it.state().as_str_name();
        Seen {
            state: state.rsplit('_').next().unwrap(),
            name: it.name,
            revision: it.revision,
            etag: it.etag,
            update_time: it.update_time,
            secrets_live: it.secrets_live,
            change: it.state_change.map(|it| (it.time, it.actor, it.note)),
        }
    }};
}

kinds! {
    Subscriptions: "subscription", subscription, subscription_id, subscriptions, subscription();
        create_subscription CreateSubscriptionRequest, get_subscription GetSubscriptionRequest,
        list_subscriptions ListSubscriptionsRequest SubscriptionState,
        update_subscription UpdateSubscriptionRequest,
        pause_subscription PauseSubscriptionRequest,
        resume_subscription ResumeSubscriptionRequest;
    Callbacks: "callback", callback, callback_id, callbacks,
        v1::Callback { url: URL.into(), ..Default::default() };
        create_callback CreateCallbackRequest, get_callback GetCallbackRequest,
        list_callbacks ListCallbacksRequest CallbackState,
        update_callback UpdateCallbackRequest, pause_callback PauseCallbackRequest,
        resume_callback ResumeCallbackRequest;
}

/// A test for both kinds.
macro_rules! both {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            self::bodies::$name::<Subscriptions>().await;
            self::bodies::$name::<Callbacks>().await;
        }
    )*};
}

both! {
    who_moved_it_when_and_why_is_kept
    what_is_wrong_with_a_move_is_reported_at_once
    only_the_server_says_who_moved_it
    lists_are_filtered
}

mod bodies {
    use super::*;

    fn to(name: &str, who: &str, note: &str) -> Move {
        let caller = Caller::new(who, Role::TenantManager, None);
        Move { name: name.into(), note: note.into(), validate_only: false, caller }
    }

    async fn one<K: Kind>() -> (World, String) {
        let world = World::with_tenant().await;
        K::create(&world, "acme", "one", Fields::default()).await.unwrap();
        (world, K::name("acme", "one"))
    }

    pub async fn who_moved_it_when_and_why_is_kept<K: Kind>() {
        let (world, name) = one::<K>().await;
        let made = K::get(&world, &name).await;
        assert_eq!((made.state, &made.change), ("ACTIVE", &None));
        world.clock.advance(Duration::from_secs(5));

        let dry = Move { validate_only: true, ..to(&name, "ana", "on holiday") };
        let (shown, revision) = K::pause(&world, dry).await.unwrap();
        assert_eq!((shown.state, shown.revision, revision), ("PAUSED", 0, 0));
        assert_eq!(K::get(&world, &name).await, made, "a dry run moves nothing");

        let pause = to(&name, "ana", "on holiday");
        let (paused, revision) = K::pause(&world, pause.clone()).await.unwrap();
        let change = (paused.update_time, "ana".to_owned(), "on holiday".to_owned());
        assert_eq!((paused.state, &paused.change), ("PAUSED", &Some(change)));
        assert_eq!(paused.update_time, crate::world::at(5));
        assert!(revision > made.revision && paused.revision == revision);
        assert_eq!(K::get(&world, &name).await, paused);

        // Who finds it so moves nothing, and is not noted.
        world.clock.advance(Duration::from_secs(5));
        let again = K::pause(&world, to(&name, "eva", "for good")).await.unwrap();
        assert_eq!(again, (paused.clone(), revision));
        let dry = Move { validate_only: true, ..pause };
        assert_eq!(K::pause(&world, dry).await.unwrap(), (paused, 0));

        let (resumed, _) = K::resume(&world, to(&name, "eva", "")).await.unwrap();
        let change = (crate::world::at(10), "eva".to_owned(), String::new());
        assert_eq!((resumed.state, &resumed.change), ("ACTIVE", &Some(change)));
        assert_eq!(K::get(&world, &name).await, resumed);
    }

    pub async fn what_is_wrong_with_a_move_is_reported_at_once<K: Kind>() {
        let (world, name) = one::<K>().await;
        let long = "x".repeat(1025);
        let answer = K::pause(&world, to("acme", "ana", &long)).await;
        assert_wrong(answer, &[("name", "MALFORMED"), ("note", "TOO_LONG")]);
        let answer = K::resume(&world, to(&name, "ana", &long)).await;
        assert_wrong(answer, &[("note", "TOO_LONG")]);
        let none = K::name("acme", "none");
        let answer = K::pause(&world, to(&none, "ana", &long[1..])).await;
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }

    pub async fn only_the_server_says_who_moved_it<K: Kind>() {
        let (world, name) = one::<K>().await;
        for path in ["state", "state_change", "secrets_live"] {
            let answer = K::change(&world, &name, path).await;
            assert_wrong(answer, &[("update_mask.paths[0]", "UNKNOWN_FIELD")]);
        }
        let answer = K::change(&world, "acme", "name").await;
        let field = format!("{}.name", K::WORD);
        assert_wrong(answer, &[(&field, "MALFORMED"), ("update_mask.paths[0]", "IMMUTABLE")]);
    }

    pub async fn lists_are_filtered<K: Kind>() {
        let world = World::with_tenant().await;
        world.contract("mine", "").await;
        let every = Fields::default();
        let test = Fields { environment: v1::Environment::Test, ..every };
        let mine = Fields { contract: "contracts/mine", ..every };
        let blue = Fields { labels: &[("shop", "1"), ("hue", "blue")], ..every };
        for (id, fields) in [("a", every), ("b", test), ("c", mine), ("d", blue)] {
            K::create(&world, "acme", id, fields).await.unwrap();
        }
        K::pause(&world, to(&K::name("acme", "a"), "ana", "")).await.unwrap();
        let live = Fields { environment: v1::Environment::Live, ..every };
        for (wanted, ids) in [
            (every, "abcd"),
            (test, "b"),
            (live, "acd"),
            (mine, "c"),
            (blue, "d"),
            (Fields { labels: &[("hue", "blue")], ..every }, "d"),
            (Fields { labels: &[("hue", "red")], ..every }, ""),
            (Fields { paused: true, ..every }, "a"),
            (Fields { paused: true, ..mine }, ""),
        ] {
            let found = K::list(&world, wanted).await.unwrap();
            let ids: Vec<_> = ids.chars().map(|id| K::name("acme", &id.to_string())).collect();
            assert_eq!(found, ids);
        }
        let answer = K::list(&world, Fields { contract: "mine", ..every }).await;
        assert_wrong(answer, &[("contract", "MALFORMED")]);
    }
}
