//! Signatures in the URL: found, and taken out again.

use percent_encoding::percent_decode_str;

use crate::contract::compiled::{Contract, SignaturePlace};

/// A URL without the signatures in it.
pub(super) struct UnsignedUrl {
    /// What is left; empty where the request does not tell it.
    pub url: String,
    /// What was found of each of the contract's signatures.
    taken: Vec<Option<String>>,
}

impl UnsignedUrl {
    /// What is written of the signature with this index.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        self.taken.get(index)?.as_deref()
    }
}

/// Takes every signature out of a URL. Each was added behind what was there.
pub(super) fn take_out(contract: &Contract, url: &str) -> UnsignedUrl {
    let mut url = url.to_owned();
    let mut taken = Vec::new();
    for signature in contract.signatures.iter().rev() {
        let SignaturePlace::Query { name, .. } = &signature.place else {
            taken.push(None);
            continue;
        };
        let last = url.rfind(['?', '&']).map(|at| (at, url.split_at(at + 1).1));
        let found = last.and_then(|(at, last)| {
            let (own, text) = last.split_once('=')?;
            let text = percent_decode_str(text).decode_utf8().ok()?.into_owned();
            let same = percent_decode_str(own).decode_utf8().is_ok_and(|own| own == **name);
            same.then_some((at, text))
        });
        taken.push(found.map(|(at, text)| {
            url.truncate(at);
            text
        }));
    }
    taken.reverse();
    UnsignedUrl { url, taken }
}
