//! The tenant that most stories are about: `tenants/acme`, which publishes `order.captured`.

use serde_json::{Value, json};

use super::{Grpcurl, Receiver, eventually};

/// The event type of most stories.
pub const TYPE: &str = "order.captured";

/// A tenant with its subscriptions, by grpcurl.
#[derive(Debug)]
pub struct Shop {
    /// grpcurl to the server.
    pub grpc: Grpcurl,
    /// The last revision that a write of ours made; publishes wait for it.
    pub revision: String,
}

impl Shop {
    /// Creates the tenant and the event type.
    pub async fn open(grpc: Grpcurl) -> Self {
        let mut shop = Self { grpc, revision: String::new() };
        shop.write("TenantService/CreateTenant", json!({"tenant_id": "acme", "tenant": {}})).await;
        shop.write(
            "EventTypeService/CreateEventType",
            json!({"event_type_id": TYPE, "event_type": {}}),
        )
        .await;
        shop
    }

    /// Makes a configuration write that must succeed, and remembers its revision.
    pub async fn write(&mut self, method: &str, request: Value) -> Value {
        let answer = self.grpc.ok(method, request).await;
        self.revision = answer["revision"].as_str().expect("a write has a revision").to_owned();
        answer
    }

    /// Waits until every node serves the last revision.
    pub async fn served(&self) {
        let wait = json!({"revision": self.revision, "timeout": "30s"});
        let answer = self.grpc.ok("NodeService/WaitForRevision", wait).await;
        assert_eq!(answer["served"], true, "{answer}");
    }

    /// Subscribes a path of a receiver to every order.
    pub async fn subscribe(&mut self, id: &str, receiver: &Receiver, path: &str) -> Value {
        self.subscribe_with(id, json!({"url": receiver.url(path)})).await
    }

    /// Subscribes to every order, with these fields.
    pub async fn subscribe_with(&mut self, id: &str, mut fields: Value) -> Value {
        if fields.get("event_types").is_none() {
            fields["event_types"] = json!(["order.*"]);
        }
        let request =
            json!({"parent": "tenants/acme", "subscription_id": id, "subscription": fields});
        self.write("SubscriptionService/CreateSubscription", request).await
    }

    /// Moves a subscription by `Pause`, `Resume` or `Disable`.
    pub async fn turn(&mut self, how: &str, id: &str) -> Value {
        let mut request = json!({"name": subscription(id)});
        if how == "Disable" {
            request["reason"] = json!("a story needs it");
        }
        self.write(&format!("SubscriptionService/{how}Subscription"), request).await
    }

    /// Publishes an order with this data at the last revision.
    pub async fn publish(&self, id: &str, data: &str) -> Value {
        self.grpc.ok("EventService/Publish", self.request(id, data)).await
    }

    /// The request that publishes an order.
    pub fn request(&self, id: &str, data: &str) -> Value {
        json!({
            "tenant": "tenants/acme",
            "min_revision": self.revision,
            "event": {"id": id, "type": TYPE, "json": data},
        })
    }

    /// The secret's material of a subscription that has one.
    pub async fn secret(&self, id: &str) -> String {
        let parent = subscription(id);
        let list = self.grpc.ok("SecretService/ListSecrets", json!({"parent": parent})).await;
        let name = list["secrets"][0]["name"].clone();
        let shown = self.grpc.ok("SecretService/RevealSecret", json!({"name": name})).await;
        shown["material"].as_str().expect("an HMAC secret has material").to_owned()
    }

    /// All deliveries that filters choose, over all pages.
    pub async fn deliveries(&self, filters: Value) -> Vec<Value> {
        self.all("DeliveryService/ListDeliveries", "deliveries", filters).await
    }

    /// All items of a list of this tenant, over all pages.
    pub async fn all(&self, method: &str, field: &str, mut request: Value) -> Vec<Value> {
        if request.get("parent").is_none() {
            request["parent"] = json!("tenants/acme");
        }
        let mut items = Vec::new();
        loop {
            let mut page = self.grpc.ok(method, request.clone()).await;
            items.append(page[field].as_array_mut().expect("a list"));
            match page["nextPageToken"].as_str() {
                None | Some("") => return items,
                Some(token) => request["page_token"] = json!(token),
            }
        }
    }

    /// Waits for the one delivery of an event to a subscription to reach a state.
    pub async fn delivery(&self, event: &str, id: &str, state: &str) -> Value {
        let filters = json!({
            "event": format!("tenants/acme/events/{event}"), "subscription": subscription(id),
        });
        let wanted = format!("DELIVERY_STATE_{state}");
        eventually(&format!("the delivery of {event} to {id} is {state}"), || async {
            let mut found = self.deliveries(filters.clone()).await;
            match found.as_slice() {
                [one] if one["state"] == wanted.as_str() => Ok(found.remove(0)),
                _ => Err(found),
            }
        })
        .await
    }

    /// All attempts of a delivery.
    pub async fn attempts(&self, delivery: &Value) -> Vec<Value> {
        let request = json!({"parent": delivery["name"]});
        self.all("DeliveryService/ListAttempts", "attempts", request).await
    }

    /// Waits until nothing is pending and the books balance, and gives the counts.
    pub async fn settled(&self) -> Value {
        eventually("nothing is pending and the books balance", || async {
            let report = self.grpc.report("tenants/acme").await;
            let idle =
                report["deliveries"]["pending"] == "0" && report["events"]["awaitingMatch"] == "0";
            if idle && balanced(&report).is_ok() { Ok(report) } else { Err(report) }
        })
        .await
    }
}

/// Whether the sums of a report hold and nothing is lost from sight.
pub fn balanced(report: &Value) -> Result<(), String> {
    let count = |part: &str, name: &str| {
        let text = report[part][name].as_str().expect("counts are 64 bit, so text");
        text.parse::<i64>().expect("a count")
    };
    let sum = |part: &str, names: &[&str]| names.iter().map(|name| count(part, name)).sum::<i64>();
    let events = sum("events", &["matched", "unmatched", "awaitingMatch"]);
    let deliveries = sum("deliveries", &["succeeded", "failed", "cancelled", "pending"]);
    let holds = count("events", "accepted") == events
        && count("deliveries", "created") == deliveries
        && report["orphans"].as_array().is_none_or(Vec::is_empty);
    if holds { Ok(()) } else { Err(report.to_string()) }
}

/// Resource name of a subscription of the tenant.
pub fn subscription(id: &str) -> String {
    format!("tenants/acme/subscriptions/{id}")
}
