//! Several events in one request.

use bytes::Bytes;

use super::accepted::read;
use super::places::{headers, keys, mac};
use crate::contract::tests::{Around, event};
use crate::contract::{Contract, render, render_body, render_together, sign};

/// When attempts are made here, in seconds.
const NOW: i64 = 1_700_000_000;

fn contract(batch: &str) -> Contract {
    read(&format!(
        "body: {{ of: \"${{event.id}}\", out: {{ all: [{{ key: \"${{event.id}}\", \"...\": \"${{event.data}}\" }}] }} }}\n\
         headers: {{ x-first: \"${{event.id}}\" }}\n\
         signatures: [{{ algorithm: hmac_sha256, keys: newest, header: x-signature }}]\n\
         batch: {{ list: out.all, {batch} }}\n"
    ))
}

/// What goes out of these events, and how many of them.
fn together(contract: &Contract, events: &[(&str, &str)]) -> (Bytes, usize) {
    let around = Around::at(NOW);
    let events: Vec<_> = events.iter().map(|(id, data)| event(id, data)).collect();
    let body = |event| render_body(contract, &around.input(event)).unwrap();
    let bodies: Vec<_> = events.iter().map(body).collect();
    let (rendered, count) = render_together(contract, &around.input(&events[0]), &bodies).unwrap();
    if count == 1 {
        assert_eq!(rendered, render(contract, &around.input(&events[0])).unwrap());
    }
    let signed = sign(contract, &rendered, &around.input(&events[0]), &keys()).unwrap();
    assert_eq!(headers(&signed)[0], ("x-first", events[0].id.as_str()));
    assert_eq!(headers(&signed)[1].1, mac("new", &signed.body), "over the body as it is sent");
    (signed.body, count)
}

#[test]
fn the_list_holds_an_element_for_each_event() {
    let contract = contract("max_events: 3");
    let events = [("a", r#"{"n":1}"#), ("b", r#"{"list":[1,[2]]}"#), ("c", "{}"), ("d", "{}")];
    let (body, count) = together(&contract, &events);
    assert_eq!(
        body,
        r#"{"of":"a","out":{"all":[{"key":"a","n":1},{"key":"b","list":[1,[2]]},{"key":"c"}]}}"#
    );
    assert_eq!(count, 3, "no more than max_events");
    let (body, count) = together(&contract, &events[..1]);
    assert_eq!((&body[..], count), (&br#"{"of":"a","out":{"all":[{"key":"a","n":1}]}}"#[..], 1));
}

#[test]
fn a_body_is_no_larger_than_max_bytes() {
    let contract = contract("max_events: 100, max_bytes: 1024");
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(400));
    let events: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| (*id, data.as_str())).collect();
    let (body, count) = together(&contract, &events);
    assert_eq!(count, 2, "the third would pass it");
    assert!(body.len() <= 1024);
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(2000));
    assert_eq!(
        together(&contract, &[("a", &large), ("b", &large)]).1,
        1,
        "one alone may be larger"
    );
}

#[test]
fn the_body_itself_can_be_the_list() {
    let contract = read("body: [\"${event.data}\"]\nbatch: { max_events: 2, max_wait: 0s }\n");
    let around = Around::at(NOW);
    let event = event("a", "7");
    let body = render_body(&contract, &around.input(&event)).unwrap();
    let bodies = [body, Bytes::from_static(b"[ 8 ]")];
    let (rendered, count) = render_together(&contract, &around.input(&event), &bodies).unwrap();
    assert_eq!((&rendered.body[..], count), (&b"[7,8]"[..], 2));
}
