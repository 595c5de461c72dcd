//! What of a schema's patterns the linear-time engine does not know, said by name, and what it
//! reads otherwise than ECMA-262, written otherwise.
//!
//! The validator says of a pattern that it cannot compile only that it is none.

use serde_json::{Map, Value};

use crate::re2;

/// Keywords that hold schemas by name.
const BY_NAME: &[&str] =
    &["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Whether look-around and back-references are absent; else what is wrong, in words. Walks the
/// schemas below the usual keywords; depth is bounded by the document's. `\b` becomes that of ASCII
/// letters; the validator sees to all else that ECMA-262 has otherwise.
pub(super) fn check(schema: &mut Value) -> Result<(), String> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(list) => return list.iter_mut().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Ok(()),
    };
    if let Some(Value::String(pattern)) = members.get_mut("pattern") {
        *pattern = checked(pattern)?;
    }
    if let Some(Value::Object(named)) = members.get_mut("patternProperties") {
        let renamed = |(name, schema): (String, Value)| Ok((checked(&name)?, schema));
        *named = std::mem::take(named).into_iter().map(renamed).collect::<Result<_, String>>()?;
    }
    for (keyword, value) in members {
        match keyword.as_str() {
            keyword if BY_NAME.contains(&keyword) => {
                let mut named = value.as_object_mut().into_iter().flat_map(Map::values_mut);
                named.try_for_each(check)?;
            }
            "const" | "enum" | "default" | "examples" => {}
            _ => check(value)?,
        }
    }
    Ok(())
}

/// A pattern for the validator.
fn checked(pattern: &str) -> Result<String, String> {
    // All else that is wrong with it is for the validator to say.
    match re2::parse(pattern).err().filter(|reason| reason.contains("linear time")) {
        Some(unknown) => Err(format!("pattern {pattern:?}: {unknown}")),
        None => Ok(re2::ascii_boundaries(pattern)),
    }
}
