//! A body's template: mappings, lists and scalars, their order kept.

use super::fault::{noted, parsed};
use crate::contract::compiled::{Member, Place, Template, TextTemplate};
use crate::expr::{Names, Site};
use crate::yaml::{At, Reader, Typed, Value};

/// Elements of one list, and members of one object, of a template.
const WIDTH: usize = 1000;
/// The key whose value's members are spliced in.
const SPLICE: &str = "...";

/// Reads a template. Its depth is bounded by the document's.
pub(super) fn body(reader: &mut Reader, at: &At<'_>, names: Names<'_>) -> Option<Template> {
    match &at.node().value {
        Value::Map(_) => {
            let members = reader.check(at.members())?;
            if members.len() > WIDTH {
                reader.add(at.fault(format_args!("at most {WIDTH} members")));
                return None;
            }
            // All are read before giving up, so that all faults are reported.
            let read: Vec<_> = members
                .iter()
                .map(|member| match member.key.text.as_str() {
                    SPLICE => parsed(reader, &member.value, |text| Member::splice(text, names)),
                    name => body(reader, &member.value, names)
                        .map(|template| Member::Named(name.into(), template)),
                })
                .collect();
            read.into_iter().collect::<Option<_>>().map(Template::Object)
        }
        Value::List(_) => {
            let read = |reader: &mut Reader, at: &At<'_>| body(reader, at, names);
            reader.list_of(at, 0..=WIDTH, read).map(Template::List)
        }
        Value::Scalar { text, .. } => {
            let template = match at.node().typed() {
                Some(Typed::Null | Typed::Bool(_) | Typed::Number(_)) => Template::literal(text),
                Some(Typed::Text(_)) | None => TextTemplate::parse(text, names)
                    .and_then(|text| text.check(place(names.site)).map(|()| Template::Text(text))),
            };
            noted(reader, at, template)
        }
    }
}

/// What a body of a site may speak of.
fn place(site: Site) -> Place {
    match site {
        Site::Challenge => Place::Challenge,
        Site::Filter
        | Site::Template
        | Site::Answer
        | Site::Verdict
        | Site::CheckTemplate
        | Site::ChallengeAnswer => Place::Body,
    }
}
