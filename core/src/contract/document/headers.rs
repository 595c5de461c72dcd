//! A document's headers: `headers`, those of `callback`, and the one that a signature goes into.

use std::sync::Arc;

use super::fault::parsed;
use crate::contract::compiled::{HEADERS, Place, Signature, SignaturePlace, TextTemplate};
use crate::error::{Rule, Wrong};
use crate::expr::{Names, Site};
use crate::header::{is_for_contracts, is_value};
use crate::yaml::{At, Map, Reader};

/// What a name must be.
const NAME: &str = "must be a header's name, and not one that the sender sets";

/// A header's name, as it goes out.
pub(super) fn name(text: &str) -> Result<Arc<str>, Wrong> {
    match is_for_contracts(text) {
        true => Ok(text.into()),
        false => Err(Wrong::new(Rule::ContractInvalid, NAME)),
    }
}

/// Headers in order: their names and templates. A name of `taken` is a signature's.
pub(super) fn read<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    names: Names<'_>,
    taken: &[Signature],
) -> Option<Vec<(Arc<str>, TextTemplate)>> {
    let members = reader.check(at.members())?;
    if members.len() > HEADERS {
        reader.add(at.fault(format_args!("at most {HEADERS} headers")));
        return None;
    }
    let place = match names.site {
        Site::Challenge => Place::ChallengeHeader,
        Site::Filter
        | Site::Template
        | Site::Answer
        | Site::Verdict
        | Site::CheckTemplate
        | Site::ChallengeAnswer => Place::Header,
    };
    let mut read: Vec<(Arc<str>, TextTemplate)> = Vec::with_capacity(members.len());
    for member in &members {
        let text = parsed(reader, &member.value, |text| {
            let text = TextTemplate::parse(text, names)?;
            text.check(place).map(|()| text)
        });
        let name = match name(&member.key.text) {
            Ok(name) => name,
            Err(wrong) => {
                reader.add(member.value.key_fault(member.key, wrong.description));
                continue;
            }
        };
        let own = read.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name));
        if own || taken.iter().any(|signature| goes_into(signature, &name)) {
            let rule = format_args!("header {name} is set twice");
            reader.add(member.value.key_fault(member.key, rule));
        }
        read.extend(text.map(|text| (name, text)));
    }
    Some(read)
}

fn goes_into(signature: &Signature, header: &str) -> bool {
    match &signature.place {
        SignaturePlace::Header { header: own, .. } => own.has(header),
        SignaturePlace::Body { .. } | SignaturePlace::Query { .. } => false,
    }
}

/// The value of a header that most contracts write out.
pub(super) fn fixed(
    reader: &mut Reader,
    map: &Map<'_>,
    key: &str,
    names: Names<'_>,
) -> Option<TextTemplate> {
    let at = map.get(key)?;
    let rule = "must be visible ASCII with spaces and tabs inside only: it is a header's value";
    parsed(reader, at, |text| {
        let template = TextTemplate::parse(text, names)?;
        template.check(Place::Early)?;
        match template.fixed().is_none_or(|text| !text.is_empty() && is_value(text.as_bytes())) {
            true => Ok(template),
            false => Err(Wrong::new(Rule::ContractInvalid, rule)),
        }
    })
}
