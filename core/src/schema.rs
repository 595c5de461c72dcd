//! Event type schemas: JSON Schema 2020-12, closed in one document.
//!
//! A schema comes from outside and runs on every event of its type, so it must neither reach out nor
//! run away. Nothing is ever fetched: a `$ref` names a place in the same document, or the schema is
//! refused. `cost` bounds what validation may take, in time and in stack, before the schema is
//! taken. Patterns run on the linear-time engine (no look-around, no back-references) and compile to
//! a bounded size. `format` is an annotation, as the draft has it by default.
//!
//! A mismatch is reported by place, keyword, and the name of the member or the type that it is
//! about. The messages of the validator quote the data, so they are not used.

mod cost;
mod patterns;

#[cfg(test)]
mod tests;

use crate::error::{Rule, Wrong};
use crate::json;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Longest schema document, in bytes.
pub const MAX_SCHEMA: usize = 64 << 10;

/// Deepest nesting of the schema document.
const MAX_DEPTH: usize = 64;

/// Largest compiled pattern, in bytes.
const PATTERN_SIZE: usize = 256 << 10;

/// Longest part of the validator's words that a refusal quotes, in characters.
const QUOTED: usize = 200;

/// Longest part of a member's name that a mismatch quotes, in bytes.
const NAME: usize = 64;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A compiled schema. Clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Validator>);

/// Where data fails its schema: the first mismatch found. Holds names from the data and keywords from
/// the schema, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data at {pointer:?} fails {keyword}{detail}")]
pub struct SchemaMismatch {
    /// JSON pointer (RFC 6901) into the data; empty for the whole.
    pub pointer: String,
    /// The keyword that failed, as in `required`; `false` for a schema that nothing satisfies.
    pub keyword: String,
    /// Which member is missing or too much, or which type is wanted, behind a colon; else empty.
    pub detail: String,
}

impl Schema {
    /// Compiles a schema document.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`] above [`MAX_SCHEMA`] bytes; else [`Rule::SchemaInvalid`]: not JSON as
    /// Pregón accepts it, not a schema of draft 2020-12, a reference that leaves the document, a
    /// pattern that the linear-time engine does not know, or more work than a schema may ask for.
    pub fn compile(text: &str) -> Result<Schema, Wrong> {
        if text.len() > MAX_SCHEMA {
            let text = format!("schema of {} bytes, at most {MAX_SCHEMA}", text.len());
            return Err(Wrong::new(Rule::TooLong, text));
        }
        json::check(text.as_bytes(), MAX_DEPTH).map_err(|error| invalid(error.to_string()))?;
        let mut document: Value =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if let Some(dialect) = document.get("$schema")
            && dialect.as_str().map(|uri| uri.trim_end_matches('#')) != Some(DIALECT)
        {
            return Err(invalid(format!("$schema must be {DIALECT}")));
        }
        cost::check(&document).map_err(invalid)?;
        patterns::check(&mut document).map_err(invalid)?;
        // The validator is a large library; a fault in it must refuse the schema, not end the node.
        let built = catch_unwind(AssertUnwindSafe(|| build(&document)));
        built.unwrap_or_else(|_| Err(invalid("cannot be compiled")))
    }

    /// Validates event data, which must have passed [`json::check`].
    ///
    /// # Errors
    ///
    /// The first mismatch; keyword `json` where the data is no JSON at all.
    pub fn validate(&self, data: &[u8]) -> Result<(), SchemaMismatch> {
        let value: Value = serde_json::from_slice(data).map_err(|_| SchemaMismatch {
            pointer: String::new(),
            keyword: "json".to_owned(),
            detail: String::new(),
        })?;
        self.0.validate(&value).map_err(|error| SchemaMismatch {
            pointer: error.instance_path().as_str().to_owned(),
            keyword: match error.kind().keyword() {
                "falseSchema" => "false".to_owned(),
                keyword => keyword.to_owned(),
            },
            detail: detail(&error),
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// What a mismatch is about, in names and types only.
fn detail(error: &ValidationError<'_>) -> String {
    let kind = error.kind();
    if let ValidationErrorKind::Required { property } = kind {
        let name = property.as_str().unwrap_or_default();
        return format!(": member {} is missing", quoted(name));
    }
    if let ValidationErrorKind::AdditionalProperties { unexpected }
    | ValidationErrorKind::UnevaluatedProperties { unexpected } = kind
    {
        let name = unexpected.first().map(String::as_str).unwrap_or_default();
        return format!(": member {} is not allowed", quoted(name));
    }
    if let ValidationErrorKind::Type { kind } = kind {
        let wanted = match kind {
            TypeKind::Single(wanted) => wanted.to_string(),
            TypeKind::Multiple(any) => {
                let names: Vec<_> = any.iter().map(|it| it.to_string()).collect();
                names.join(" or ")
            }
        };
        return format!(": must be {wanted}, is {}", type_of(error.instance()));
    }
    String::new()
}

/// A name in quotes, cut to what a message has room for.
fn quoted(name: &str) -> String {
    format!("{:?}", &name[..name.floor_char_boundary(NAME)])
}

/// The type of a value, in the words of JSON Schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn build(document: &Value) -> Result<Schema, Wrong> {
    let built = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
        .should_validate_formats(false)
        .offline()
        .build(document);
    match built {
        Ok(validator) => Ok(Schema(Arc::new(validator))),
        Err(error) => {
            let words: String = error.to_string().chars().take(QUOTED).collect();
            Err(invalid(format!("at {:?}: {words}", error.instance_path().as_str())))
        }
    }
}

fn invalid(text: impl Into<String>) -> Wrong {
    Wrong::new(Rule::SchemaInvalid, text)
}
