//! What a contract's parts must be, each by itself and against the others, whoever states them. A
//! document is refused in the same words at the place of each key ([`super::read`]).

use std::time::Duration;

use super::spec::ContractSpec;
use crate::contract::compiled::{
    BodyFormat, Canonical, HEADERS, PARAMETERS, Place, Signature, SignaturePlace, TIMEOUT,
    TIMEOUTS, TextTemplate, header_names,
};
use crate::error::{Rule, Wrong};
use crate::header::is_for_contracts;
use crate::limits;

/// Checks everything that is stated, but for what compiling it finds out.
///
/// # Errors
///
/// The first rule that is broken.
pub(super) fn check(spec: &ContractSpec) -> Result<(), Wrong> {
    check_timeouts(&spec.timeouts)?;
    check_headers(spec)?;
    for signature in &spec.signatures {
        check_signature(spec, signature)?;
    }
    if spec.secret.required && spec.signatures.is_empty() {
        return Err(invalid("secret.required needs one of signatures to use it"));
    }
    check_url(spec)?;
    if spec.body_format != BodyFormat::Json && spec.canonical != Canonical::Verbatim {
        return Err(invalid("canonical is for body_format json"));
    }
    if spec
        .batch
        .as_ref()
        .is_some_and(|it| spec.body_format != BodyFormat::Json || !it.fits(&spec.body))
    {
        return Err(invalid(
            "batch needs body_format json and a list with one element in the body",
        ));
    }
    if spec.sensitive.len() > limits::SENSITIVE_PATHS {
        return Err(invalid("sensitive must be 64 paths at most"));
    }
    Ok(())
}

fn check_signature(spec: &ContractSpec, signature: &Signature) -> Result<(), Wrong> {
    signature.payload.check(Place::Payload)?;
    match &signature.place {
        SignaturePlace::Header { each, prefix, .. } => {
            prefix.check(Place::Header)?;
            each.check(Place::Each)
        }
        SignaturePlace::Body { path, each } => {
            if spec.body_format != BodyFormat::Json && path.len() != 1 {
                return Err(invalid("a signature of a form is one of its fields"));
            }
            each.check(Place::Each)
        }
        SignaturePlace::Query { each, .. } => each.check(Place::Each),
    }
}

/// The URL is known after the body, since its parameters may speak of that.
fn check_url(spec: &ContractSpec) -> Result<(), Wrong> {
    let parameters =
        spec.signatures.iter().filter(|it| matches!(it.place, SignaturePlace::Query { .. }));
    let count = spec.query.len() + parameters.count();
    if count > PARAMETERS {
        return Err(invalid(format!("url.query and signatures must add {PARAMETERS} at most")));
    }
    spec.query.iter().try_for_each(|(_, template)| template.check(Place::Query))?;
    let fixed = [&spec.content_type, &spec.user_agent].into_iter().flatten();
    let early = fixed.clone().any(TextTemplate::speaks_of_url) || spec.body.speaks_of_url();
    if count > 0 && early {
        let text =
            "with parameters in the URL, request.url is known in headers and signatures only";
        return Err(invalid(text));
    }
    fixed.into_iter().try_for_each(|template| template.check(Place::Early))
}

fn check_timeouts(timeouts: &[Duration]) -> Result<(), Wrong> {
    match TIMEOUTS.contains(&timeouts.len()) && timeouts.iter().all(|t| TIMEOUT.contains(t)) {
        true => Ok(()),
        false => Err(invalid("timeouts must be 1 to 32, each 1s to 30s")),
    }
}

fn check_headers(spec: &ContractSpec) -> Result<(), Wrong> {
    if spec.headers.len() > HEADERS || spec.signatures.len() > HEADERS {
        return Err(invalid("headers and signatures must be 20 each at most"));
    }
    for name in header_names(&spec.headers, &spec.signatures) {
        if !is_for_contracts(name) {
            return Err(invalid(format!(
                "header {name:?} must be a name that is not the sender's"
            )));
        }
        if is_set_twice(spec, name) {
            return Err(invalid(format!("header {name} is set twice")));
        }
    }
    for (name, _) in &spec.callback.headers {
        let signed =
            header_names(&[], &spec.signatures).any(|other| other.eq_ignore_ascii_case(name));
        if !is_for_contracts(name) || signed {
            return Err(invalid(format!(
                "callback.headers: {name:?} is not the contract's to set"
            )));
        }
    }
    spec.headers.iter().try_for_each(|(_, template)| template.check(Place::Header))
}

/// Signatures may share a header with each other; nothing else may stand twice.
fn is_set_twice(spec: &ContractSpec, name: &str) -> bool {
    let same = |other: &&str| other.eq_ignore_ascii_case(name);
    let headers = header_names(&spec.headers, &[]).filter(same).count();
    let signed = header_names(&[], &spec.signatures).any(|other| same(&other));
    headers + usize::from(signed) > 1
}

/// A broken rule of contracts.
pub(super) fn invalid(description: impl Into<String>) -> Wrong {
    Wrong::new(Rule::ContractInvalid, description)
}
