//! How much slower a modest tenant's deliveries become beside each kind of neighbour, by turns:
//! printed, not asserted. `cargo test --release --test e2e -- --ignored --nocapture --test-threads 1
//! neighbours::measured`

use pregon_proto::v1::subscription_service_client::SubscriptionServiceClient;
use pregon_proto::v1::{CreateSubscriptionRequest, Subscription};

use super::*;
use crate::harness::{Planes, Standalone};

macro_rules! measured {
    ($world:ident as $module:ident: $($story:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "it measures for minutes"]
                async fn $story() {
                    Box::pin(super::$story::<super::$world>()).await;
                }
            )+
        }
    };
}

measured!(
    Standalone as standalone:
        beside_costly_filters,
        beside_filters_at_their_budget,
        beside_ten_thousand_filters,
        beside_receivers_that_hang,
        beside_a_flood
);
measured!(
    Planes as planes:
        beside_costly_filters,
        beside_filters_at_their_budget,
        beside_ten_thousand_filters,
        beside_receivers_that_hang,
        beside_a_flood
);

/// Turns alone and beside, each with so many events of the modest tenant.
const TURNS: usize = 6;
const TURN: usize = 250;
/// Subscriptions with filters: as many as a tenant may have. Events a second to them, and writers at
/// once that make them.
const FILTERS: usize = 10_000;
const FILTERED_RATE: u32 = 100;
const WRITERS: usize = 8;
/// Costly events of a turn: more than the nodes match while it lasts.
const COSTLY: usize = 40;

/// Prints p50 and p99 of both, and how they compare.
fn compare(name: &str, mut alone: Vec<Duration>, mut beside: Vec<Duration>) {
    alone.sort();
    beside.sort();
    let at = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100];
    let ratio = at(&beside, 99).as_secs_f64() / at(&alone, 99).as_secs_f64();
    println!(
        "{name}: alone p50 {:?}, p99 {:?}; beside p50 {:?}, p99 {:?}: {ratio:.2} of p99",
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99),
    );
}

/// Waits until what the other tenant has published is matched.
async fn idle<W: World>(town: &Town<W>) {
    within(Duration::from_secs(300), "the other tenant's events are matched", || async {
        let report = town.shop.grpc.report("tenants/greedy").await;
        let awaits = report["events"]["awaitingMatch"].clone();
        if awaits == "0" { Ok(()) } else { Err(awaits) }
    })
    .await;
}

/// Regular expressions over large text.
async fn beside_costly_filters<W: World>() {
    let clause = "event.data.s.matches(\"^(a|aa|b)*c$\")";
    let filter = [clause; 8].join(" || ");
    let data = format!(r#"{{"s":"{}"}}"#, "a".repeat(200_000));
    beside_filters::<W>(filter, data).await;
}

/// Small events that become large within the filter, until it may do no more.
async fn beside_filters_at_their_budget<W: World>() {
    let doubled = format!("[event.data.s]{}", ".map(a, a + a)".repeat(16));
    let clauses = ["a.split(\"\").size() == 0"; 10].join(" || ");
    let filter = format!("{doubled}.exists(a, {clauses})");
    beside_filters::<W>(filter, r#"{"s":"x"}"#.to_owned()).await;
}

async fn beside_filters<W: World>(filter: String, data: String) {
    let mut town = Town::<W>::open().await;
    for n in 0..60 {
        let url = town.receiver.url("/greedy");
        town.subscribe(n, json!({"url": url, "filter": filter.clone()})).await;
    }
    town.shop.served().await;
    // Large events take their time whoever matches them; without the filters is beside events of the
    // same size that no subscription may get.
    let (mut alone, mut unfiltered, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        alone.extend(town.modest(&format!("alone-{turn}"), TURN).await);
        let ids = (0..COSTLY).map(|n| format!("large-{turn}-{n}"));
        town.publish_in(Environment::Test, ids, &data).await;
        unfiltered.extend(town.modest(&format!("unfiltered-{turn}"), TURN).await);
        town.publish((0..COSTLY).map(|n| format!("costly-{turn}-{n}")), &data).await;
        beside.extend(town.modest(&format!("beside-{turn}"), TURN).await);
        let report = town.shop.grpc.report("tenants/greedy").await;
        println!("still {} to match after the turn", report["events"]["awaitingMatch"]);
        idle(&town).await;
    }
    compare("events of the same size without filters", alone, unfiltered.clone());
    compare("filters over the same without them", unfiltered, beside);
    town.check_end(3 * TURNS * TURN).await;
}

/// As many subscriptions as a tenant may have, each with a filter, and a hundred events a second to
/// them, each of which one of them wants.
async fn beside_ten_thousand_filters<W: World>() {
    let mut town = Town::<W>::open().await;
    let limits = json!({"tenant": {
        "name": "tenants/greedy", "limits": {"max_subscriptions": FILTERS},
    }});
    town.shop.write("TenantService/UpdateTenant", limits).await;
    let management = Endpoint::from_shared(format!("http://{}", town.pregon.management()));
    let channel = management.expect("an address").connect().await.expect("it listens");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (channel, url) = (channel.clone(), town.receiver.url("/greedy"));
        writers.spawn(async move {
            let mut client = SubscriptionServiceClient::new(channel);
            for n in (writer..FILTERS).step_by(WRITERS) {
                let request = CreateSubscriptionRequest {
                    parent: "tenants/greedy".into(),
                    subscription_id: format!("f{n}"),
                    subscription: Some(Subscription {
                        url: url.clone(),
                        event_types: vec!["order.*".into()],
                        filter: format!("event.data.n == {n}"),
                        ..Subscription::default()
                    }),
                    ..CreateSubscriptionRequest::default()
                };
                client.create_subscription(request).await.expect("a subscription");
            }
        });
    }
    writers.join_all().await;
    let named = json!({"tenant": {"name": "tenants/greedy", "display_name": "all are made"}});
    town.shop.write("TenantService/UpdateTenant", named).await;
    town.shop.served().await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        alone.extend(town.modest(&format!("alone-{turn}"), TURN).await);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, mut publisher) = (Arc::clone(&stop), Publisher::new(town.pregon.target()));
        let filtered = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / FILTERED_RATE);
            let mut published = 0;
            while !told.load(Ordering::Relaxed) {
                ticks.tick().await;
                let data = format!("{{\"n\":{}}}", published * 7919 % FILTERS);
                publisher.publish(vec![greedy(format!("f-{turn}-{published}"), &data)]).await;
                published += 1;
            }
            published
        });
        beside.extend(town.modest(&format!("beside-{turn}"), TURN).await);
        stop.store(true, Ordering::Relaxed);
        let published = filtered.await.expect("it publishes");
        let report = town.shop.grpc.report("tenants/greedy").await;
        println!("{published} published, {} still to match", report["events"]["awaitingMatch"]);
        idle(&town).await;
    }
    compare("ten thousand filters, a hundred events a second", alone, beside);
    town.check_end(2 * TURNS * TURN).await;
}

async fn beside_receivers_that_hang<W: World>() {
    let mut town = Town::<W>::open().await;
    let mut alone = Vec::new();
    for turn in 0..TURNS {
        alone.extend(town.modest(&format!("alone-{turn}"), TURN).await);
    }
    for n in 0..SUBSCRIPTIONS {
        let url = town.receiver.url(&format!("/hang/{n}"));
        town.subscribe(n, json!({"url": url})).await;
    }
    town.shop.served().await;
    town.publish((0..20).map(|n| format!("hang-{n}")), "{}").await;
    let mut beside = Vec::new();
    for turn in 0..TURNS {
        beside.extend(town.modest(&format!("beside-{turn}"), TURN).await);
    }
    compare("receivers that hang", alone, beside);
    town.check_end(2 * TURNS * TURN).await;
}

async fn beside_a_flood<W: World>() {
    let town = Town::<W>::open().await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        alone.extend(town.modest(&format!("alone-{turn}"), TURN).await);
        let flood = Flood::start(&town.pregon).await;
        beside.extend(town.modest(&format!("beside-{turn}"), TURN).await);
        println!("{} calls of the flood were answered", flood.end().await);
        idle(&town).await;
    }
    compare("a flood of calls", alone, beside);
    town.check_end(2 * TURNS * TURN).await;
}
