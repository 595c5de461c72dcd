//! A challenge as it goes out, and whether an answer to it is right.

use std::borrow::Cow;

use super::contract::Contract;
use super::error::RenderError;
use super::render::{HeaderLine, Rendered, header, request};
use super::setting::Gzip;
use super::sign::{Signing, finish};
use super::signature::SigningKeys;
use super::verification::{ChallengeMethod, ChallengeSign, Step, has_parameter};
use super::{gzip, query};
use crate::contract::subject::{Answer, Challenge, ChallengeInput, Subject, View, with_answer};
use crate::expr::Verdict;
use crate::url::EndpointUrl;
use bytes::Bytes;

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
    let bare = Challenge { input, key, method, url: input.url.as_str() };
    let url = url(step, input, &View::bodiless(Subject::Challenge(&bare)))?;
    let challenge = Challenge { url: url.as_str(), ..bare };
    let subject = Subject::Challenge(&challenge);
    let rendered = request(contract, step.body.as_ref(), &step.headers, subject)?;
    let signing = match step.sign {
        ChallengeSign::None => None,
        ChallengeSign::Right => Some(Signing::Right),
        ChallengeSign::Wrong => Some(Signing::Wrong),
    };
    let Some(signing) = signing else {
        let (headers, body) = unsigned(contract, step, rendered, subject)?;
        return Ok(ChallengeRequest { method: step.method, url, headers, body });
    };
    let signed = finish(contract, &rendered, subject, &step.headers, keys, signing)?;
    if signed.keys.is_empty() {
        return Err(RenderError::NoActiveSecret.into());
    }
    let body = if step.body.is_some() { signed.body } else { Bytes::new() };
    let url = match signed.url {
        Some(signed) => endpoint(&signed)?,
        None => url,
    };
    Ok(ChallengeRequest { method: step.method, url, headers: signed.headers, body })
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
    let challenge = Challenge { input, key, method, url };
    let subject = Subject::Challenge(&challenge);
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

/// What is left to do of a request without signatures.
fn unsigned(
    contract: &Contract,
    step: &Step,
    rendered: Rendered,
    subject: Subject<'_>,
) -> Result<(Vec<HeaderLine>, Bytes), RenderError> {
    let Rendered { body, mut headers, .. } = rendered;
    let view = View::of(subject, &body);
    for (name, template) in step.headers.iter().filter(|(_, it)| contract.is_late(it)) {
        headers.extend(header(name, template, &view)?);
    }
    match contract.gzip {
        Some(Gzip::AfterSigning) if step.body.is_some() => Ok((headers, gzip::compress(&body))),
        Some(Gzip::AfterSigning | Gzip::BeforeSigning) | None => Ok((headers, body)),
    }
}

/// The subscription's URL with the step's parameters behind it.
fn url(
    step: &Step,
    input: &ChallengeInput<'_>,
    view: &View<'_>,
) -> Result<EndpointUrl, ChallengeError> {
    let base = input.url.as_str();
    if let Some((name, _)) = step.query.iter().find(|(name, _)| has_parameter(base, name)) {
        return Err(ChallengeError::QueryTwice(name.clone()));
    }
    let mut text = base.to_owned();
    query::extend(&mut text, &step.query, view)?;
    endpoint(&text)
}

fn endpoint(text: &str) -> Result<EndpointUrl, ChallengeError> {
    EndpointUrl::parse_stored(text).map_err(|wrong| ChallengeError::Url(wrong.description.into()))
}
