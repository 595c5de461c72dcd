//! When deliveries are sent: `retry` and `timeouts`, by deciding one attempt after the other over a
//! clock that jumps to the moment of the next.

use std::time::Duration;

use super::accepted::read;
use crate::clock::Timestamp;
use crate::contract::tests::{Around, event};
use crate::contract::{Contract, builtins, render};
use crate::event::Event;
use crate::outcome::{Answer, EndReason, ErrorClass, Outcome, Reply, Timings, decide};
use bytes::Bytes;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// One send: how long after the first, how long it could take, its body.
struct Send {
    offset: Duration,
    timeout: Duration,
    body: String,
}

fn built_in(name: &str) -> std::sync::Arc<Contract> {
    let found = builtins().iter().find(|it| it.contract.id().as_str() == name).unwrap();
    found.contract.clone()
}

/// A receiver that answers 503 with a Retry-After, at once.
fn busy() -> Reply {
    Reply::Response {
        status: 503,
        judged: Default::default(),
        retry_after: Some(Duration::from_secs(90_000)),
    }
}

/// A receiver that answers with this status, judged by the contract.
fn answering(contract: &Contract, event: &Event, status: u16) -> Reply {
    let (around, body) = (Around::at(0), Bytes::new());
    let answer = Answer { status, headers: &[], body: &body };
    let judged = contract.judge(&answer, &around.input(event));
    Reply::Response { status, judged, retry_after: None }
}

/// A receiver that never answers.
fn silent() -> Reply {
    Reply::Fault { class: ErrorClass::Timeout, detail: "".into(), again: None }
}

/// Sends until the delivery fails. Every attempt takes `took` of its timeout.
fn sends(
    contract: &Contract,
    event: &Event,
    reply: &Reply,
    took: impl Fn(Duration) -> Duration,
) -> Vec<Send> {
    let start = Timestamp::from_millis(1_700_000_000_000);
    let (mut now, mut made) = (start, Vec::new());
    for attempt in 1.. {
        let mut around = Around::at(0);
        (around.attempt, around.attempt_time) = (attempt, now);
        let body = render(contract, &around.input(event)).unwrap().body;
        let timeout = contract.timeout(attempt);
        let body = String::from_utf8(body.to_vec()).unwrap();
        made.push(Send { offset: now.since(start), timeout, body });
        let took = took(timeout);
        let end = now.plus(took);
        let decision =
            decide(contract, attempt, reply, Timings { took, age: end.since(start) }, 0.5);
        now = match decision.outcome {
            Outcome::Retry { after } => end.plus(after),
            Outcome::Failed { reason } => {
                assert_eq!(reason, EndReason::AttemptsExhausted);
                return made;
            }
            Outcome::Succeeded => panic!("nothing was acknowledged"),
        };
    }
    unreachable!("every schedule ends");
}

fn offsets(sends: &[Send]) -> Vec<u64> {
    sends.iter().map(|send| send.offset.as_secs()).collect()
}

fn seconds(keys: &str, took: u64) -> Vec<u64> {
    offsets(&sends(&read(keys), &event("e", "{\"n\":1}"), &silent(), |_| Duration::from_secs(took)))
}

#[test]
fn tusfacturas_sends_at_its_published_times_whatever_attempts_take() {
    let contract = built_in("tusfacturas");
    let mut event = event("hook", r#"{"external_reference":"17032"}"#);
    event.event_type = crate::id::EventTypeId::parse("facturacion.emitido").unwrap();
    let published =
        [0, 5, 35, 3 * 60 + 35, 9 * 60 + 35, 21 * 60 + 35].map(|minutes| minutes * MINUTE);
    let all = |timeout| timeout;
    let none = |_| Duration::ZERO;
    // Exactly 200 acknowledges: 201 and 204 are tried again like a failure.
    let answers = [201, 204, 302, 410].map(|status| answering(&contract, &event, status));
    let answers = answers.map(|reply| (reply, none as fn(Duration) -> Duration));
    let replies = [(silent(), all as fn(Duration) -> Duration), (busy(), none)];
    for (reply, took) in replies.into_iter().chain(answers) {
        let sends = sends(&contract, &event, &reply, took);
        assert_eq!(offsets(&sends), published);
        let timeouts: Vec<_> = sends.iter().map(|send| send.timeout.as_secs()).collect();
        assert_eq!(timeouts, [20, 5, 5, 5, 5, 5]);
        for (send, intento) in sends.iter().zip(1..) {
            let expected = format!(
                r#"{{"creado":"26/10/2022 19:36:41","evento":"emitido","recurso":"facturacion","external_reference":"17032","intento":{intento},"msg":[],"hook_id":"hook"}}"#
            );
            assert_eq!(send.body, expected);
        }
    }
    let acknowledged = answering(&contract, &event, 200);
    let timings = Timings { took: Duration::ZERO, age: Duration::ZERO };
    assert_eq!(decide(&contract, 1, &acknowledged, timings, 0.5).outcome, Outcome::Succeeded);
}

#[test]
fn mercadopago_sends_sixteen_times_over_44_and_a_half_hours() {
    let contract = built_in("mercadopago_wallet_connect");
    let sends = sends(&contract, &event("e", "{}"), &silent(), |_| Duration::ZERO);
    let mut expected = vec![0];
    for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
        expected.push(expected.last().unwrap() + minutes * MINUTE);
    }
    for _ in 0..6 {
        expected.push(expected.last().unwrap() + 6 * HOUR);
    }
    assert_eq!(offsets(&sends), expected);
    assert_eq!((sends.len(), expected.last()), (16, Some(&(44 * HOUR + 31 * MINUTE))));
    assert!(sends.iter().all(|send| send.body == sends[0].body));
}

#[test]
fn none_is_one_send() {
    assert_eq!(seconds("retry: none", 1), [0]);
}

#[test]
fn growing_delays_count_from_the_end_and_stop_at_their_number_or_age() {
    let grow = |rest: &str| {
        format!("retry: {{ exponential: {{ initial: 10s, max_delay: 1m, attempts: 7{rest} }} }}")
    };
    assert_eq!(seconds(&grow(""), 0), [0, 10, 30, 70, 130, 190, 250]);
    assert_eq!(seconds(&grow(""), 5), [0, 15, 40, 85, 150, 215, 280]);
    assert_eq!(seconds(&grow(", factor: 1"), 0), [0, 10, 20, 30, 40, 50, 60]);
    assert_eq!(seconds(&grow(", factor: 3"), 0), [0, 10, 40, 100, 160, 220, 280]);
    assert_eq!(seconds(&grow(", max_age: 130s"), 0), [0, 10, 30, 70, 130]);
    assert_eq!(seconds(&grow(", max_age: 129s"), 0), [0, 10, 30, 70]);
}

#[test]
fn fixed_delays_count_from_the_start_or_as_said() {
    assert_eq!(seconds("retry: { delays: [10s, 20s] }", 5), [0, 10, 30]);
    assert_eq!(seconds("retry: { delays: [10s, 20s], from: end }", 5), [0, 15, 40]);
    // Never due before the attempt has ended.
    assert_eq!(seconds("retry: { delays: [3s, 20s] }", 5), [0, 5, 25]);
}

#[test]
fn a_receiver_stretches_a_delay_as_far_as_the_contract_says() {
    let sent = |keys: &str| {
        offsets(&sends(&read(keys), &event("e", "{\"n\":1}"), &busy(), |_| Duration::ZERO))
    };
    assert_eq!(sent("retry: { delays: [10s] }"), [0, 24 * HOUR]);
    assert_eq!(sent("retry: { delays: [10s], retry_after: 2d }"), [0, 25 * HOUR]);
    assert_eq!(sent("retry: { delays: [10s], retry_after: 1m }"), [0, MINUTE]);
    assert_eq!(sent("retry: { delays: [10s], retry_after: ignore }"), [0, 10]);
}
