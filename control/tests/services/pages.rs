//! Pages of lists that find little among much.

use std::time::{Duration, Instant};

use pregon_proto::v1;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_store::settlement::Transition;

use crate::world::{World, ask};

const ERP: &str = "tenants/acme/subscriptions/erp";
/// How long a page that has nothing yet goes on looking.
const PAGE_TIME: Duration = Duration::from_secs(5);

/// However few of the events a filter chooses, a page has some of them while there is time.
#[tokio::test]
async fn a_page_is_not_empty_while_there_is_more() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", None, "{}").await;
    let wanted = world.settle_new(&[lane], Transition::Succeeded).await.remove(0);
    for _ in 0..45 {
        world.publish_many("acme", 1000).await;
        world.settle_new(&[], Transition::Succeeded).await;
    }
    let mut request = v1::ListDeliveriesRequest {
        subscription: ERP.into(),
        parent: "tenants/acme".into(),
        ..Default::default()
    };
    let found = loop {
        let begun = Instant::now();
        let page = ask!(world.deliveries, list_deliveries, request.clone()).unwrap();
        if !page.deliveries.is_empty() || page.next_page_token.is_empty() {
            break page.deliveries;
        }
        // On a slow machine it may be, but not before the page has had its time.
        assert!(begun.elapsed() >= PAGE_TIME, "empty after {:?}", begun.elapsed());
        request.page_token = page.next_page_token;
    };
    let names: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [format!("tenants/acme/deliveries/{wanted}")]);
}
