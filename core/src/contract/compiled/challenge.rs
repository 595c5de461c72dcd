//! A challenge as it goes out, and whether an answer to it is right.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use super::contract::Contract;
use super::error::RenderError;
use super::render::{HeaderLine, Rendered, checked, finished, header};
use super::sign::{Signing, finish};
use super::signature::SigningKeys;
use super::value::Written;
use super::verification::{ChallengeMethod, ChallengeSign, Step, has_parameter};
use crate::contract::subject::{Answer, Challenge, ChallengeInput, Subject, View, with_answer};
use crate::expr::Verdict;
use crate::url::EndpointUrl;

/// Characters that stand for themselves in a query (RFC 3986 section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A challenge as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeRequest {
    /// How.
    pub method: ChallengeMethod,
    /// Where to: the subscription's URL, and the step's query.
    pub url: EndpointUrl,
    /// Its headers: `content-type` of what has a body, `user-agent`, the step's, signatures.
    pub headers: Vec<HeaderLine>,
    /// Its body; empty where there is none.
    pub body: Bytes,
}

/// Why a challenge cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// A template or a signature has no value.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The URL has a parameter of this name already.
    #[error("query parameter {0} is in the URL already")]
    QueryTwice(Box<str>),
    /// With its query the URL is no URL any more, or one that is too long.
    #[error("the URL with the step's query {0}")]
    Url(Cow<'static, str>),
    /// The contract has no such step.
    #[error("the contract has no such step")]
    NoStep,
}

/// The request of a step, counted from 0.
///
/// # Errors
///
/// Why it cannot be made; no secret and no value of a label is in it.
pub fn challenge(
    contract: &Contract,
    step: usize,
    input: &ChallengeInput<'_>,
    keys: &SigningKeys,
) -> Result<ChallengeRequest, ChallengeError> {
    let step = step_of(contract, step).ok_or(ChallengeError::NoStep)?;
    let method = step.method.word();
    let key = contract.newest_key(keys, input.time);
    let about = |url| Subject::Challenge(Challenge { input, key, method, url });
    let url = url(step, input, &View::bodiless(about(input.url.as_str())))?;
    let subject = about(url.as_str());
    let rendered = rendered(step, contract, subject)?;
    let signing = match step.sign {
        ChallengeSign::None => None,
        ChallengeSign::Right => Some(Signing::Right),
        ChallengeSign::Wrong => Some(Signing::Wrong),
    };
    let (headers, body) = match signing {
        Some(signing) => {
            let signed = finish(contract, &rendered, subject, &step.headers, keys, signing)?;
            if signed.keys.is_empty() {
                return Err(RenderError::NoActiveSecret.into());
            }
            (signed.headers, signed.body)
        }
        None => {
            let Rendered { body, mut headers } = rendered;
            let view = View::of(subject, &body);
            for (name, template) in step.headers.iter().filter(|(_, it)| it.speaks_of_body()) {
                headers.extend(header(name, template, &view)?);
            }
            (headers, body)
        }
    };
    Ok(ChallengeRequest { method: step.method, url, headers, body })
}

/// Whether an answer is the one that a step, counted from 0, must get.
///
/// # Errors
///
/// Why not, in words that hold nothing of the answer.
pub fn answers_challenge(
    contract: &Contract,
    step: usize,
    input: &ChallengeInput<'_>,
    keys: &SigningKeys,
    answer: &Answer<'_>,
) -> Result<(), String> {
    let Some(step) = step_of(contract, step) else {
        return Err(ChallengeError::NoStep.to_string());
    };
    let (method, url) = (step.method.word(), input.url.as_str());
    let key = contract.newest_key(keys, input.time);
    let subject = Subject::Challenge(Challenge { input, key, method, url });
    let expected = &step.expect.0;
    match with_answer(subject, answer, expected, |scope| expected.holds(scope)) {
        Verdict::True => Ok(()),
        Verdict::False => Err("the answer is not the one expected".to_owned()),
        Verdict::Unevaluable(reason) => {
            Err(format!("the answer is not the one expected: {reason}"))
        }
    }
}

fn step_of(contract: &Contract, step: usize) -> Option<&Step> {
    contract.verification()?.step(step)
}

/// The subscription's URL with the step's parameters behind it.
fn url(
    step: &Step,
    input: &ChallengeInput<'_>,
    view: &View<'_>,
) -> Result<EndpointUrl, ChallengeError> {
    let base = input.url.as_str();
    let mut text = base.to_owned();
    for (name, template) in &step.query {
        if has_parameter(base, name) {
            return Err(ChallengeError::QueryTwice(name.clone()));
        }
        let mut value = Vec::new();
        match template.write(view, &mut value)? {
            Written::Whole => {}
            Written::Absent => continue,
        }
        text.push(match text.contains('?') {
            false => '?',
            true => '&',
        });
        text.extend(utf8_percent_encode(name, ESCAPED));
        text.push('=');
        text.extend(percent_encode(&value, ESCAPED));
    }
    EndpointUrl::parse_stored(&text)
        .map_err(|wrong| ChallengeError::Url(wrong.description.to_string().into()))
}

/// Body and headers, but for signatures and for headers that speak of the body.
fn rendered(
    step: &Step,
    contract: &Contract,
    subject: Subject<'_>,
) -> Result<Rendered, RenderError> {
    let view = View::bodiless(subject);
    let names = &contract.names;
    let mut headers = Vec::with_capacity(2 + step.headers.len());
    let body = match &step.body {
        None => Bytes::new(),
        Some(body) => {
            let value = contract.content_type.clone();
            headers.push(HeaderLine { name: names.content_type.clone(), value });
            finished(contract, body.render(&view)?)?
        }
    };
    let agent = match &contract.user_agent {
        Some(own) => own.clone(),
        None => Bytes::copy_from_slice(subject.user_agent().as_bytes()),
    };
    headers.push(checked(&names.user_agent, agent)?);
    for (name, template) in step.headers.iter().filter(|(_, it)| !it.speaks_of_body()) {
        headers.extend(header(name, template, &view)?);
    }
    Ok(Rendered { body, headers })
}
