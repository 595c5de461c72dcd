//! Expressions: what is compiled, and what an evaluation may do.

use std::collections::BTreeMap;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::error::Rule;
use pregon_core::expr::{
    AttemptView, ChallengeView, CheckView, DeliveryView, EventView, Expression, KeyView, Labelled,
    MAX_SOURCE, Output, RequestView, ResponseView, Scope, SecretView, Site, SubscriptionView,
    Verdict,
};
use pregon_core::filter::Filter;
use pregon_core::json;
use pregon_core::limits;

/// Stands in all data, and in no reason.
const CANARY: &str = "canary-6f2d";

/// Bytes that an evaluation makes at most, with room for what JSON puts around them.
const MADE: usize = 16 << 20;

const SITES: [Site; 7] = [
    Site::Filter,
    Site::Template,
    Site::Answer,
    Site::Verdict,
    Site::CheckTemplate,
    Site::Challenge,
    Site::ChallengeAnswer,
];

/// A byte that chooses a site, a source, and in the last line the data of an event; data that is no JSON
/// is replaced.
///
/// - The same source compiles or is refused each time, and a refusal has a place.
/// - An evaluation gives the same each time and no more than it may; JSON that it gives is JSON.
/// - Why there is no answer tells nothing of the data.
///
/// Evaluations end within their budget of work; libFuzzer's own time limit is what sees one that does not.
pub fn expression(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let site = SITES[usize::from(*choice) % SITES.len()];
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let (source, data) = rest.rsplit_once('\n').unwrap_or((rest, ""));
    let compiled = Expression::compile(source, site);
    let again = Expression::compile(source, site);
    if site == Site::Filter {
        assert_eq!(Filter::compile(source).is_ok(), compiled.is_ok());
        assert!(compiled.is_ok() || Filter::written(source).is_err());
    }
    match (compiled, again) {
        (Ok(expression), Ok(_)) => {
            assert!(source.len() <= MAX_SOURCE);
            assert_eq!(expression.source(), source);
            with_scope(data, |scope| evaluated(&expression, scope));
        }
        (Err(wrong), Err(again)) => {
            assert_eq!(wrong, again);
            let place = wrong.description.split(": ").next().and_then(|it| it.split_once(':'));
            let placed = place.is_some_and(|(line, column)| {
                line.parse::<usize>().is_ok() && column.parse::<usize>().is_ok()
            });
            assert_eq!(placed, wrong.rule == Rule::ExpressionInvalid, "{wrong:?}");
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("compiles at one time only"),
    }
}

fn evaluated(expression: &Expression, scope: &Scope<'_>) {
    let verdict = expression.holds(scope);
    assert_eq!(verdict, expression.holds(scope));
    if let Verdict::Unevaluable(reason) = &verdict {
        discreet(expression, reason);
    }
    for value in [expression.value(scope), expression.verbatim(scope)] {
        match &value {
            Ok(output) => bounded(output),
            Err(reason) => discreet(expression, reason),
        }
    }
    // Doubles are finite, so that each is equal to itself.
    assert!(expression.value(scope) == expression.value(scope));
}

fn bounded(output: &Output) {
    match output {
        Output::Text(text) => assert!(text.len() <= MADE),
        Output::Json(text) => {
            assert!(text.len() <= MADE);
            // A list made in CEL holds lists of the data, one level deeper.
            assert_eq!(json::check(text, 2 * limits::JSON_DEPTH), Ok(()));
        }
        Output::Double(number) => assert!(number.is_finite()),
        Output::Absent | Output::Null | Output::Bool(_) | Output::Int(_) => {}
    }
}

fn discreet(expression: &Expression, reason: &str) {
    assert!(!reason.is_empty() && reason.len() <= MAX_SOURCE + 512, "{reason}");
    assert!(!reason.contains(CANARY) || expression.source().contains(CANARY), "{reason}");
}

/// All that a site may speak of.
fn with_scope(data: &str, run: impl FnOnce(&Scope<'_>)) {
    let data = match json::check(data.as_bytes(), limits::JSON_DEPTH) {
        Ok(()) => Bytes::copy_from_slice(data.as_bytes()),
        Err(_) => Bytes::from_static(
            br#"{"id":"canary-6f2d","total":150.00,"n":3,"big":9223372036854775807,"list":[1,2.5,"a",null,true,[],{"k":"canary-6f2d"}],"nested":{"a":{"b":"c"}},"when":"2026-01-02T03:04:05Z"}"#,
        ),
    };
    let moment = Timestamp::from_millis(1_790_000_000_123);
    let labels = BTreeMap::from([("plan".to_owned(), CANARY.to_owned())]);
    let headers = [("x-canary".to_owned(), CANARY.to_owned()), ("n".to_owned(), "7".to_owned())];
    let answer = Bytes::from_static(br#"{"code":0,"message":"canary-6f2d","items":[1,2,3]}"#);
    let tenant = Labelled { id: "acme", labels: &labels };
    let scope = Scope {
        event: Some(EventView {
            id: "evt_canary-6f2d",
            version: 2,
            event_type: "order.paid",
            occur_time: moment,
            accept_time: moment,
            environment: "LIVE",
            tenant: "acme",
            attributes: Some(&labels),
            data: &data,
        }),
        tenant: Some(tenant),
        subscription: Some(SubscriptionView {
            id: "erp",
            labels: &labels,
            url: "https://example.com/hook?token=canary-6f2d",
            environment: "LIVE",
        }),
        delivery: Some(DeliveryView { id: "d", create_time: moment, replay: false, test: false }),
        attempt: Some(AttemptView { number: 2, time: moment }),
        request: Some(RequestView { method: "POST", url: "https://example.com/hook", body: &data }),
        response: Some(ResponseView { status: 200, headers: &headers, body: &answer }),
        check: Some(CheckView { id: "c", time: moment, data: &data }),
        callback: Some(tenant),
        key: Some(KeyView {
            id: "key",
            number: 1,
            secret: Some(SecretView { key: b"canary-6f2d", is_text: true }),
        }),
        signature: Some(CANARY),
        challenge: Some(ChallengeView { id: "ch", time: moment, text: CANARY }),
    };
    run(&scope);
}
