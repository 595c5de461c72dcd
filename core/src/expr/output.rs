//! From what the engine answers to what a template can write.
//!
//! Lists and objects of the data leave as the bytes they came as. What CEL has and JSON has not
//! (timestamps, durations, bytes, types) is refused in words rather than written in a form that
//! somebody would then depend on.

use super::value::JsonVal;
use super::work;
use crate::json;
use crate::limits::JSON_DEPTH;
use bytes::Bytes;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelNull, CelOptional, CelString,
    CelTimestamp, CelUInt,
};
use cel::common::value::Val;
use std::fmt;
use std::io::Write;

/// What an expression gives.
#[derive(Clone, PartialEq)]
pub enum Output {
    /// `optional.none()`: what it would fill is left out.
    Absent,
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Any other number; always finite.
    Double(f64),
    /// Text, not yet quoted.
    Text(String),
    /// JSON text: an object or list of the data, byte for byte, or a list made in CEL, written
    /// without white space. Of [`Expression::verbatim`](super::Expression::verbatim), also a scalar.
    Json(Bytes),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Event data stays out of messages.
        match self {
            Output::Absent => f.write_str("Absent"),
            Output::Null => f.write_str("Null"),
            Output::Bool(_) => f.write_str("Bool"),
            Output::Int(_) => f.write_str("Int"),
            Output::Double(_) => f.write_str("Double"),
            Output::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Output::Json(text) => write!(f, "Json({} bytes)", text.len()),
        }
    }
}

/// Turns a result into an output; the error is the reason in words without event data.
pub(super) fn output(value: &dyn Val) -> Result<Output, String> {
    let Some(value) = present(value) else {
        return Ok(Output::Absent);
    };
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(Output::Text(text.inner().to_owned()));
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Ok(Output::Int(*int.inner()));
    }
    if let Some(json) = value.downcast_ref::<JsonVal>() {
        return Ok(Output::Json(json.source().clone()));
    }
    if let Some(truth) = value.downcast_ref::<CelBool>() {
        return Ok(Output::Bool(*truth.inner()));
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        return finite(*double.inner()).map(Output::Double);
    }
    if let Some(uint) = value.downcast_ref::<CelUInt>() {
        return small(*uint.inner()).map(Output::Int);
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Output::Null);
    }
    let mut text = Vec::new();
    write(value, 0, &mut text)?;
    Ok(Output::Json(text.into()))
}

/// The value inside any number of optionals.
fn present<'a, 'v>(value: &'a (dyn Val + 'v)) -> Option<&'a (dyn Val + 'v)> {
    let mut value = value;
    while let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
        value = optional.option()?;
    }
    Some(value)
}

/// Appends a value as compact JSON, paying for what it makes; an empty optional in a list is left
/// out.
pub(super) fn write(value: &dyn Val, depth: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(value) = present(value) else {
        return Err("an absent value cannot be written".to_owned());
    };
    if let Some(json) = value.downcast_ref::<JsonVal>() {
        pay(json.len())?;
        out.extend_from_slice(json.source());
    } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        pay(text.inner().len())?;
        json::write_string(out, text.inner());
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        put(out, int.inner());
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        put(out, small(*uint.inner())?);
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        json::write_number(out, finite(*double.inner())?);
    } else if let Some(truth) = value.downcast_ref::<CelBool>() {
        put(out, truth.inner());
    } else if value.downcast_ref::<CelNull>().is_some() {
        out.extend_from_slice(b"null");
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        if depth >= JSON_DEPTH {
            return Err(format!("lists nested deeper than {JSON_DEPTH}"));
        }
        out.push(b'[');
        let mut first = true;
        for item in list.inner().iter().filter_map(|item| present(item.as_ref())) {
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            pay(0)?;
            write(item, depth + 1, out)?;
        }
        out.push(b']');
    } else {
        return Err(foreign(value));
    }
    Ok(())
}

fn pay(bytes: usize) -> Result<(), String> {
    work::charge_growth(bytes).map_err(|_| work::refusal().unwrap_or("too much work").to_owned())
}

fn put(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}

fn finite(double: f64) -> Result<f64, String> {
    if double.is_finite() {
        Ok(double)
    } else {
        Err("the result is a number that is not finite".to_owned())
    }
}

fn small(uint: u64) -> Result<i64, String> {
    i64::try_from(uint).map_err(|_| "the result is a uint beyond the range of int".to_owned())
}

/// What is wrong with a value that JSON does not have.
fn foreign(value: &dyn Val) -> String {
    if value.downcast_ref::<CelTimestamp>().is_some() {
        "the result is a timestamp: format it, as in x.rfc3339(3)".to_owned()
    } else if value.downcast_ref::<CelDuration>().is_some() {
        "the result is a duration: format it, as in string(x)".to_owned()
    } else if value.downcast_ref::<CelBytes<'_>>().is_some() {
        "the result is bytes: format it, as in hex(x) or base64(x)".to_owned()
    } else {
        format!("the result is a {}, which cannot be written", value.get_type().name())
    }
}
