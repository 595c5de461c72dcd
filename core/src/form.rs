//! `application/x-www-form-urlencoded` bodies, as the WHATWG URL standard serializes them.
//!
//! A contract with `body_format: form` states its body as an object; what becomes of it here is a
//! list of names and values, in the order of the members. A form has no nesting, so a value that is
//! an array or an object is an error and never flattened by a convention of ours.

use std::borrow::Cow;

use url::form_urlencoded::byte_serialize;

use crate::json::{Kind, Node};

/// Characters of a member's name that an error repeats: enough to find it.
const NAME_SHOWN: usize = 64;

/// Why a value cannot be sent as a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The value is not an object.
    #[error("a form must be an object")]
    NotAnObject,
    /// A member whose value is an array or an object.
    #[error("a form must be flat, but member {member:?} is nested")]
    Nested {
        /// The member's name, unescaped; its first 64 characters.
        member: String,
    },
}

/// An object of scalars as a form, in the order of its members: strings unescaped, numbers as they
/// were written, `true` and `false`, `null` as the empty text. The text must have passed
/// [`check`](crate::json::check).
///
/// # Errors
///
/// A value that is no object, or the first member that is nested.
pub fn urlencode(json: &[u8]) -> Result<Vec<u8>, FormError> {
    let mut out = Vec::with_capacity(json.len());
    for (name, value) in fields(json)? {
        append(&mut out, name.as_bytes(), &value);
    }
    Ok(out)
}

/// Appends one more field to a form.
pub fn append(form: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !form.is_empty() {
        form.push(b'&');
    }
    encode(form, name);
    form.push(b'=');
    encode(form, value);
}

/// A field of a form: its name, and its value's bytes.
pub type Field<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// The fields of an object of scalars, in order; see [`urlencode`].
///
/// # Errors
///
/// As [`urlencode`].
pub fn fields(json: &[u8]) -> Result<Vec<Field<'_>>, FormError> {
    let node = Node::of(json);
    if node.kind() != Kind::Object {
        return Err(FormError::NotAnObject);
    }
    let mut fields = Vec::new();
    for (name, value) in node.members() {
        let name = name.text();
        match scalar(value) {
            Some(value) => fields.push((name, value)),
            None => {
                let member = name.chars().take(NAME_SHOWN).collect();
                return Err(FormError::Nested { member });
            }
        }
    }
    Ok(fields)
}

fn scalar(value: Node<'_>) -> Option<Cow<'_, [u8]>> {
    match value.kind() {
        Kind::Null => Some(Cow::Borrowed(b"")),
        Kind::Bool | Kind::Number => Some(Cow::Borrowed(value.source())),
        Kind::String => value.as_str().map(|text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
        Kind::Array | Kind::Object => None,
    }
}

/// Appends a name or a value of a form, by itself.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    byte_serialize(bytes).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> Result<String, FormError> {
        urlencode(json.as_bytes()).map(|form| String::from_utf8(form).unwrap())
    }

    #[test]
    fn scalars_are_encoded_in_order() {
        let json = r#" { "z" : "a b&c=d+é/~*-._" , "n\u0061me" : 1.50, "1": -0, "t": true,
            "f": false, "nothing": null, "": "", "q": "\"\n😀" } "#;
        let expected = "z=a+b%26c%3Dd%2B%C3%A9%2F%7E*-._&name=1.50&1=-0&t=true&f=false&nothing=\
            &=&q=%22%0A%F0%9F%98%80";
        assert_eq!(encoded(json).as_deref(), Ok(expected));
        assert_eq!(encoded("{}").as_deref(), Ok(""));
    }

    #[test]
    fn what_is_nested_is_named() {
        for nested in ["[]", "{}", "[1]", r#"{"b":1}"#] {
            let error = encoded(&format!(r#"{{"x":1,"\u0061\"":{nested},"c":[]}}"#)).unwrap_err();
            assert_eq!(error, FormError::Nested { member: "a\"".into() });
            assert_eq!(error.to_string(), r#"a form must be flat, but member "a\"" is nested"#);
        }
        let long = encoded(&format!(r#"{{"{}":[]}}"#, "é".repeat(1000))).unwrap_err();
        assert_eq!(long, FormError::Nested { member: "é".repeat(64) });
    }

    #[test]
    fn only_objects_are_forms() {
        for json in ["[]", "1", "\"a=b\"", "null", "true"] {
            assert_eq!(encoded(json), Err(FormError::NotAnObject));
        }
    }
}
