//! `acknowledge`, `refuse` and `disable`: what answers mean.

use bytes::Bytes;

use super::accepted::read;
use crate::contract::tests::{Around, event};
use crate::outcome::{Answer, Judged};

/// (acknowledged, refused, disable)
fn judged(keys: &str, status: u16, headers: &[(&str, &str)], body: &str) -> (bool, bool, bool) {
    let (contract, event, around) = (read(keys), event("e", r#"{"n":1}"#), Around::at(5));
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<_> = headers.iter().map(own).collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let answer = Answer { status, headers: &headers, body: &body };
    let Judged { acknowledged, refused, disable } = contract.judge(&answer, &around.input(&event));
    (acknowledged, refused, disable)
}

const YES: (bool, bool, bool) = (true, false, false);
const AGAIN: (bool, bool, bool) = (false, false, false);
const REFUSED: (bool, bool, bool) = (false, true, false);
const DISABLE: (bool, bool, bool) = (false, true, true);

#[test]
fn any_2xx_acknowledges_where_nothing_is_said() {
    for status in [200, 204, 299] {
        assert_eq!(judged("", status, &[], "no"), YES);
    }
    for status in [100, 199, 300, 302, 404, 410, 500] {
        assert_eq!(judged("", status, &[], "ok"), AGAIN, "{status}");
    }
}

#[test]
fn acknowledge_may_look_at_the_whole_answer() {
    let json = "acknowledge: response.status == 200 && response.json.?ok.orValue(false) == true";
    assert_eq!(judged(json, 200, &[], r#" {"ok":true}"#), YES);
    assert_eq!(judged(json, 200, &[], r#"{"ok":"true"}"#), AGAIN);
    assert_eq!(judged(json, 200, &[], r#"{"ok":false}"#), AGAIN);
    assert_eq!(judged(json, 201, &[], r#"{"ok":true}"#), AGAIN);
    assert_eq!(judged(json, 200, &[], "<html>"), AGAIN);
    assert_eq!(judged(json, 200, &[], ""), AGAIN);

    let header = "acknowledge: response.headers[\"x-ack\"] == event.id";
    assert_eq!(judged(header, 500, &[("x-ack", "e")], ""), YES);
    assert_eq!(judged(header, 200, &[("x-ack", "f")], ""), AGAIN);
    assert_eq!(judged(header, 200, &[], ""), AGAIN);

    let body = "acknowledge: response.body.trim() == \"OK\"";
    assert_eq!(judged(body, 200, &[], "OK\n"), YES);
    assert_eq!(judged(body, 200, &[], "not OK"), AGAIN);
    let list = "acknowledge: response.json.ids.exists_one(id, id == event.id)";
    assert_eq!(judged(list, 200, &[], r#"{"ids":["d","e"]}"#), YES);
    assert_eq!(judged(list, 200, &[], r#"{"ids":["e","e"]}"#), AGAIN);
    for keys in [json, header, body, list] {
        assert!(read(keys).reads_answer());
    }
}

#[test]
fn refuse_and_disable_are_asked_when_it_is_not_acknowledged() {
    let keys = "acknowledge: response.status == 200\n\
                refuse: response.status in [400, 422] || attempt.number > 3\n\
                disable: response.status == 410 || response.status == 200";
    assert_eq!(judged(keys, 200, &[], ""), YES);
    assert_eq!(judged(keys, 201, &[], ""), AGAIN);
    assert_eq!(judged(keys, 422, &[], ""), REFUSED);
    assert_eq!(judged(keys, 410, &[], ""), DISABLE);
    let unknown = "refuse: response.json.code == \"gone\"";
    assert_eq!(judged(unknown, 500, &[], r#"{"code":"gone"}"#), REFUSED);
    assert_eq!(judged(unknown, 500, &[], "{}"), AGAIN);
}

#[test]
fn the_status_alone_needs_no_more_of_the_answer() {
    for keys in [
        "",
        "acknowledge: response.status == 200",
        "acknowledge: response.status in [200, 201]\ndisable: response.status == 410",
    ] {
        assert!(!read(keys).reads_answer(), "{keys}");
    }
}
