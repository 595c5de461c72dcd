//! A document's `verification`.

use std::time::Duration;

use super::fault::{noted, optional, parsed};
use super::{headers, retry, template};
use crate::contract::compiled::retry::{CountedFrom, RETRY_AFTER_CAP, Retry, RetryAfter, Schedule};
use crate::contract::compiled::{
    Alphabet, ChallengeForm, ChallengeMethod, ChallengeSign, Expected, Place, QUERY,
    QUERY_NAME_LEN, REPEAT, STEPS, Signature, StepSpec, TEXT_LEN, TextTemplate, VerificationSpec,
};
use crate::error::Wrong;
use crate::expr::{Lets, Names, Site};
use crate::yaml::{At, Reader};

/// Reads it. `signatures` are the contract's.
pub(super) fn read<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    signatures: &[Signature],
    lets: &Lets,
) -> Option<VerificationSpec> {
    let map = reader.map(at, &["steps", "challenge", "retry", "repeat"])?;
    let steps = reader.check(map.required("steps")).cloned();
    let steps = steps
        .and_then(|at| reader.list_of(&at, STEPS, |reader, at| step(reader, at, signatures, lets)));
    let challenge = optional(reader, &map, "challenge", form);
    let retry = optional(reader, &map, "retry", retry::read);
    let repeat = optional(reader, &map, "repeat", |reader, at| {
        if at.text() == Ok("none") {
            return Some(None);
        }
        reader.check(at.duration(REPEAT)).map(Some)
    });
    let retry = match retry? {
        Some(retry) => retry,
        None => noted(reader, at, usual())?,
    };
    Some(VerificationSpec {
        steps: steps?,
        challenge: challenge?.unwrap_or_default(),
        retry,
        repeat: repeat?.flatten(),
    })
}

/// Seven askings within three hours: somebody sits before the receiver and mends it, or does not.
fn usual() -> Result<Retry, Wrong> {
    let delays = [5, 30, 120, 600, 1800, 7200].map(Duration::from_secs).to_vec();
    let after = RetryAfter::Cap(RETRY_AFTER_CAP);
    Retry::new(Schedule::Delays(delays), 0.1, CountedFrom::End, after)
}

fn form<'a>(reader: &mut Reader, at: &At<'a>) -> Option<ChallengeForm> {
    let map = reader.map(at, &["alphabet", "length"])?;
    let alphabets: Vec<_> = Alphabet::ALL.iter().map(|it| (it.word(), *it)).collect();
    let alphabet =
        optional(reader, &map, "alphabet", |reader, at| reader.check(at.choice(&alphabets)));
    let length = optional(reader, &map, "length", |reader, at| {
        reader.check(at.integer(TEXT_LEN)).and_then(|length| usize::try_from(length).ok())
    });
    let usual = ChallengeForm::default();
    Some(ChallengeForm {
        alphabet: alphabet?.unwrap_or(usual.alphabet),
        length: length?.unwrap_or(usual.length),
    })
}

fn step<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    signatures: &[Signature],
    lets: &Lets,
) -> Option<StepSpec> {
    let names = lets.at(Site::Challenge);
    let map = reader.map(at, &["method", "query", "headers", "body", "sign", "expect"])?;
    let methods: Vec<_> = ChallengeMethod::ALL.iter().map(|it| (it.word(), *it)).collect();
    let method = optional(reader, &map, "method", |reader, at| reader.check(at.choice(&methods)));
    let kinds: Vec<_> = ChallengeSign::ALL.iter().map(|it| (it.word(), *it)).collect();
    let sign = optional(reader, &map, "sign", |reader, at| {
        let sign = reader.check(at.choice(&kinds))?;
        if let Some(rule) = unsignable(sign, signatures) {
            reader.add(at.fault(rule));
        }
        Some(sign)
    });
    let taken = match sign {
        Some(Some(ChallengeSign::Right | ChallengeSign::Wrong)) => signatures,
        Some(Some(ChallengeSign::None) | None) | None => &[],
    };
    let query = optional(reader, &map, "query", |reader, at| query(reader, at, names));
    let headers =
        optional(reader, &map, "headers", |reader, at| headers::read(reader, at, names, taken));
    let method = method.map(|method| method.unwrap_or(ChallengeMethod::Get));
    if let Some(at) = map.get("body")
        && method.is_some_and(|method| method != ChallengeMethod::Post)
    {
        reader.add(at.fault("is for method POST"));
    }
    let body = optional(reader, &map, "body", |reader, at| template::body(reader, at, names));
    let expect = reader.check(map.required("expect")).cloned();
    let expect = expect.and_then(|at| {
        parsed(reader, &at, |text| Expected::parse(text, lets.at(Site::ChallengeAnswer)))
    });
    Some(StepSpec {
        method: method?,
        query: query?.unwrap_or_default(),
        headers: headers?.unwrap_or_default(),
        body: body?,
        sign: sign?.unwrap_or(ChallengeSign::None),
        expect: expect?,
    })
}

/// Why a challenge cannot be signed.
fn unsignable(sign: ChallengeSign, signatures: &[Signature]) -> Option<&'static str> {
    match sign {
        ChallengeSign::None => None,
        ChallengeSign::Right | ChallengeSign::Wrong if signatures.is_empty() => {
            Some("needs one of signatures to sign with")
        }
        ChallengeSign::Right | ChallengeSign::Wrong => {
            let fits = signatures.iter().all(Signature::fits_check);
            (!fits).then_some("cannot sign: signatures speak of what only an event has")
        }
    }
}

fn query<'a>(
    reader: &mut Reader,
    at: &At<'a>,
    names: Names<'_>,
) -> Option<Vec<(Box<str>, TextTemplate)>> {
    let members = reader.check(at.members())?;
    if members.len() > QUERY {
        reader.add(at.fault(format_args!("at most {QUERY} parameters")));
        return None;
    }
    let mut read = Vec::with_capacity(members.len());
    for member in &members {
        let name = &member.key.text;
        if name.is_empty() || name.len() > QUERY_NAME_LEN {
            let rule = format_args!("a parameter's name must have 1 to {QUERY_NAME_LEN} bytes");
            reader.add(member.value.key_fault(member.key, rule));
        }
        let value = parsed(reader, &member.value, |text| {
            let text = TextTemplate::parse(text, names)?;
            text.check(Place::Challenge).map(|()| text)
        });
        read.extend(value.map(|value| (name.as_str().into(), value)));
    }
    Some(read)
}
