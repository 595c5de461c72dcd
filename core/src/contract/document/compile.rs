//! From what is stated to a [`Contract`]: the only way to one.

use super::check::{check, invalid};
use super::spec::ContractSpec;
use crate::contract::compiled::{
    BodyFormat, BodyTemplate, CallbackRule, Contract, Names, Sharing, VerificationRule,
};
use crate::error::Wrong;
use crate::header::is_value;

impl Contract {
    /// Checks and compiles a contract, or says what is wrong with it.
    pub fn new(spec: ContractSpec) -> Result<Self, Wrong> {
        check(&spec)?;
        let content_type = spec.content_type.unwrap_or_else(|| match spec.body_format {
            BodyFormat::Json => "application/json".into(),
            BodyFormat::Form => "application/x-www-form-urlencoded".into(),
        });
        if !is_value(content_type.as_bytes()) {
            return Err(invalid("content_type cannot be a header's value"));
        }
        if !spec.user_agent.as_ref().is_none_or(|agent| is_value(agent.as_bytes())) {
            return Err(invalid("user_agent cannot be a header's value"));
        }
        let body = BodyTemplate::compile(&spec.body)?;
        // What speaks of the body is rendered with the signatures, for each subscription anew.
        let headers = spec.headers.iter().filter(|(_, template)| !template.speaks_of_body());
        let sharing = headers.map(|(_, template)| template.sharing());
        Ok(Self {
            sharing: sharing.fold(body.sharing(), Sharing::max),
            id: spec.id,
            revision: 0,
            description: spec.description,
            event_types: spec.event_types,
            types: spec.types,
            shape: spec.body,
            body,
            body_format: spec.body_format,
            canonical: spec.canonical,
            content_type: content_type.into_boxed_bytes().into(),
            user_agent: spec.user_agent.map(|agent| agent.into_boxed_bytes().into()),
            headers: spec.headers,
            traceparent: spec.traceparent,
            secret: spec.secret,
            signatures: spec.signatures,
            acknowledge: spec.acknowledge,
            refuse: spec.refuse,
            disable: spec.disable,
            timeouts: spec.timeouts,
            retry: spec.retry,
            url: spec.url,
            auth: spec.auth,
            egress: spec.egress,
            approval: spec.approval,
            sensitive: spec.sensitive,
            callback: CallbackRule::compile(spec.callback)?,
            verification: spec.verification.map(VerificationRule::compile).transpose()?,
            names: Names { content_type: "content-type".into(), user_agent: "user-agent".into() },
        })
    }
}
