//! Signatures put into the body: one more member of an object, one more field of a form.

use bytes::Bytes;

use super::error::{RenderError, shown};
use super::setting::BodyFormat;
use crate::json::{self, Node, Step};
use crate::{form, multipart};

/// The body with one more member or field at its end.
///
/// # Errors
///
/// There is no such place, or something of that name is there.
pub(super) fn appended(
    body: &Bytes,
    format: BodyFormat,
    path: &[Step],
    value: &str,
) -> Result<Bytes, RenderError> {
    let name = match path.last() {
        Some(Step::Member(name)) => &**name,
        Some(Step::Element(_)) | None => "",
    };
    match format {
        BodyFormat::Json => member(body, path, name, value),
        BodyFormat::Form => {
            let mut form = body.to_vec();
            form::append(&mut form, name.as_bytes(), value.as_bytes());
            Ok(form.into())
        }
        BodyFormat::Multipart => {
            let no_place = || RenderError::NoPlace { name: shown(name) };
            multipart::append(body, name, value).map(Bytes::from).ok_or_else(no_place)
        }
    }
}

fn member(body: &Bytes, path: &[Step], name: &str, value: &str) -> Result<Bytes, RenderError> {
    let no_place = || RenderError::NoPlace { name: shown(name) };
    let outer = path.split_last().map_or(&[][..], |(_, outer)| outer);
    let object = Node::of(body).follow(outer).ok_or_else(no_place)?;
    if object.kind() != json::Kind::Object {
        return Err(no_place());
    }
    if object.member(name).is_some() {
        return Err(RenderError::NameTwice { name: shown(name) });
    }
    // The closing brace is the last byte of the object, which lies within the body.
    let end = body.slice_ref(object.source());
    let close = end.as_ptr() as usize - body.as_ptr() as usize + end.len() - 1;
    let mut out = Vec::with_capacity(body.len() + name.len() + value.len() + 8);
    out.extend_from_slice(&body[..close]);
    if object.members().next().is_some() {
        out.push(b',');
    }
    json::write_string(&mut out, name);
    out.push(b':');
    json::write_string(&mut out, value);
    out.extend_from_slice(&body[close..]);
    Ok(out.into())
}
