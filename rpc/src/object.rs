//! Event data given as an object: a convenience for use by hand.
//!
//! Written with members sorted by name and numbers as ECMAScript writes them, so that `5000` typed
//! into grpcurl, which is a double on the way, is `5000` again.

use std::fmt::Write;

use pregon_core::json::write_string;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// A number's digits in full up to here: below, JavaScript has no exponent.
const PLAIN_BELOW: f64 = 1e21;
/// A number's digits in full from here.
const PLAIN_FROM: f64 = 1e-6;

/// JSON text of an object.
///
/// # Errors
///
/// Why there is none: a value of no kind, or a number that is not finite.
pub fn render(object: &Struct) -> Result<Vec<u8>, &'static str> {
    let mut text = Vec::with_capacity(256);
    write_object(&mut text, object)?;
    Ok(text)
}

fn write_object(text: &mut Vec<u8>, object: &Struct) -> Result<(), &'static str> {
    text.push(b'{');
    for (index, (name, value)) in object.fields.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write_string(text, name);
        text.push(b':');
        write_value(text, value)?;
    }
    text.push(b'}');
    Ok(())
}

/// The recursion is bounded by the decoder's, which refuses messages more than 100 deep.
fn write_value(text: &mut Vec<u8>, value: &Value) -> Result<(), &'static str> {
    match &value.kind {
        None => return Err("holds a value of no kind"),
        Some(Kind::NullValue(_)) => text.extend_from_slice(b"null"),
        Some(Kind::BoolValue(true)) => text.extend_from_slice(b"true"),
        Some(Kind::BoolValue(false)) => text.extend_from_slice(b"false"),
        Some(Kind::NumberValue(number)) if number.is_finite() => {
            text.extend_from_slice(ecmascript(*number).as_bytes());
        }
        Some(Kind::NumberValue(_)) => return Err("holds a number that is not finite"),
        Some(Kind::StringValue(string)) => write_string(text, string),
        Some(Kind::StructValue(object)) => write_object(text, object)?,
        Some(Kind::ListValue(list)) => {
            text.push(b'[');
            for (index, value) in list.values.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                write_value(text, value)?;
            }
            text.push(b']');
        }
    }
    Ok(())
}

/// A finite number by ECMAScript's `Number::toString`: the shortest digits that read back the same.
fn ecmascript(number: f64) -> String {
    let mut text = String::new();
    let size = number.abs();
    // Writing to a String cannot fail.
    let _ = if number == 0.0 {
        text.write_char('0')
    } else if (PLAIN_FROM..PLAIN_BELOW).contains(&size) {
        write!(text, "{number}")
    } else {
        let short = format!("{number:e}");
        let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        write!(text, "{digits}e{sign}{exponent}")
    };
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (number, text) in [
            (5000.0, "5000"),
            (0.0, "0"),
            (-0.0, "0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e30, "1.25e+30"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (-1.5e-9, "-1.5e-9"),
            (9007199254740993.0, "9007199254740992"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        ] {
            assert_eq!(ecmascript(number), text);
        }
    }

    #[test]
    fn members_are_sorted_and_everything_has_its_place() {
        let list = prost_types::ListValue {
            values: vec![
                value(Kind::NullValue(0)),
                value(Kind::BoolValue(true)),
                value(Kind::StringValue("a\"\u{1}ñ".into())),
                value(Kind::StructValue(Struct::default())),
            ],
        };
        let fields = BTreeMap::from([
            ("b".to_owned(), value(Kind::NumberValue(1.0))),
            ("a".to_owned(), value(Kind::ListValue(list))),
        ]);
        let text = render(&Struct { fields }).unwrap();
        let expected = "{\"a\":[null,true,\"a\\\"\\u0001ñ\",{}],\"b\":1}";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let fields = |value| BTreeMap::from([("a".to_owned(), value)]);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let fields = fields(value(Kind::NumberValue(bad)));
            assert_eq!(render(&Struct { fields }), Err("holds a number that is not finite"));
        }
        let fields = fields(Value { kind: None });
        assert_eq!(render(&Struct { fields }), Err("holds a value of no kind"));
    }
}
