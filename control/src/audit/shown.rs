//! Resources in entries: what the API shows of them, as bounded JSON.

use std::sync::LazyLock;

use pregon_core::clock::Timestamp;
use pregon_core::model::Resource;
use pregon_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value};

use crate::catalog::Stored;
use crate::{api_keys, contracts, event_types, receiver, secrets, tenants};

/// Bytes of a text of JSON.
const LEN: usize = 8 * 1024;
/// To which lengths texts within it are cut, one after the other, until it is short enough.
const CUTS: [usize; 3] = [1024, 256, 64];

/// The API's messages; none only if the descriptor set of this very build could not be read.
static MESSAGES: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// A resource of this revision (0: it has none yet) as JSON text, and whether it was cut.
pub(crate) fn text(resource: Resource, revision: i64, now: Timestamp) -> (String, bool) {
    fn stored<T>(value: T, revision: i64) -> Stored<T> {
        Stored { value, revision, size: 0 }
    }
    let value = match resource {
        Resource::Tenant(it) => json("Tenant", &tenants::to_wire(&stored(it, revision))),
        Resource::EventType(it) => json("EventType", &event_types::to_wire(&stored(it, revision))),
        Resource::Subscription(it) => {
            json("Subscription", &receiver::to_wire(&stored(it, revision), 0))
        }
        Resource::Contract(it) => {
            json("Contract", &contracts::to_wire(&stored(it, revision), None))
        }
        Resource::Callback(it) => json("Callback", &receiver::to_wire(&stored(it, revision), 0)),
        Resource::Secret(it) => json("Secret", &secrets::to_wire(&stored(it, revision), now)),
        Resource::ApiKey(it) => json("ApiKey", &api_keys::to_wire(&stored(it, revision), now)),
    };
    value.map_or_else(|| (String::new(), true), bounded)
}

/// A message in the form of JSON that gRPC's tools show.
fn json(name: &str, message: &impl Message) -> Option<Value> {
    let found = MESSAGES.as_ref()?.get_message_by_name(&format!("pregon.v1.{name}"))?;
    let message = DynamicMessage::decode(found, message.encode_to_vec().as_slice()).ok()?;
    let mut value = serde_json::to_value(message).ok()?;
    if let Some(members) = value.as_object_mut() {
        // What is not committed yet has none.
        if members.get("revision").is_none() {
            members.remove("etag");
        }
    }
    Some(value)
}

/// The text of a value, with texts in it cut until it fits; else of those of its members that fit.
fn bounded(mut value: Value) -> (String, bool) {
    let text = value.to_string();
    if text.len() <= LEN {
        return (text, false);
    }
    for most in CUTS {
        cut(&mut value, most);
        let text = value.to_string();
        if text.len() <= LEN {
            return (text, true);
        }
    }
    let mut kept = Map::new();
    let mut room = LEN;
    for (name, member) in value.as_object_mut().map(std::mem::take).unwrap_or_default() {
        let len = name.len() + member.to_string().len() + 8;
        if let Some(left) = room.checked_sub(len) {
            room = left;
            kept.insert(name, member);
        }
    }
    (Value::Object(kept).to_string(), true)
}

/// Cuts all texts in a value to so many bytes, and marks where.
fn cut(value: &mut Value, most: usize) {
    match value {
        Value::String(text) if text.len() > most => {
            text.truncate(text.floor_char_boundary(most));
            text.push('…');
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut(item, most)),
        Value::Object(members) => members.values_mut().for_each(|member| cut(member, most)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use pregon_proto::v1;

    use super::*;

    #[test]
    fn a_message_is_shown_as_grpcurl_shows_it() {
        let tenant = v1::Tenant {
            name: "tenants/acme".into(),
            display_name: "Acme".into(),
            create_time: crate::map::moment(Timestamp::from_millis(1_790_000_000_000)),
            etag: "none".into(),
            ..Default::default()
        };
        let shown = json("Tenant", &tenant).unwrap();
        assert_eq!(shown["displayName"], "Acme");
        assert_eq!(shown["createTime"], "2026-09-21T14:13:20Z");
        assert_eq!(shown.get("etag"), None);
        let stored = v1::Tenant { revision: 7, ..tenant };
        assert_eq!(json("Tenant", &stored).unwrap()["revision"], "7");
    }

    #[test]
    fn whatever_it_is_its_text_is_bounded_json() {
        let long = "ñ".repeat(20 * LEN);
        let many: Vec<Value> = (0..2 * LEN).map(Value::from).collect();
        for value in [
            serde_json::json!({"name": "contracts/c", "document": long}),
            serde_json::json!({"name": "contracts/c", "labels": many}),
            serde_json::json!({"name": "contracts/c", "texts": vec![long; 200]}),
        ] {
            let (text, truncated) = bounded(value);
            assert!(truncated && text.len() <= LEN, "{}", text.len());
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["name"], "contracts/c");
        }
        assert_eq!(bounded(serde_json::json!({"a": 1})), ("{\"a\":1}".to_owned(), false));
    }
}
