//! A document's `url`: what a receiver's URL may be, and the parameters that are added to it.

use super::fault::{optional, parsed};
use super::spec::ContractSpec;
use crate::contract::compiled::{PARAMETERS, Parameter, Place, SignaturePlace, TextTemplate};
use crate::expr::Names;
use crate::url::{Scheme, UrlRules};
use crate::yaml::{At, Reader};

/// Longest name of a parameter, in bytes.
const NAME_LEN: usize = 128;

/// Reads it; the signatures are there already.
pub(super) fn read(reader: &mut Reader, at: &At<'_>, spec: &mut ContractSpec, names: Names<'_>) {
    let Some(map) = reader.map(at, &["schemes", "ports", "query"]) else { return };
    let rules = map.get("schemes").is_some() || map.get("ports").is_some();
    if !rules && map.get("query").is_none() {
        reader.add(at.fault("must have at least one of schemes, ports and query"));
    }
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https)];
    let schemes = optional(reader, &map, "schemes", |reader, at| {
        reader.list_of(at, 1..=2, |reader, at| reader.check(at.choice(&schemes)))
    });
    let ports = optional(reader, &map, "ports", |reader, at| {
        reader.list_of(at, 1..=32, |reader, at| {
            let port = reader.check(at.integer(1..=65_535))?;
            let port = u16::try_from(port).ok()?;
            Some(port..=port)
        })
    });
    if let (Some(schemes), Some(ports), true) = (schemes, ports, rules) {
        let (schemes, ports) = (schemes.unwrap_or_default(), ports.unwrap_or_default());
        spec.url = Some(UrlRules { schemes, ports });
    }
    if let Some(at) = map.get("query") {
        spec.query = query(reader, at, spec, names);
    }
}

fn query(
    reader: &mut Reader,
    at: &At<'_>,
    spec: &ContractSpec,
    names: Names<'_>,
) -> Vec<Parameter> {
    let members = reader.check(at.members()).unwrap_or_default();
    if members.is_empty() || members.len() > PARAMETERS {
        reader.add(at.fault(format_args!("must be 1 to {PARAMETERS} parameters")));
    }
    let mut read: Vec<Parameter> = Vec::new();
    for member in &members {
        let name = member.key.text.as_str();
        let signed = spec.signatures.iter().any(|signature| match &signature.place {
            SignaturePlace::Query { name: own, .. } => **own == *name,
            SignaturePlace::Header { .. } | SignaturePlace::Body { .. } => false,
        });
        if name.is_empty() || name.len() > NAME_LEN {
            let rule = format_args!("a parameter's name must be 1 to {NAME_LEN} bytes");
            reader.add(member.value.key_fault(member.key, rule));
        } else if signed {
            let rule = format_args!("parameter {name} is set twice");
            reader.add(member.value.key_fault(member.key, rule));
        }
        let text = parsed(reader, &member.value, |text| {
            let text = TextTemplate::parse(text, names)?;
            text.check(Place::Query).map(|()| text)
        });
        read.extend(text.map(|text| (name.into(), text)));
    }
    read
}
