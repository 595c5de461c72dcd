//! What a request tells of the event, the attempt or the check that it was made for.

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::Received;
use super::pattern::{Captured, whole};
use crate::clock::Timestamp;
use crate::contract::compiled::{
    Accessor, BodyFormat, Contract, DEPTH, Member, Template, TextTemplate, TimeForm, Value,
};
use crate::expr::{KeyView, Output, RequestView, Root, Scope, SecretView};
use crate::json::{self, Kind, Node};
use crate::limits::JSON_DEPTH;
use crate::multipart;

/// Values that a request tells, first those that are believed first.
pub(super) struct Known<'c> {
    values: Captured<'c>,
    /// The URL without signatures; empty where it is not known.
    url: &'c str,
    /// A key that may have signed.
    key: Option<SecretView<'c>>,
}

impl<'c> Known<'c> {
    /// What the headers tell, then what the body tells: of a delivery, and of a question.
    /// `body` is what was sent before it was compressed, `url` is without signatures.
    pub(super) fn of(
        contract: &'c Contract,
        request: &Received<'_>,
        body: &Bytes,
        url: &'c str,
    ) -> Self {
        let mut known = Vec::new();
        let templates = contract.headers.iter().chain(&contract.callback.headers);
        for (name, template) in templates {
            let lines = request.headers.iter();
            for (_, value) in lines.filter(|(line, _)| line.eq_ignore_ascii_case(name)) {
                let text = std::str::from_utf8(value).ok();
                known.extend(text.and_then(|text| whole(template, text)).unwrap_or_default());
            }
        }
        let shapes = [&contract.shape, &contract.callback.shape];
        match contract.body_format {
            BodyFormat::Json => {
                if json::check(body, JSON_DEPTH + DEPTH).is_ok() {
                    for shape in shapes {
                        of_json(shape, Node::of(body), &mut known);
                    }
                }
            }
            BodyFormat::Form => {
                for (name, text) in url::form_urlencoded::parse(body) {
                    shapes.iter().for_each(|shape| of_field(shape, &name, &text, &mut known));
                }
            }
            BodyFormat::Multipart => {
                for (name, text) in multipart::decode(body).unwrap_or_default().0 {
                    let text = String::from_utf8_lossy(text);
                    shapes.iter().for_each(|shape| of_field(shape, &name, &text, &mut known));
                }
            }
        }
        for (name, template) in &contract.query {
            let parameters = url.split_once('?').map_or("", |(_, query)| query).split('&');
            let pairs = parameters.filter_map(|pair| pair.split_once('='));
            let decoded = |text| percent_decode_str(text).decode_utf8().ok();
            for (own, text) in pairs {
                if decoded(own).is_some_and(|own| own == **name) {
                    let text = decoded(text).and_then(|text| whole(template, &text));
                    known.extend(text.unwrap_or_default());
                }
            }
        }
        Self { values: known, url, key: None }
    }

    /// The same, and what stands around a signature, which is believed first.
    pub(super) fn with(&self, around: &Captured<'c>) -> Known<'c> {
        let values = around.iter().chain(&self.values).cloned().collect();
        Known { values, ..*self }
    }

    /// The same, with a key that may have signed.
    pub(super) fn signed_with(self, key: SecretView<'c>) -> Self {
        Self { key: Some(key), ..self }
    }

    /// A value as text, if the request tells it.
    pub(in crate::contract) fn text(&self, value: &Value, body: &Bytes) -> Option<String> {
        // What was asked for is known better than what a header says of it.
        if *value == Value::Accessor(Accessor::RequestUrl) && !self.url.is_empty() {
            return Some(self.url.to_owned());
        }
        if let Some(text) = self.recovered(value) {
            return Some(text.to_owned());
        }
        match value {
            Value::Accessor(accessor) => self.derived(accessor),
            Value::Expression(expression) => {
                let known = |root: &Root| matches!(root, Root::Request | Root::Secret);
                let mut others = Root::ALL.into_iter().filter(|root| !known(root));
                if others.any(|root| expression.speaks_of(root))
                    || (self.url.is_empty() && expression.speaks_of_url())
                {
                    return None;
                }
                let request = Some(RequestView { method: "POST", url: self.url, body });
                let key = Some(KeyView { id: "", number: 0, secret: self.key });
                match expression.value(&Scope { request, key, ..Scope::default() }).ok()? {
                    Output::Text(text) => Some(text),
                    Output::Int(number) => Some(number.to_string()),
                    Output::Bool(value) => Some(value.to_string()),
                    Output::Absent | Output::Null | Output::Double(_) | Output::Json(_) => None,
                }
            }
        }
    }

    /// When the attempt began, if the request tells: none inside for what is no time.
    pub(super) fn attempt_time(&self) -> Option<Option<Timestamp>> {
        self.values.iter().find_map(|(value, text)| match value {
            Value::Accessor(Accessor::AttemptTime(form) | Accessor::CheckTime(form)) => {
                read_time(form, text)
            }
            Value::Accessor(_) | Value::Expression(_) => None,
        })
    }

    fn recovered(&self, value: &Value) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == value).map(|(_, text)| text.as_str())
    }

    fn lookup(&self, accessor: Accessor) -> Option<&str> {
        self.recovered(&Value::Accessor(accessor))
    }

    /// What follows from other values.
    fn derived(&self, accessor: &Accessor) -> Option<String> {
        match accessor {
            Accessor::RequestMethod => Some("POST".to_owned()),
            Accessor::RequestUrl => Some(self.url.to_owned()).filter(|url| !url.is_empty()),
            // Of a question, the event's id is the check's.
            Accessor::EventUniqueId => match self.lookup(Accessor::CheckId) {
                Some(id) => Some(id.to_owned()),
                None => {
                    let id = self.lookup(Accessor::EventId)?;
                    Some(match self.lookup(Accessor::EventVersion)? {
                        "0" => id.to_owned(),
                        version => format!("{id}-v{version}"),
                    })
                }
            },
            Accessor::EventId => self.lookup(Accessor::CheckId).map(str::to_owned),
            Accessor::EventTime(form) => {
                self.lookup(Accessor::CheckTime(form.clone())).map(str::to_owned)
            }
            Accessor::AttemptTime(form) => match self.lookup(Accessor::CheckTime(form.clone())) {
                Some(text) => Some(text.to_owned()),
                None => self.time_as(form),
            },
            Accessor::CheckTime(form) => self.time_as(form),
            Accessor::EventVersion
            | Accessor::EventType
            | Accessor::EventAcceptTime(_)
            | Accessor::EventEnvironment
            | Accessor::TenantId
            | Accessor::EventData
            | Accessor::SubscriptionId
            | Accessor::SubscriptionUrl
            | Accessor::DeliveryId
            | Accessor::DeliveryReplay
            | Accessor::DeliveryTest
            | Accessor::AttemptNumber
            | Accessor::RequestBody
            | Accessor::Signature
            | Accessor::CheckId
            | Accessor::CheckData
            | Accessor::CallbackId => None,
        }
    }

    /// The attempt's time in a form that needs whole seconds only, which every form tells.
    fn time_as(&self, form: &TimeForm) -> Option<String> {
        let time = self.attempt_time()??;
        match form {
            TimeForm::Seconds => Some(time.seconds().to_string()),
            TimeForm::Rfc3339(0) => Some(time.rfc3339(0)),
            TimeForm::Millis | TimeForm::Rfc3339(_) | TimeForm::Pattern(_) => None,
        }
    }
}

/// A time as it was written; none for a form that does not tell the instant.
fn read_time(form: &TimeForm, text: &str) -> Option<Option<Timestamp>> {
    match form {
        TimeForm::Seconds => {
            let ms = text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000));
            Some(ms.map(Timestamp::from_millis))
        }
        TimeForm::Millis => Some(text.parse::<i64>().ok().map(Timestamp::from_millis)),
        TimeForm::Rfc3339(_) => Some(Timestamp::parse(text)),
        TimeForm::Pattern(_) => None,
    }
}

/// Follows the template into the body, by names and places. Lists in which something may be absent
/// have no places; spliced members have no names.
fn of_json<'c>(shape: &'c Template, node: Node<'_>, known: &mut Captured<'c>) {
    match shape {
        Template::Object(members) => {
            for member in members {
                if let Member::Named(name, template) = member
                    && let Some(node) = node.member(name)
                {
                    of_json(template, node, known);
                }
            }
        }
        Template::List(items) if items.iter().all(|item| item.optional().is_none()) => {
            for (item, node) in items.iter().zip(node.elements()) {
                of_json(item, node, known);
            }
        }
        Template::List(_) | Template::Literal(_) => {}
        Template::Text(template) => match node.kind() {
            Kind::String => {
                let text = node.as_str().unwrap_or_default();
                known.extend(whole(template, &text).unwrap_or_default());
            }
            Kind::Number | Kind::Bool => known.extend(scalar(template, node.source())),
            Kind::Null | Kind::Array | Kind::Object => {}
        },
    }
}

fn scalar<'c>(template: &'c TextTemplate, source: &[u8]) -> Option<(&'c Value, String)> {
    let text = std::str::from_utf8(source).ok()?;
    template.single().map(|value| (value, text.to_owned()))
}

/// What a field of a form tells.
fn of_field<'c>(shape: &'c Template, name: &str, text: &str, known: &mut Captured<'c>) {
    let Template::Object(members) = shape else { return };
    let template = members.iter().find_map(|member| match member {
        Member::Named(known, Template::Text(template)) if **known == *name => Some(template),
        Member::Named(..) | Member::Splice(_) => None,
    });
    known.extend(template.and_then(|template| whole(template, text)).unwrap_or_default());
}
