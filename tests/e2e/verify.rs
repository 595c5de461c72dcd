//! Requests as received are judged by the official library of another language, over data of every
//! kind and through two rotations: with overlap either key is good, without it only the new one.

use serde_json::json;

use crate::harness::load::{Publisher, order};
use crate::harness::receiver::{Receiver, Request};
use crate::harness::shop::{Shop, subscription};
use crate::harness::verifier::{assert_good, verify};
use crate::harness::{World, eventually};
use crate::on_both;

on_both!(the_official_library_accepts_what_is_sent, key_states_follow_the_rotation,);

/// Event data that has been changed on the way elsewhere, or that nearly is something else.
const TEXTS: [&str; 24] = [
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "-0",
    "1.0",
    "1e2",
    "1.50E+2",
    "12345678901234567890123456789",
    "9007199254740993",
    "0.1000000000000000055511151231257827",
    r#""""#,
    r#""plain""#,
    r#""pregón, ñandú, naïve, 日本語, 🦀, \ud83e\udd80""#,
    "\"not escaped: \u{7f} \u{2028} \u{2029} \u{feff} < > & ' /\"",
    r#""escaped: \" \\ \/ \b \f \n \r \t \u0000 \u001f \u00e9""#,
    r#"{ "spaces" :  [ 1 , 2 ]  , "tab" :	true }"#,
    "{\n  \"lines\": [\n    1.0\n  ]\n}",
    r#"{"b":1,"a":2,"10":3,"9":4,"":5,"__proto__":6}"#,
    r#"{"data":{"type":"another","timestamp":"later"},"webhook-id":"x"}"#,
    r#"{"amount":10.00,"zero":0.0,"small":1e-9,"big":1e300}"#,
    r#"[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]"#,
    r#"{"caf\u00e9":"caf\u00e9","café2":"café"}"#,
];

/// Deliveries in each of the three stretches.
const EACH: usize = 80;

async fn the_official_library_accepts_what_is_sent<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let oldest = shop.secret("erp").await;
    let mut publisher = Publisher::new(pregon.target());

    let alone = stretch("alone", &shop, &mut publisher, &receiver).await;
    let middle = rotate(&mut shop, "3600s").await;
    let overlap = stretch("overlap", &shop, &mut publisher, &receiver).await;
    let newest = rotate(&mut shop, "0s").await;
    let after = stretch("after", &shop, &mut publisher, &receiver).await;

    let mut good: Vec<(&Request, &str)> = Vec::new();
    good.extend(alone.iter().map(|request| (request, oldest.as_str())));
    for key in [&oldest, &middle] {
        good.extend(overlap.iter().map(|request| (request, key.as_str())));
    }
    good.extend(after.iter().map(|request| (request, newest.as_str())));
    assert_good(&good).await;
    println!("{} verifications of {} deliveries", good.len(), 3 * EACH);

    // The judge can say no: to a key of another time, and to a byte that was changed.
    let mut bad: Vec<(&Request, &str)> = Vec::new();
    bad.extend(alone.iter().map(|request| (request, newest.as_str())));
    for key in [&oldest, &middle] {
        bad.extend(after.iter().map(|request| (request, key.as_str())));
    }
    let mut changed = after[0].clone();
    let mut body = changed.body.to_vec();
    let last = body.len() - 2;
    body[last] ^= 1;
    changed.body = body.into();
    bad.push((&changed, &newest));
    let verdicts = verify(&bad).await;
    assert!(verdicts.iter().all(Result::is_err), "{verdicts:?}");
}

/// Publishes some events, and gives their requests once all are there.
async fn stretch(
    name: &str,
    shop: &Shop,
    publisher: &mut Publisher,
    receiver: &Receiver,
) -> Vec<Request> {
    let before = receiver.requests("/hook").len();
    let data = |n: usize| match n.checked_sub(TEXTS.len()) {
        None => TEXTS[n].to_owned(),
        // Of every length, so that no border of a block or a buffer is left out.
        Some(more) => format!(r#"{{"n":{more},"text":"{}"}}"#, "ñ".repeat(more * 7)),
    };
    let requests = (0..EACH).map(|n| {
        let mut request = order(format!("{name}-{n}"), data(n));
        request.min_revision = shop.revision.parse().expect("a revision");
        request
    });
    publisher.publish(requests.collect()).await;
    let received = receiver.expect("/hook", before + EACH).await.split_off(before);
    for request in &received {
        let (_, n) = request.header("webhook-id").split_once('-').expect("an id of ours");
        let data = data(n.parse().expect("a number"));
        let end = format!(r#","data":{data}}}"#);
        assert!(request.text().ends_with(&end), "{} must end with {end}", request.text());
    }
    received
}

/// Rotates the secret; the new one.
async fn rotate(shop: &mut Shop, overlap: &str) -> String {
    let request = json!({"parent": subscription("erp"), "overlap": overlap});
    let answer = shop.write("SecretService/RotateSecret", request).await;
    let name = json!({"name": answer["secret"]["name"]});
    let shown = shop.grpc.ok("SecretService/RevealSecret", name).await;
    shown["material"].as_str().expect("an HMAC secret has material").to_owned()
}

async fn key_states_follow_the_rotation<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    rotate(&mut shop, "0s").await;
    let parent = json!({"parent": subscription("erp")});
    eventually("one key has expired and one signs", || async {
        let list = shop.all("SecretService/ListSecrets", "secrets", parent.clone()).await;
        let mut states: Vec<_> =
            list.iter().map(|secret| secret["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        if states == ["SECRET_STATE_ACTIVE", "SECRET_STATE_EXPIRED"] { Ok(()) } else { Err(list) }
    })
    .await;

    // The last key is kept: revoked or deleted only by force.
    let list = shop.all("SecretService/ListSecrets", "secrets", parent.clone()).await;
    let active = list.iter().find(|secret| secret["state"] == "SECRET_STATE_ACTIVE").unwrap();
    for method in ["SecretService/RevokeSecret", "SecretService/DeleteSecret"] {
        let refused = shop.grpc.refused(method, json!({"name": active["name"]})).await;
        assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "LAST_SECRET"));
    }

    // Without a key there is nothing to send: the delivery waits for one, and says so.
    let request = json!({"name": active["name"], "force": true});
    let answer = shop.write("SecretService/RevokeSecret", request).await;
    assert_eq!(answer["secret"]["state"], "SECRET_STATE_REVOKED");
    shop.publish("unsigned", "{}").await;
    let delivery = shop.delivery("unsigned", "erp", "PENDING").await;
    let attempt = eventually("it is known what is lacking", || async {
        shop.attempts(&delivery).await.pop().ok_or("no attempt")
    })
    .await;
    assert_eq!(attempt["errorClass"], "ERROR_CLASS_LOCAL", "{attempt}");
    assert_eq!(attempt["reason"], "no active secret", "{attempt}");
    assert_eq!(receiver.requests("/hook").len(), 0);
    rotate(&mut shop, "0s").await;
    shop.delivery("unsigned", "erp", "SUCCEEDED").await;
    assert_eq!(receiver.requests("/hook").len(), 1);
}
