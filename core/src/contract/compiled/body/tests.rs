use super::*;
use crate::contract::compiled::Accessor;
use crate::contract::document::tests::spec;
use crate::contract::tests::{Around, event};
use crate::contract::{Contract, render};
use crate::expr::Site;
use crate::limits;

#[test]
fn strings_are_escaped_no_more_than_json_asks() {
    let escaped = |text: &str| {
        let mut out = b"before ".to_vec();
        out.extend_from_slice(text.as_bytes());
        escape_from(&mut out, 7);
        String::from_utf8(out).unwrap()[7..].to_owned()
    };
    assert_eq!(escaped("a/é<>&\u{7f}\u{2028}😀"), "a/é<>&\u{7f}\u{2028}😀");
    assert_eq!(escaped("\"\\\u{8}\t\n\u{c}\r"), r#"\"\\\b\t\n\f\r"#);
    assert_eq!(escaped("\0\u{1b}\u{1f}x"), r"\u0000\u001b\u001fx");
}

#[test]
fn a_compiled_body_is_one_literal_between_two_values() {
    let text = |text| Template::text(text, Site::Template).unwrap();
    let named = |name: &str, template| Member::Named(name.into(), template);
    let template = Template::Object(vec![
        named("a", text("${event.id}")),
        named("b", text("x")),
        named("c", text("${event.data}")),
    ]);
    let body = BodyTemplate::compile(&template).unwrap();
    let literal = |text: &str| Piece::Literal(text.as_bytes().into());
    let expected = [
        literal("{\"a\":\""),
        Piece::Escaped(Value::Accessor(Accessor::EventId)),
        literal("\",\"b\":\"x\",\"c\":"),
        Piece::Json(Value::Accessor(Accessor::EventData)),
        literal("}"),
    ];
    assert_eq!(*body.pieces, expected);
    assert_eq!(body.sharing(), Sharing::Event);
}

/// A body rendered over data, by a document's template.
fn rendered(body: &str, data: &str) -> Result<String, RenderError> {
    let example = r#"[{"event":{"type":"x","data":"1"}}]"#;
    let document = format!(r#"{{"contract":"c","body":{body},"examples":{example}}}"#);
    let contract = Contract::new(spec(&document)).unwrap();
    let (event, around) = (event("e", data), Around::at(0));
    let rendered = render(&contract, &around.input(&event))?;
    Ok(String::from_utf8(rendered.body.to_vec()).unwrap())
}

#[test]
fn what_is_absent_is_left_out_with_its_comma() {
    let body = r#"{"x":"${event.data.?x}","y":1,"z":"${event.data.?z}","l":["${event.data.?x}",2,"${event.data.?z}"]}"#;
    for (data, expected) in [
        ("{}", r#"{"y":1,"l":[2]}"#),
        (r#"{"x":1.0}"#, r#"{"x":1.0,"y":1,"l":[1.0,2]}"#),
        (r#"{"z":{ "a" : 1 }}"#, r#"{"y":1,"z":{ "a" : 1 },"l":[2,{ "a" : 1 }]}"#),
        (r#"{"x":null,"z":"\u0061"}"#, r#"{"x":null,"y":1,"z":"\u0061","l":[null,2,"\u0061"]}"#),
    ] {
        assert_eq!(rendered(body, data).unwrap(), expected);
    }
}

#[test]
fn members_are_spliced_as_they_stand() {
    let body = r#"{"type":"${event.type}","...":"${event.data}","id":"${event.id}"}"#;
    for (data, inside) in [
        ("{}", ""),
        (r#"{ "b" : 1.0 , "a":{ } }"#, r#""b":1.0,"a":{ },"#),
        (r#"{"\u00e9":"x"}"#, r#""\u00e9":"x","#),
    ] {
        let expected = format!(r#"{{"type":"order.captured",{inside}"id":"e"}}"#);
        assert_eq!(rendered(body, data).unwrap(), expected);
    }
    let twice = |name: &str| Err(RenderError::NameTwice { name: name.into() });
    assert_eq!(rendered(body, r#"{"id":1}"#), twice("id"));
    assert_eq!(rendered(body, r#"{"t\u0079pe":1}"#), twice("type"));
    let error = rendered(body, "[]").unwrap_err().to_string();
    assert_eq!(error, "${event.data}: is no object: it has no members to splice in");
}

#[test]
fn a_missing_value_fails_and_says_which() {
    let body = r#"{"x":"a ${event.data.a.b}"}"#;
    let error = rendered(body, r#"{"a":{"secret":"PII"}}"#).unwrap_err().to_string();
    assert!(error.contains("event.data.a.b") && !error.contains("PII"), "{error}");
}

#[test]
fn a_template_cannot_grow_without_bound() {
    let repeated = vec![r#""${event.data}""#; 100].join(",");
    let data = format!("\"{}\"", "x".repeat(limits::EVENT_DATA_DEFAULT));
    assert_eq!(rendered(&format!("[{repeated}]"), &data), Err(RenderError::TooLarge));
}
