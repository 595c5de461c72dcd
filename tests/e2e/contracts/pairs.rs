//! Signatures of RSA and ECDSA, through a rotation, judged by another library; and a subscription
//! that begins paused with secrets of its own, so that nothing is signed with another key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::receiver::{Receiver, Request};
use crate::harness::shop::{Shop, subscription};
use crate::harness::verifier::judge;
use crate::harness::{World, eventually, root};
use crate::on_both;

on_both!(receivers_accept_both_keys_of_a_rotation,);

const PAIRS: &str = r#"
contract: pairs
event_types: [order.*]
body: "${event.data}"
secret: { required: true }
signatures:
  - { name: rsa, algorithm: rsa_sha256, encoding: base64, header: x-rsa, separator: " " }
  - { name: p256, algorithm: ecdsa_p256, encoding: base64, header: x-p256, separator: " " }
examples:
  - event: { type: order.captured, data: '{}' }
"#;

/// What a request is signed with: the header, and the algorithm in the contract.
const SIGNED: [(&str, &str); 2] = [("x-rsa", "rsa_sha256"), ("x-p256", "ecdsa_p256")];

async fn receivers_accept_both_keys_of_a_rotation<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let request = json!({"contract_id": "pairs", "contract": {"document": PAIRS}});
    shop.write("ContractService/CreateContract", request).await;

    // It begins paused, with a key that the receiver has already and one that is made.
    let file = |name: &str| {
        std::fs::read_to_string(root().join(format!("core/testdata/keys/{name}.pem"))).unwrap()
    };
    let request = json!({
        "parent": "tenants/acme", "subscription_id": "erp",
        "subscription": {
            "url": receiver.url("/hook"), "contract": "contracts/pairs", "event_types": ["order.*"],
            "state": "SUBSCRIPTION_STATE_PAUSED",
        },
        "secrets": [
            {"secret_id": "own", "algorithm": "SECRET_ALGORITHM_RSA", "material": file("rsa2048")},
            {"secret_id": "made", "algorithm": "SECRET_ALGORITHM_ECDSA_P256"},
        ],
    });
    let made = shop.write("SubscriptionService/CreateSubscription", request).await;
    assert_eq!(made["subscription"]["state"], "SUBSCRIPTION_STATE_PAUSED");
    assert_eq!(made["subscription"]["secretsLive"], 2);
    shop.publish("e1", r#"{"n":1}"#).await;
    let filters = json!({"event": "tenants/acme/events/e1"});
    eventually("e1 waits for the resume", || async {
        let found = shop.deliveries(filters.clone()).await;
        match found.as_slice() {
            [one] if one["pendingReason"] == "PENDING_REASON_PAUSED" => Ok(()),
            _ => Err(found),
        }
    })
    .await;
    assert!(receiver.requests("/hook").is_empty());
    shop.turn("Resume", "erp").await;
    shop.delivery("e1", "erp", "SUCCEEDED").await;
    let before = publics(&shop).await;
    assert_eq!(before.len(), 2);
    let first = receiver.expect("/hook", 1).await.remove(0);
    for (header, algorithm) in SIGNED {
        let of = only(&before, algorithm);
        assert_eq!(fitting(&first, header, algorithm, &[of]).await, [[true]], "{algorithm}");
    }

    // Both kinds are rotated: for the overlap every request bears both keys' signatures.
    for algorithm in ["SECRET_ALGORITHM_RSA", "SECRET_ALGORITHM_ECDSA_P256"] {
        let request =
            json!({"parent": subscription("erp"), "algorithm": algorithm, "overlap": "3600s"});
        shop.write("SecretService/RotateSecret", request).await;
    }
    let after = publics(&shop).await;
    assert_eq!(after.len(), 4);
    shop.publish("e2", r#"{"n":2}"#).await;
    let second = receiver.expect("/hook", 2).await.remove(1);
    let mut changed = second.clone();
    changed.body = r#"{"n":3}"#.into();
    for (header, algorithm) in SIGNED {
        let old = only(&before, algorithm);
        let new = after.iter().find(|it| it.0 == algorithm && it.1 != old).unwrap();
        // The newest stands first.
        let keys = [new.1.as_str(), old];
        let both = fitting(&second, header, algorithm, &keys).await;
        assert_eq!(both, [[true, false], [false, true]], "{algorithm}");
        let none = fitting(&changed, header, algorithm, &keys).await;
        assert_eq!(none, [[false; 2]; 2], "{algorithm}");
    }
    assert!(!pregon.output().contains("PRIVATE KEY"), "a key is in the log");
}

/// The public keys of the subscription: the algorithm in the contract, and PEM.
async fn publics(shop: &Shop) -> Vec<(&'static str, String)> {
    let list =
        shop.all("SecretService/ListSecrets", "secrets", json!({"parent": subscription("erp")}));
    let of = |secret: &Value| {
        let algorithm = match secret["algorithm"].as_str() {
            Some("SECRET_ALGORITHM_RSA") => "rsa_sha256",
            Some("SECRET_ALGORITHM_ECDSA_P256") => "ecdsa_p256",
            other => panic!("{other:?}"),
        };
        (algorithm, secret["publicKeyPem"].as_str().unwrap().to_owned())
    };
    list.await.iter().map(of).collect()
}

/// The one key of an algorithm.
fn only<'a>(keys: &'a [(&str, String)], algorithm: &str) -> &'a str {
    let mut found = keys.iter().filter(|(of, _)| *of == algorithm);
    let (Some((_, public)), None) = (found.next(), found.next()) else { panic!("{keys:?}") };
    public
}

/// For each signature in a header, under which of these keys it is good.
async fn fitting(
    request: &Request,
    header: &str,
    algorithm: &str,
    keys: &[&str],
) -> Vec<Vec<bool>> {
    let signatures: Vec<_> = request.header(header).split(' ').collect();
    let line = |signature: &&str, public: &&str| {
        json!({
            "algorithm": algorithm, "public": public, "signature": signature,
            "signed": STANDARD.encode(&request.body),
        })
    };
    let lines: Vec<_> = signatures
        .iter()
        .flat_map(|signature| keys.iter().map(move |public| line(signature, public)))
        .collect();
    let verdicts = judge("pairs.py", &lines).await;
    verdicts.chunks(keys.len()).map(|each| each.iter().map(Result::is_ok).collect()).collect()
}
