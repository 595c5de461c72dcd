//! What of a schema's patterns the linear-time engine does not know, said by name.
//!
//! The validator says of such a pattern only that it is none.

use serde_json::{Map, Value};

use crate::re2;

/// Keywords that hold schemas by name.
const BY_NAME: &[&str] =
    &["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Whether look-around and back-references are absent; else what is wrong, in words. Walks the
/// schemas below the usual keywords; depth is bounded by the document's.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(list) => return list.iter().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Ok(()),
    };
    let named = members.get("patternProperties").and_then(Value::as_object);
    let named = named.into_iter().flat_map(Map::keys).map(String::as_str);
    for pattern in members.get("pattern").and_then(Value::as_str).into_iter().chain(named) {
        let parsed = re2::parse(pattern);
        // All else is read as ECMA-262 has it, by the validator.
        if let Some(unknown) = parsed.err().filter(|reason| reason.contains("linear time")) {
            return Err(format!("pattern {pattern:?}: {unknown}"));
        }
    }
    for (keyword, value) in members {
        match keyword.as_str() {
            keyword if BY_NAME.contains(&keyword) => {
                value.as_object().into_iter().flat_map(Map::values).try_for_each(check)?;
            }
            "const" | "enum" | "default" | "examples" => {}
            _ => check(value)?,
        }
    }
    Ok(())
}
