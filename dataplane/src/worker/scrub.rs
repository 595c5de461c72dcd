//! What is kept of an answer, without what a receiver may have echoed: the subscription's
//! credentials, its signing keys, and the event's sensitive values.

use pregon_core::attempt::ResponseHead;
use pregon_core::redact::Scrub;

use super::attempt::Shot;
use crate::snapshot::TypeEntry;

/// The answer as it may be kept. `kind`: the event's type.
pub(super) fn clean(
    shot: &Shot<'_>,
    kind: Option<&TypeEntry>,
    answer: ResponseHead,
) -> ResponseHead {
    let (lane, data) = (shot.lane, &shot.event.data);
    let mut scrub = Scrub::default();
    for secret in lane.headers.secrets() {
        scrub.add_secret(secret.expose());
    }
    for key in lane.keys.iter() {
        scrub.add_secret(key.expose());
    }
    for paths in [lane.contract.sensitive(), &lane.sensitive] {
        scrub.add_data(data, paths);
    }
    if let Some(kind) = kind {
        scrub.add_data(data, &kind.sensitive);
    }
    let text = |value: String| {
        let clean = scrub.clean(value.into_bytes(), false);
        String::from_utf8_lossy(&clean).into_owned()
    };
    ResponseHead {
        headers: answer.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
        body: scrub.clean(answer.body, answer.truncated),
        truncated: answer.truncated,
    }
}
