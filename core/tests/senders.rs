//! The contracts that `docs/contracts.md` teaches with, held against the client libraries of the two
//! senders whose signatures they reproduce: Stripe's for Python and GitHub's for node, which
//! `scripts/tools.sh` installs. The documents are taken out of the page, so that it cannot rot.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use pregon_core::clock::{Clock as _, SystemClock, Timestamp};
use pregon_core::contract::{Contract, RenderInput, Signed, SigningKey, SigningKeys, render, sign};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{
    DeliveryKey, EventId, EventTypeId, LaneNo, Position, SecretId, SubscriptionId, TenantId,
};
use pregon_core::model::SecretAlgorithm;
use pregon_core::url::EndpointUrl;
use serde_json::{Value, json};

/// Event data that a careless sender or receiver would change.
const DATA: [&str; 5] = [
    r#"{"id":"in_1","amount":1099}"#,
    r#"{ "name": "Íñigo Peña", "emoji": "😀", "zero": 1.0, "big": 12345678901234567890 }"#,
    r#"{"escaped":"\u00e9\/\u2028","raw":"é/ <&>'\"","list":[1, 2.50, -0, 1E2, null]}"#,
    r#"{"z":1,"a":2,"10":3,"9":4}"#,
    r#"{"empty":{},"text":""}"#,
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or directory of `.tools`.
fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools").join(name);
    assert!(path.exists(), "{} is not there: run scripts/tools.sh first", path.display());
    path
}

/// Every contract of the page. Keys that it shows by themselves become one, too.
fn documents() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/contracts.md")).unwrap();
    let fences = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole = |text: &str| match text.starts_with("contract: ") {
        true => text.to_owned(),
        false => format!("contract: part\n{text}types: [{{ type: a, example: '{{}}' }}]\n"),
    };
    fences.map(whole).collect()
}

/// The page's contract of this id.
fn contract(id: &str) -> Contract {
    let first = format!("contract: {id}\n");
    let document = documents().into_iter().find(|text| text.starts_with(&first));
    let document = document.unwrap_or_else(|| panic!("docs/contracts.md has no contract {id}"));
    Contract::read(&document, 1).unwrap_or_else(|faults| panic!("{id}: {faults:#?}"))
}

fn key(contract: &Contract, text: &str, from: Timestamp, until: Option<Timestamp>) -> SigningKey {
    let secret = contract.secret().form.parse(text).unwrap();
    let id = SecretId::parse(&format!("k{}", from.millis())).unwrap();
    SigningKey::new(id, SecretAlgorithm::Hmac, &secret, from, until).unwrap()
}

/// An event rendered and signed as an attempt at this moment would send it.
fn sent(contract: &Contract, kind: &str, data: &str, at: Timestamp, keys: &SigningKeys) -> Signed {
    let event = Event {
        position: Position { ms: 1_700_000_000_000, partition: 0, n: 1 },
        tenant: TenantId::parse("acme").unwrap(),
        id: EventId::parse("evt_1").unwrap(),
        version: 0,
        event_type: EventTypeId::parse(kind).unwrap(),
        environment: Environment::Live,
        given_occur_time: None,
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: BTreeMap::new(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    };
    let labels = BTreeMap::new();
    let input = RenderInput {
        event: &event,
        tenant_labels: &labels,
        delivery: DeliveryKey { position: event.position, lane: LaneNo(1), replay: None },
        create_time: at,
        test: false,
        subscription: &SubscriptionId::parse("s").unwrap(),
        subscription_labels: &labels,
        url: &EndpointUrl::parse_stored("https://example.com/hook").unwrap(),
        attempt: 1,
        attempt_time: at,
        user_agent: &Bytes::from_static(b"Pregon"),
    };
    sign(contract, &render(contract, &input).unwrap(), &input, keys).unwrap()
}

fn header<'a>(signed: &'a Signed, name: &str) -> &'a str {
    let line = signed.headers.iter().find(|line| *line.name == *name);
    std::str::from_utf8(&line.unwrap_or_else(|| panic!("no {name}")).value).unwrap()
}

/// The body with one letter of its data changed.
fn tampered(body: &[u8]) -> Vec<u8> {
    let at = body.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
    let mut body = body.to_vec();
    body[at] = if body[at] == b'1' { b'2' } else { b'1' };
    body
}

/// Gives a program one line for each case and takes one answer for each.
fn ask(mut program: Command, cases: &[Value]) -> Vec<Value> {
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("cannot run {program:?} ({error}): run scripts/tools.sh first")
    });
    // Few lines, far below what a pipe holds: neither side waits for the other.
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program:?} failed; its error is above; it wrote {text}");
    let answers: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

/// Python in the virtual environment that has the library, which has to be there.
fn python(program: &str) -> Command {
    let mut command = Command::new(tool("python/bin/python"));
    let found = Command::new(tool("python/bin/python")).args(["-c", "import stripe"]).output();
    assert!(found.unwrap().status.success(), "stripe is not installed: run scripts/tools.sh first");
    command.arg(root().join("core/tests/senders").join(program));
    command
}

/// Node, of the machine or of `.tools`, with the library's directory as its argument.
fn node(program: &str) -> Command {
    let library = tool("node_modules/@octokit/webhooks-methods");
    let own = root().join(".tools/bin/node");
    let mut command = Command::new(if own.exists() { own } else { "node".into() });
    command.arg(root().join("core/tests/senders").join(program)).arg(library);
    command
}

#[test]
fn every_contract_of_the_page_is_one() {
    let documents = documents();
    assert_eq!(documents.len(), 10, "the page has been read whole");
    for document in documents {
        if let Err(faults) = Contract::read(&document, 1) {
            panic!("{faults:#?} in\n{document}");
        }
    }
}

#[test]
fn stripes_library_accepts_what_its_contract_signs() {
    let contract = contract("payments");
    let (old, new) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ñandú_ABCDEFGHIJ0123456789");
    let now = SystemClock.now();
    let second = Duration::from_secs(1);
    let begin = now.minus(1000 * second);
    let one = SigningKeys::new(vec![key(&contract, old, begin, None)]);
    let both = SigningKeys::new(vec![
        key(&contract, old, begin, Some(now.plus(second))),
        key(&contract, new, now, None),
    ]);
    let case = |signed: &Signed, body: &[u8], secret: &str, tolerance: Option<u32>| {
        let header = header(signed, "stripe-signature");
        json!({ "secret": secret, "header": header, "body": BASE64.encode(body), "tolerance": tolerance })
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for data in DATA {
        let signed = sent(&contract, "invoice.paid", data, now, &one);
        good.push(case(&signed, &signed.body, old, Some(300)));
        bad.push(case(&signed, &tampered(&signed.body), old, Some(300)));
        bad.push(case(&signed, &signed.body, new, Some(300)));

        let rotating = sent(&contract, "invoice.paid", data, now, &both);
        assert_eq!(header(&rotating, "stripe-signature").matches("v1=").count(), 2);
        good.push(case(&rotating, &rotating.body, old, Some(300)));
        good.push(case(&rotating, &rotating.body, new, Some(300)));
        bad.push(case(&rotating, &tampered(&rotating.body), new, Some(300)));
        bad.push(case(&rotating, &rotating.body, "whsec_other", Some(300)));

        let after = sent(&contract, "invoice.paid", data, now.plus(second), &both);
        good.push(case(&after, &after.body, new, Some(300)));
        bad.push(case(&after, &after.body, old, Some(300)));

        // What was signed ten minutes ago is good, and too old for a receiver that minds.
        let before = sent(&contract, "invoice.paid", data, now.minus(600 * second), &one);
        good.push(case(&before, &before.body, old, None));
        bad.push(case(&before, &before.body, old, Some(300)));
    }
    for (case, answer) in good.iter().zip(ask(python("verify_stripe.py"), &good)) {
        assert_eq!(answer, json!({ "ok": true, "id": "evt_1", "type": "invoice.paid" }), "{case}");
    }
    for (case, answer) in bad.iter().zip(ask(python("verify_stripe.py"), &bad)) {
        assert_eq!(answer["ok"], false, "{case}: {answer}");
    }
}

#[test]
fn githubs_library_accepts_what_its_contract_signs() {
    let contract = contract("repository");
    let (old, new) = ("It's a Secret to Everybody", "otro secreto: ñandú");
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let keys = SigningKeys::new(vec![
        key(&contract, old, at(0), Some(at(200))),
        key(&contract, new, at(100), None),
    ]);
    let case = |signed: &Signed, body: &[u8], secret: &str, others: &[&str]| {
        let header = header(signed, "x-hub-signature-256");
        json!({ "secret": secret, "header": header, "body": BASE64.encode(body), "others": others })
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for data in DATA {
        let before = sent(&contract, "issues", data, at(99), &keys);
        assert_eq!(before.body, data);
        assert_eq!(header(&before, "x-github-event"), "issues");
        good.push(case(&before, &before.body, old, &[]));
        bad.push(case(&before, &before.body, new, &[]));
        bad.push(case(&before, &tampered(&before.body), old, &[]));

        // One value has room for one key: the new one signs alone from its first moment on, and a
        // receiver that knows both bridges the switch.
        let after = sent(&contract, "issues", data, at(100), &keys);
        good.push(case(&after, &after.body, new, &[]));
        bad.push(case(&after, &after.body, old, &[]));
        for signed in [&before, &after] {
            good.push(case(signed, &signed.body, new, &[old]));
            bad.push(case(signed, &tampered(&signed.body), new, &[old]));
        }
    }
    for (case, answer) in good.iter().zip(ask(node("verify_github.mjs"), &good)) {
        assert_eq!(answer["ok"], true, "{case}");
    }
    for (case, answer) in bad.iter().zip(ask(node("verify_github.mjs"), &bad)) {
        assert_eq!(answer["ok"], false, "{case}");
    }
}
