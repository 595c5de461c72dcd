use super::*;

fn pieces(text: &str) -> Vec<TextPiece> {
    TextTemplate::parse(text).unwrap().0.into_vec()
}

fn literal(text: &str) -> TextPiece {
    TextPiece::Literal(text.into())
}

#[test]
fn texts_are_split_at_their_values() {
    let id = || TextPiece::Value(Accessor::EventId);
    assert_eq!(pieces(""), []);
    assert_eq!(pieces("a$b{c}"), [literal("a$b{c}")]);
    assert_eq!(pieces("${event.id}"), [id()]);
    assert_eq!(pieces("a${ event.id }b${event.id}"), [literal("a"), id(), literal("b"), id()]);
    assert_eq!(pieces("$${event.id}"), [literal("${event.id}")]);
    assert_eq!(pieces("$$${event.id}"), [literal("$${event.id}")]);
    assert_eq!(pieces("$${a}${event.id}"), [literal("${a}"), id()]);
}

#[test]
fn unknown_expressions_are_refused() {
    for bad in [
        "${",
        "${event.id",
        "${}",
        "${event}",
        "${event.time}",
        "${event.time.rfc3339()}",
        "${event.time.rfc3339(4)}",
        "${event.time.rfc3339(-1)}",
        "${int(event.id)}",
        "${event.data.a}",
        "${Event.id}",
    ] {
        assert_eq!(TextTemplate::parse(bad).unwrap_err().rule, Rule::ContractInvalid, "{bad}");
    }
}

#[test]
fn literals_are_json_scalars_as_they_stand() {
    for good in ["0", "-1.50", "1E400", "true", "false", "null"] {
        assert_eq!(Template::literal(good), Ok(Template::Literal(JsonLiteral(good.into()))));
    }
    for bad in ["", "01", "1.", "+1", "NaN", "nul", "\"a\"", "[]", "{}", " 1", "1 ", "1,2", "tru e"]
    {
        assert!(Template::literal(bad).is_err(), "{bad}");
    }
}

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
    let template = Template::object([("a", "${event.id}"), ("b", "x"), ("c", "${event.data}")]);
    let body = BodyTemplate::compile(&template.unwrap()).unwrap();
    let literal = |text: &str| BodyPiece::Literal(text.as_bytes().into());
    let expected = [
        literal("{\"a\":\""),
        BodyPiece::Escaped(Accessor::EventId),
        literal("\",\"b\":\"x\",\"c\":"),
        BodyPiece::Raw(Accessor::EventData),
        literal("}"),
    ];
    assert_eq!(*body.pieces, expected);
    assert_eq!(body.sharing(), Sharing::Event);
}
