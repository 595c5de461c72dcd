//! From what is stated to a [`Contract`]: the only way to one.

use bytes::Bytes;

use super::check::{check, invalid};
use super::spec::ContractSpec;
use crate::contract::compiled::{
    BodyTemplate, CallbackRule, Contract, Fixed, Names, Sharing, TextTemplate, VerificationRule,
};
use crate::error::Wrong;
use crate::header::is_value;

impl Contract {
    /// Checks and compiles a contract, or says what is wrong with it.
    pub fn new(spec: ContractSpec) -> Result<Self, Wrong> {
        check(&spec)?;
        let content_type = match spec.content_type {
            Some(template) => fixed(template, "content_type")?,
            None => Fixed::Same(Bytes::from_static(spec.body_format.content_type())),
        };
        let user_agent =
            spec.user_agent.map(|template| fixed(template, "user_agent")).transpose()?;
        let body = BodyTemplate::compile(&spec.body)?;
        let mut contract = Self {
            sharing: body.sharing(),
            id: spec.id,
            revision: 0,
            description: spec.description,
            event_types: spec.event_types,
            types: spec.types,
            shape: spec.body,
            body,
            body_format: spec.body_format,
            canonical: spec.canonical,
            content_type,
            user_agent,
            gzip: spec.gzip,
            batch: spec.batch,
            query: spec.query,
            headers: spec.headers,
            traceparent: spec.traceparent,
            secret: spec.secret,
            signatures: spec.signatures,
            acknowledge: spec.acknowledge,
            refuse: spec.refuse,
            disable: spec.disable,
            timeouts: spec.timeouts,
            retry: spec.retry,
            overridable: spec.overridable,
            url: spec.url,
            auth: spec.auth,
            egress: spec.egress,
            approval: spec.approval,
            sensitive: spec.sensitive,
            callback: CallbackRule::compile(spec.callback)?,
            verification: spec.verification.map(VerificationRule::compile).transpose()?,
            names: Names {
                content_type: "content-type".into(),
                user_agent: "user-agent".into(),
                content_encoding: "content-encoding".into(),
            },
        };
        // What is made late is made with the signatures, for each subscription anew.
        let made = contract.headers.iter().filter(|(_, template)| !contract.is_late(template));
        let sharing = made.map(|(_, template)| template.sharing());
        let fixed = [Some(&contract.content_type), contract.user_agent.as_ref()];
        let fixed = fixed.into_iter().flatten().map(Fixed::sharing);
        contract.sharing = sharing.chain(fixed).fold(contract.sharing, Sharing::max);
        Ok(contract)
    }
}

/// A header's value, checked where it is the same for every request.
fn fixed(template: TextTemplate, key: &str) -> Result<Fixed, Wrong> {
    let Some(text) = template.fixed() else { return Ok(Fixed::Made(template)) };
    match is_value(text.as_bytes()) {
        true => Ok(Fixed::Same(Bytes::copy_from_slice(text.as_bytes()))),
        false => Err(invalid(format!("{key} cannot be a header's value"))),
    }
}
