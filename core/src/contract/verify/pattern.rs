//! Text templates the other way around: from the text to the values that were put in.

use crate::contract::compiled::{
    Accessor, SignatureEncoding, TextPiece, TextTemplate, TimeForm, Value,
};

/// Values with their texts, by the expression that stands for them.
pub(super) type Captured<'c> = Vec<(&'c Value, String)>;

/// What a template's values were in a text that is nothing else; none if it cannot have made it.
pub(super) fn whole<'c>(template: &'c TextTemplate, text: &str) -> Option<Captured<'c>> {
    let mut captured = Vec::new();
    let rest = leading(template, text, None, &[], &mut captured)?;
    rest.is_empty().then_some(captured)
}

/// The same for the front of a text; gives what follows. A value reaches up to what the template
/// has next, or the text's end, or one of `stops`; or as far as the characters go that it can have.
pub(super) fn leading<'c, 'a>(
    template: &'c TextTemplate,
    text: &'a str,
    signature: Option<SignatureEncoding>,
    stops: &[&str],
    captured: &mut Captured<'c>,
) -> Option<&'a str> {
    let mut rest = text;
    let mut pieces = template.pieces().iter().peekable();
    while let Some(piece) = pieces.next() {
        let value = match piece {
            TextPiece::Literal(literal) => {
                rest = rest.strip_prefix(&**literal)?;
                continue;
            }
            TextPiece::Value(value) => value,
        };
        let end = match pieces.peek() {
            Some(TextPiece::Literal(next)) => rest.find(&**next)?,
            Some(TextPiece::Value(_)) | None => run(value, rest, signature, stops),
        };
        let (text, after) = rest.split_at_checked(end)?;
        if text.is_empty() || !text.chars().all(|c| may_have(value, c, signature)) {
            return None;
        }
        captured.push((value, text.to_owned()));
        rest = after;
    }
    Some(rest)
}

/// How far a value reaches whose end nothing marks.
fn run(value: &Value, text: &str, signature: Option<SignatureEncoding>, stops: &[&str]) -> usize {
    let stop = stops.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    let alien = text.find(|c| !may_have(value, c, signature)).unwrap_or(text.len());
    stop.min(alien)
}

/// Whether a character may stand in a value's text.
fn may_have(value: &Value, c: char, signature: Option<SignatureEncoding>) -> bool {
    let Value::Accessor(accessor) = value else { return true };
    match accessor {
        Accessor::Signature => signature.is_some_and(|encoding| encoding.has(c)),
        Accessor::EventTime(form)
        | Accessor::EventAcceptTime(form)
        | Accessor::AttemptTime(form)
        | Accessor::CheckTime(form) => match form {
            TimeForm::Seconds | TimeForm::Millis => c.is_ascii_digit() || c == '-',
            TimeForm::Rfc3339(_) => c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z'),
            TimeForm::Pattern(_) => true,
        },
        Accessor::EventVersion | Accessor::AttemptNumber => c.is_ascii_digit(),
        Accessor::EventId
        | Accessor::EventUniqueId
        | Accessor::EventType
        | Accessor::EventEnvironment
        | Accessor::TenantId
        | Accessor::EventData
        | Accessor::SubscriptionId
        | Accessor::SubscriptionUrl
        | Accessor::RequestUrl
        | Accessor::DeliveryId
        | Accessor::DeliveryReplay
        | Accessor::DeliveryTest
        | Accessor::RequestMethod
        | Accessor::RequestBody
        | Accessor::CheckId
        | Accessor::CheckData
        | Accessor::CallbackId => true,
    }
}
