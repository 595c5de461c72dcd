//! What is kept of an answer, without what a receiver may have echoed: the subscription's
//! credentials, its signing keys, and the event's sensitive values.

use bytes::Bytes;
use pregon_core::attempt::ResponseHead;
use pregon_core::redact::Scrub;
use pregon_core::secret::SecretBytes;

use crate::oauth::Client;
use crate::snapshot::{Lane, TypeEntry};

/// The answer as it may be kept. `lent`: tokens that went along. `sent`: the data of each event that was sent, and its type.
pub(crate) fn clean<'a>(
    lane: &Lane,
    lent: &[SecretBytes],
    sent: impl IntoIterator<Item = (&'a Bytes, Option<&'a TypeEntry>)>,
    answer: ResponseHead,
) -> ResponseHead {
    let mut scrub = Scrub::default();
    for secret in lane.headers.secrets() {
        scrub.add_secret(secret.expose());
    }
    let clients = lane.client.iter().flat_map(Client::secrets);
    for secret in clients.chain(lent) {
        scrub.add_secret(secret.expose());
    }
    for key in lane.keys.iter() {
        scrub.add_secret(key.expose());
    }
    for (data, kind) in sent {
        for paths in [lane.contract.sensitive(), &lane.sensitive] {
            scrub.add_data(data, paths);
        }
        if let Some(kind) = kind {
            scrub.add_data(data, &kind.sensitive);
        }
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
