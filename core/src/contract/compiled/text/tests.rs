use super::*;
use crate::contract::compiled::TimeForm;
use crate::expr::Site;

fn pieces(text: &str) -> Vec<TextPiece> {
    TextTemplate::parse(text, Site::Template).unwrap().pieces.into_vec()
}

fn literal(text: &str) -> TextPiece {
    TextPiece::Literal(text.into())
}

#[test]
fn texts_are_split_at_their_values() {
    let id = || TextPiece::Value(Value::Accessor(Accessor::EventId));
    assert_eq!(pieces(""), []);
    assert_eq!(pieces("a$b{c}"), [literal("a$b{c}")]);
    assert_eq!(pieces("${event.id}"), [id()]);
    assert_eq!(pieces("a${ event.id }b${event.id}"), [literal("a"), id(), literal("b"), id()]);
    assert_eq!(pieces("$${event.id}"), [literal("${event.id}")]);
    assert_eq!(pieces("$$${event.id}"), [literal("$${event.id}")]);
    assert_eq!(pieces("$${a}${event.id}"), [literal("${a}"), id()]);
}

#[test]
fn braces_inside_an_expression_do_not_end_it() {
    for source in [r#"event.type == "}" ? "a" : "{""#, r#"event.type.split('}')[0]"#, r#""\"}""#] {
        let text = format!("a${{{source}}}b");
        let [
            TextPiece::Literal(_),
            TextPiece::Value(Value::Expression(it)),
            TextPiece::Literal(end),
        ] = &pieces(&text)[..]
        else {
            panic!("{text}");
        };
        assert_eq!((it.source(), &**end), (source, "b"));
    }
}

#[test]
fn simple_times_need_no_engine() {
    for text in [
        "event.time.rfc3339(0)",
        "attempt.time.rfc3339(3)",
        "int(event.accept_time)",
        "event.time.format(\"dd/MM/yyyy\", \"America/Argentina/Buenos_Aires\")",
    ] {
        let pieces = pieces(&format!("${{{text}}}"));
        assert!(matches!(&pieces[..], [TextPiece::Value(Value::Accessor(_))]), "{text}");
    }
    let [TextPiece::Value(Value::Accessor(Accessor::AttemptTime(form)))] =
        &pieces("${int(attempt.time)}")[..]
    else {
        panic!("no accessor");
    };
    assert_eq!(*form, TimeForm::Seconds);
}

#[test]
fn unknown_expressions_are_refused() {
    for (bad, rule) in [
        ("${", Rule::ContractInvalid),
        ("${event.id", Rule::ContractInvalid),
        ("${}", Rule::ExpressionInvalid),
        ("${event}", Rule::ExpressionInvalid),
        ("${event.time.rfc3339()}", Rule::ExpressionInvalid),
        ("${Event.id}", Rule::ExpressionInvalid),
        ("${check.id}", Rule::ExpressionInvalid),
        ("${response.status}", Rule::ExpressionInvalid),
        ("${event.time.format(\"QQ\", \"UTC\")}", Rule::Malformed),
        ("${event.time.format(\"yyyy\", \"Mars/Olympus\")}", Rule::Malformed),
    ] {
        assert_eq!(TextTemplate::parse(bad, Site::Template).unwrap_err().rule, rule, "{bad}");
    }
}
