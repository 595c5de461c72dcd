//! Functions of our own: times and bytes as text, JSON.

#![expect(clippy::needless_pass_by_value, reason = "the engine's signature of an overload")]

use super::constant::constant;
use super::output::{self, Output};
use super::overload::{Args, Entry, Outcome, int, octets, text, wrong_types};
use super::work::{charge, charge_growth, failed};
use crate::clock::Timestamp;
use crate::time_pattern::{TimePattern, Zone};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cel::ExecutionError;
use cel::common::types::{CelInt, CelString, CelTimestamp};
use cel::common::value::CowVal;
use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc};
use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;

/// Most fractional digits that `rfc3339` writes.
pub(super) const MAX_DIGITS: i64 = 9;

/// Units of writing a time.
const TIME: usize = 512;

/// Units of parsing a pattern and finding a zone.
const PARSE: usize = 4096;

/// The functions, as the rewriting names them.
pub(super) const FUNCTIONS: [Entry; 10] = [
    ("@base64", 1..=1, base64),
    ("@base64url", 1..=1, base64url),
    ("@format", 3..=3, format),
    ("@headerEncode", 1..=1, header_encode),
    ("@hex", 1..=1, hex),
    ("@json", 1..=1, json),
    ("@percentEncode", 1..=1, percent_encode),
    ("@rfc3339", 2..=2, rfc3339),
    ("@text", 1..=1, as_text),
    ("@unixMillis", 1..=1, unix_millis),
];

fn moment<'a>(args: &'a [CowVal<'_, '_>]) -> Option<&'a DateTime<FixedOffset>> {
    args.first()?.downcast_ref::<CelTimestamp>().map(CelTimestamp::inner)
}

fn hex<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let data = octets(&args, 0).ok_or_else(|| wrong_types("hex", &args))?;
    charge_growth(data.len().saturating_mul(2))?;
    Ok(CowVal::owned(CelString::from(HEXLOWER.encode(data))))
}

fn base64<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let data = octets(&args, 0).ok_or_else(|| wrong_types("base64", &args))?;
    charge_growth(data.len().saturating_mul(2))?;
    Ok(CowVal::owned(CelString::from(STANDARD.encode(data))))
}

/// `base64url(x)`: the alphabet of RFC 4648, 5, without padding, as JSON Web Tokens have it.
fn base64url<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let data = octets(&args, 0).ok_or_else(|| wrong_types("base64url", &args))?;
    charge_growth(data.len().saturating_mul(2))?;
    Ok(CowVal::owned(CelString::from(URL_SAFE_NO_PAD.encode(data))))
}

/// What `percentEncode` leaves as it is: RFC 3986, 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `percentEncode(text)`: everything but the unreserved characters of a URL, as UTF-8.
fn percent_encode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let text = text(&args, 0).ok_or_else(|| wrong_types("percentEncode", &args))?;
    charge_growth(text.len().saturating_mul(3))?;
    Ok(CowVal::owned(CelString::from(utf8_percent_encode(text, UNRESERVED).to_string())))
}

/// What `headerEncode` encodes, beside all that is not ASCII: CloudEvents 1.0.2, HTTP binding,
/// 3.1.3.2.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// `headerEncode(text)`: percent-encoded as attributes of CloudEvents are in headers.
fn header_encode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let text = text(&args, 0).ok_or_else(|| wrong_types("headerEncode", &args))?;
    charge_growth(text.len().saturating_mul(3))?;
    Ok(CowVal::owned(CelString::from(utf8_percent_encode(text, HEADER).to_string())))
}

/// A value as JSON text; lists and objects of the data as they stand.
fn json<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let value = args.first().ok_or_else(|| failed("json"))?;
    let mut out = Vec::new();
    output::write(value.as_ref(), 0, &mut out).map_err(|_| wrong_types("json", &args))?;
    let out = String::from_utf8(out).map_err(|_| failed("json"))?;
    Ok(CowVal::owned(CelString::from(out)))
}

/// `text(x)`: a string as it is, a number or a truth value as JSON writes it.
fn as_text<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    if let Some(text) = text(&args, 0) {
        charge_growth(text.len())?;
        return Ok(CowVal::owned(CelString::from(text.to_owned())));
    }
    let value = args.first().ok_or_else(|| failed("text"))?;
    let written = match output::output(value.as_ref()) {
        Ok(Output::Text(text)) => text,
        Ok(Output::Bool(value)) => value.to_string(),
        Ok(Output::Int(value)) => value.to_string(),
        Ok(Output::Double(value)) => {
            let mut out = Vec::new();
            crate::json::write_number(&mut out, value);
            String::from_utf8(out).map_err(|_| failed("text"))?
        }
        Ok(Output::Absent | Output::Null | Output::Json(_)) | Err(_) => {
            return Err(wrong_types("text", &args));
        }
    };
    Ok(CowVal::owned(CelString::from(written)))
}

/// `time.unixMillis()`: milliseconds since the Unix epoch.
fn unix_millis<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let time = moment(&args).ok_or_else(|| wrong_types("unixMillis", &args))?;
    Ok(CowVal::owned(CelInt::from(time.timestamp_millis())))
}

/// `time.rfc3339(digits)`: UTC with `Z` and exactly so many fractional digits.
fn rfc3339<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (Some(time), Some(digits)) = (moment(&args), int(&args, 1)) else {
        return Err(wrong_types("rfc3339", &args));
    };
    charge(TIME)?;
    let digits = (0..=MAX_DIGITS).contains(&digits).then(|| usize::try_from(digits).ok()).flatten();
    let digits = digits.ok_or_else(|| failed("rfc3339"))?;
    let time = time.with_timezone(&Utc);
    let (date, clock) = (time.date_naive(), time.time());
    let mut out = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    if digits > 0 {
        // A leap second counts on in its fraction.
        let fraction = format!(".{:09}", clock.nanosecond() % 1_000_000_000);
        out.push_str(fraction.get(..=digits).unwrap_or_default());
    }
    out.push('Z');
    Ok(CowVal::owned(CelString::from(out)))
}

/// `time.format(pattern, zone)`.
fn format<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let time = moment(&args).ok_or_else(|| wrong_types("format", &args))?;
    charge(TIME)?;
    let pattern = parsed(&args, 1, TimePattern::parse)?;
    let zone = parsed(&args, 2, Zone::parse)?;
    let mut out = Vec::new();
    pattern.write(Timestamp::from_millis(time.timestamp_millis()), &zone, &mut out);
    charge_growth(out.len())?;
    let out = String::from_utf8(out).map_err(|_| failed("format"))?;
    Ok(CowVal::owned(CelString::from(out)))
}

/// An argument that was parsed with the expression, or is parsed here.
fn parsed<'a, T, E>(
    args: &'a [CowVal<'_, '_>],
    at: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Cow<'a, T>, ExecutionError>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
{
    if let Some(made) = constant::<T>(args, at) {
        return Ok(Cow::Borrowed(made));
    }
    let source = text(args, at).ok_or_else(|| wrong_types("format", args))?;
    charge(PARSE)?;
    parse(source).map(Cow::Owned).map_err(|_| failed("format"))
}
