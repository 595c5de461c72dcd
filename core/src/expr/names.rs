//! The names that an expression may use: functions, types, operators.
//!
//! The engine would find an unknown name only when it evaluates it, so they are listed here. Missing
//! on purpose: `strings.quote` and the `format` of strings (a template does that).
//! `format` here is that of timestamps.

use super::Root;
use cel::common::ast::operators;

/// Namespace of `optional.of` and its like.
pub(super) const OPTIONAL: &str = "optional";

/// Functions that an expression may call: name, how many arguments as `f(…)`, how many as `x.f(…)`.
const FUNCTIONS: &[(&str, &[usize], &[usize])] = &[
    ("bool", &[1], &[]),
    ("bytes", &[1], &[]),
    ("double", &[1], &[]),
    ("duration", &[1], &[]),
    ("dyn", &[1], &[]),
    ("int", &[1], &[]),
    ("string", &[1], &[]),
    ("timestamp", &[1], &[]),
    ("type", &[1], &[]),
    ("uint", &[1], &[]),
    ("optional.none", &[0], &[]),
    ("optional.of", &[1], &[]),
    ("optional.ofNonZeroValue", &[1], &[]),
    ("hasValue", &[], &[0]),
    ("or", &[], &[1]),
    ("orValue", &[], &[1]),
    ("value", &[], &[0]),
    ("charAt", &[], &[1]),
    ("contains", &[], &[1]),
    ("endsWith", &[], &[1]),
    ("indexOf", &[], &[1, 2]),
    ("join", &[], &[0, 1]),
    ("lastIndexOf", &[], &[1, 2]),
    ("lowerAscii", &[], &[0]),
    ("matches", &[2], &[1]),
    ("replace", &[], &[2, 3]),
    ("reverse", &[], &[0]),
    ("size", &[1], &[0]),
    ("split", &[], &[1, 2]),
    ("startsWith", &[], &[1]),
    ("substring", &[], &[1, 2]),
    ("trim", &[], &[0]),
    ("upperAscii", &[], &[0]),
    ("getDate", &[], &[0, 1]),
    ("getDayOfMonth", &[], &[0, 1]),
    ("getDayOfWeek", &[], &[0, 1]),
    ("getDayOfYear", &[], &[0, 1]),
    ("getFullYear", &[], &[0, 1]),
    ("getHours", &[], &[0, 1]),
    ("getMilliseconds", &[], &[0, 1]),
    ("getMinutes", &[], &[0, 1]),
    ("getMonth", &[], &[0, 1]),
    ("getSeconds", &[], &[0, 1]),
    ("format", &[], &[2]),
    ("rfc3339", &[], &[1]),
    ("base64", &[1], &[]),
    ("base64url", &[1], &[]),
    ("crc32", &[1], &[]),
    ("headerEncode", &[1], &[]),
    ("hex", &[1], &[]),
    ("hmac", &[3], &[]),
    ("json", &[1], &[]),
    ("md5", &[1], &[]),
    ("percentEncode", &[1], &[]),
    (RAW, &[1], &[]),
    ("sha1", &[1], &[]),
    ("sha256", &[1], &[]),
    ("sha512", &[1], &[]),
    ("text", &[1], &[]),
    ("unixMillis", &[], &[0]),
];

/// Gives a value of JSON as it is written; its argument is a path, not a value.
pub(super) const RAW: &str = "raw";

/// Functions whose answer tells nothing of what went in: the secret may be part of it.
pub(super) const HASHES: &[&str] = &["hmac", "md5", "sha1", "sha256", "sha512"];

/// Functions led through a metered one of the same name behind `@`.
pub(super) const METERED: &[&str] = &[
    "base64",
    "base64url",
    "crc32",
    "format",
    "headerEncode",
    "hex",
    "hmac",
    "indexOf",
    "join",
    "json",
    "lastIndexOf",
    "md5",
    "percentEncode",
    "replace",
    "rfc3339",
    "sha1",
    "sha256",
    "sha512",
    "split",
    "text",
    "unixMillis",
];

/// Names of types, as in `type(x) == int`.
pub(super) const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
];

/// Names that a comprehension's variable must not hide. It may hide those that only signatures know.
pub(super) fn is_taken(name: &str) -> bool {
    let of_signatures = [Root::Key, Root::Secret, Root::Signature];
    Root::named(name).is_some_and(|root| !of_signatures.contains(&root))
        || name == OPTIONAL
        || TYPES.contains(&name)
}

/// Whether this is the name of something that every expression knows.
pub(super) fn is_known(name: &str) -> bool {
    let reserved = ["true", "false", "null", "in", "has"];
    Root::named(name).is_some()
        || name == OPTIONAL
        || TYPES.contains(&name)
        || reserved.contains(&name)
        || FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// Operators, by the names that the parser gives them. No source can call one by its name.
pub(super) fn is_operator(name: &str) -> bool {
    matches!(
        name,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::SUBSTRACT
            | operators::ADD
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::EQUALS
            | operators::NOT_EQUALS
            | operators::GREATER_EQUALS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::LESS
            | operators::NEGATE
            | operators::INDEX
            | operators::OPT_INDEX
            | operators::OPT_SELECT
            | operators::NOT_STRICTLY_FALSE
            | operators::IN
    )
}

/// Whether a function of this name can be called so; else what is wrong, in words.
pub(super) fn check_function(name: &str, member: bool, args: usize) -> Result<(), String> {
    let Some((_, global, own)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("unknown function {name}"));
    };
    let counts = if member { own } else { global };
    if name == "format" && member && args == 1 {
        return Err("unknown function format of strings; that of times takes a pattern and a zone"
            .to_owned());
    }
    if counts.contains(&args) {
        Ok(())
    } else if counts.is_empty() {
        let form = if member { format!("{name}(x)") } else { format!("x.{name}()") };
        Err(format!("function {name} is called as {form}"))
    } else {
        Err(format!("function {name} does not take {args} arguments"))
    }
}
