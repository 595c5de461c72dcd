//! Binding: the slots of a compiled expression, resolved against one scope.
//!
//! The engine asks for a variable by name each time it meets it; a slot's name is `@` and its number,
//! which no source can spell. What is not there resolves to nothing, and the engine's "undeclared
//! reference" then becomes "event.data.x is absent".

use super::compile::Program;
use super::scope::{Scope, SecretView};
use super::slot::{Document, Field, Lookup, Map, Path, Slot};
use super::value::{self, JsonVal};
use super::work;
use crate::clock::Timestamp;
use crate::json::{self, Node};
use crate::limits::{JSON_DEPTH, RESPONSE_READ};
use bytes::Bytes;
use cel::common::types::{CelBool, CelBytes, CelInt, CelOptional, CelString, CelTimestamp};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A compiled expression bound to what it may look at.
pub(super) struct Bound<'a> {
    program: &'a Program,
    scope: &'a Scope<'a>,
    /// Where each slot's path leads; only kept when a comprehension may ask again and again.
    found: Vec<OnceLock<Found<'a>>>,
    /// Maps that were asked for whole, as JSON text.
    maps: [OnceLock<Bytes>; Map::COUNT],
    response_text: OnceLock<String>,
    /// Whether the response is JSON.
    response_parses: OnceLock<bool>,
}

/// Where a path leads.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    /// To a part of this text.
    Value(Node<'a>, &'a Bytes),
    /// Nowhere, which the path allows for.
    Nothing,
    /// Nowhere.
    Missing,
}

impl<'a> Bound<'a> {
    pub(super) fn new(program: &'a Program, scope: &'a Scope<'a>) -> Self {
        let kept = if program.loops { program.slots.len() } else { 0 };
        Self {
            program,
            scope,
            found: (0..kept).map(|_| OnceLock::new()).collect(),
            maps: [const { OnceLock::new() }; Map::COUNT],
            response_text: OnceLock::new(),
            response_parses: OnceLock::new(),
        }
    }

    /// Why the slot of this name has no value, as in `event.data.a is absent`.
    pub(super) fn why_missing(&self, name: &str) -> Option<String> {
        let slot = self.program.slots.get(slot_number(name)?)?;
        Some(format!("{} is absent", slot.describe()))
    }

    fn document(&self, document: Document) -> Option<&'a Bytes> {
        match document {
            Document::EventData => Some(self.scope.event?.data),
            Document::CheckData => Some(self.scope.check?.data),
            Document::ResponseJson => {
                let body = self.scope.response?.body;
                let parses = self.response_parses.get_or_init(|| {
                    work::charge(body.len()).is_ok() && json::check(body, JSON_DEPTH).is_ok()
                });
                parses.then_some(body)
            }
        }
    }

    /// Where a path leads.
    pub(super) fn find(&self, path: &Path) -> Found<'a> {
        let Some(text) = self.document(path.document) else {
            let allowed = path.optional_from == Some(0);
            return if allowed { Found::Nothing } else { Found::Missing };
        };
        if work::charge(text.len()).is_err() {
            return Found::Missing;
        }
        let certain = path.optional_from.map_or(path.steps.len(), |at| at.saturating_sub(1));
        let (certain, rest) = path.steps.split_at(certain.min(path.steps.len()));
        let Some(node) = Node::of(text).follow(certain) else {
            return Found::Missing;
        };
        match node.follow(rest) {
            Some(node) => Found::Value(node, text),
            None => Found::Nothing,
        }
    }

    fn path(&self, number: usize, path: &Path) -> Option<CowVal<'_, '_>> {
        let found = match self.found.get(number) {
            Some(kept) => *kept.get_or_init(|| self.find(path)),
            None => self.find(path),
        };
        match found {
            Found::Value(node, text) => {
                let value = value::borrowed(node, text).ok()?;
                Some(match path.optional_from {
                    Some(_) => CowVal::owned(CelOptional::of(value.into_owned())),
                    None => value,
                })
            }
            Found::Nothing => Some(CowVal::owned(CelOptional::none())),
            Found::Missing => None,
        }
    }

    /// A value as it is written in the text; of a string, what it says.
    fn raw(&self, path: &Path) -> Option<CowVal<'_, '_>> {
        let written = match self.find(path) {
            Found::Value(node, _) => match node.as_str() {
                Some(said) => said,
                None => String::from_utf8_lossy(node.source()),
            },
            Found::Nothing => return Some(CowVal::owned(CelOptional::none())),
            Found::Missing => return None,
        };
        work::charge_growth(written.len()).ok()?;
        let written = CowVal::owned(CelString::from(written.into_owned()));
        Some(match path.optional_from {
            Some(_) => CowVal::owned(CelOptional::of(written.into_owned())),
            None => written,
        })
    }

    fn labels(&self, map: Map) -> Option<&'a BTreeMap<String, String>> {
        static EMPTY: BTreeMap<String, String> = BTreeMap::new();
        match map {
            Map::EventAttributes => Some(self.scope.event?.attributes.unwrap_or(&EMPTY)),
            Map::TenantLabels => Some(self.scope.tenant?.labels),
            Map::SubscriptionLabels => Some(self.scope.subscription?.labels),
            Map::CallbackLabels => Some(self.scope.callback?.labels),
            Map::ResponseHeaders => None,
        }
    }

    fn headers(&self) -> Option<&'a [(String, String)]> {
        Some(self.scope.response?.headers)
    }

    fn entry(&self, map: Map, key: &str, lookup: Lookup) -> Option<CowVal<'_, '_>> {
        let found = if map == Map::ResponseHeaders {
            let headers = self.headers()?;
            work::charge(headers.len() * work::VALUE).ok()?;
            let mut values =
                headers.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str());
            let first = values.next();
            first.map(|first| values.fold(Cow::Borrowed(first), |all, next| all + ", " + next))
        } else {
            self.labels(map)?.get(key).map(|value| Cow::Borrowed(value.as_str()))
        };
        let length = found.as_ref().map_or(0, |value| value.len());
        work::charge(length + work::VALUE).ok()?;
        let text = |value: Cow<'a, str>| CowVal::owned(CelString::from(value));
        match lookup {
            Lookup::Value => found.map(text),
            Lookup::Optional => {
                let inner = found.map(|value| text(value).into_owned());
                Some(CowVal::owned(CelOptional::from(inner)))
            }
            Lookup::Present => Some(CowVal::owned(CelBool::from(found.is_some()))),
        }
    }

    /// A whole map, which becomes an object of JSON: that knows all that CEL asks of a map.
    fn map(&self, map: Map) -> Option<CowVal<'_, '_>> {
        let joined: BTreeMap<&str, Cow<'_, str>> = match self.maps.get(map as usize)?.get() {
            Some(text) => return Some(CowVal::owned(JsonVal::new(text.clone()))),
            None if map == Map::ResponseHeaders => {
                let mut all = BTreeMap::new();
                for (name, value) in self.headers()? {
                    let joined = match all.remove(name.as_str()) {
                        Some(before) => before + ", " + value.as_str(),
                        None => Cow::Borrowed(value.as_str()),
                    };
                    all.insert(name.as_str(), joined);
                }
                all
            }
            None => {
                let all = self.labels(map)?.iter();
                all.map(|(key, value)| (key.as_str(), Cow::Borrowed(value.as_str()))).collect()
            }
        };
        let text = self.maps.get(map as usize)?.get_or_init(|| object(&joined));
        work::charge_growth(text.len()).ok()?;
        Some(CowVal::owned(JsonVal::new(text.clone())))
    }

    fn field(&self, field: Field) -> Option<CowVal<'_, '_>> {
        let scope = self.scope;
        match field {
            Field::EventId => text(scope.event?.id),
            Field::EventVersion => int(scope.event?.version),
            Field::EventUniqueId => {
                let event = scope.event?;
                match event.version {
                    0 => text(event.id),
                    version => text(format!("{}-v{version}", event.id)),
                }
            }
            Field::EventType => text(scope.event?.event_type),
            Field::EventTime => time(scope.event?.occur_time),
            Field::EventAcceptTime => time(scope.event?.accept_time),
            Field::EventEnvironment => text(scope.event?.environment),
            Field::EventTenant => text(scope.event?.tenant),
            Field::TenantId => text(scope.tenant?.id),
            Field::SubscriptionId => text(scope.subscription?.id),
            Field::SubscriptionUrl => text(scope.subscription?.url),
            Field::SubscriptionEnvironment => text(scope.subscription?.environment),
            Field::DeliveryId => text(scope.delivery?.id),
            Field::DeliveryCreateTime => time(scope.delivery?.create_time),
            Field::DeliveryReplay => truth(scope.delivery?.replay),
            Field::DeliveryTest => truth(scope.delivery?.test),
            Field::AttemptNumber => int(scope.attempt?.number),
            Field::AttemptTime => time(scope.attempt?.time),
            Field::RequestMethod => text(scope.request?.method),
            Field::RequestUrl => text(scope.request?.url),
            Field::RequestBody => {
                let body = scope.request?.body;
                work::charge(body.len()).ok()?;
                match std::str::from_utf8(body) {
                    Ok(body) => text(body),
                    Err(_) => Some(CowVal::owned(CelBytes::from(body.to_vec()))),
                }
            }
            Field::ResponseStatus => int(scope.response?.status),
            Field::ResponseBody => {
                let body = scope.response?.body;
                let start = body.get(..RESPONSE_READ).unwrap_or(body);
                work::charge(start.len()).ok()?;
                let read = || String::from_utf8_lossy(start).into_owned();
                text(self.response_text.get_or_init(read).as_str())
            }
            Field::CheckId => text(scope.check?.id),
            Field::CheckTime => time(scope.check?.time),
            Field::CallbackId => text(scope.callback?.id),
            Field::KeyId => text(scope.key?.id),
            Field::KeyNumber => int(scope.key?.number),
            Field::Secret => secret(scope.key?.secret?),
            Field::Signature => text(scope.signature?),
            Field::ChallengeId => text(scope.challenge?.id),
            Field::ChallengeTime => time(scope.challenge?.time),
            Field::ChallengeText => text(scope.challenge?.text),
        }
    }
}

impl VariableResolver for Bound<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let number = slot_number(variable)?;
        match self.program.slots.get(number)? {
            Slot::Field(field) => self.field(*field),
            Slot::Path(path) => self.path(number, path),
            Slot::Raw(path) => self.raw(path),
            Slot::Present(document) => truth(self.document(*document).is_some()),
            Slot::Map(map) => self.map(*map),
            Slot::Entry(map, key, lookup) => self.entry(*map, key, *lookup),
            Slot::Constant(value) => Some(CowVal::Borrowed(value.as_ref())),
        }
    }
}

/// The number in a slot's name.
pub(super) fn slot_number(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

fn object(members: &BTreeMap<&str, Cow<'_, str>>) -> Bytes {
    let mut text = vec![b'{'];
    for (name, value) in members {
        if text.len() > 1 {
            text.push(b',');
        }
        json::write_string(&mut text, name);
        text.push(b':');
        json::write_string(&mut text, value);
    }
    text.push(b'}');
    text.into()
}

fn text<'b>(text: impl Into<Cow<'b, str>>) -> Option<CowVal<'b, 'b>> {
    Some(CowVal::owned(CelString::from(text.into())))
}

fn secret<'b>(secret: SecretView<'_>) -> Option<CowVal<'b, 'b>> {
    if !secret.is_text {
        return Some(CowVal::owned(CelBytes::from(secret.key.to_vec())));
    }
    Some(CowVal::owned(CelString::from(std::str::from_utf8(secret.key).ok()?.to_owned())))
}

fn int<'b>(int: impl Into<i64>) -> Option<CowVal<'b, 'b>> {
    Some(CowVal::owned(CelInt::from(int.into())))
}

fn truth<'b>(truth: bool) -> Option<CowVal<'b, 'b>> {
    Some(CowVal::owned(CelBool::from(truth)))
}

fn time<'b>(time: Timestamp) -> Option<CowVal<'b, 'b>> {
    let time = chrono::DateTime::from_timestamp_millis(time.millis())?;
    Some(CowVal::owned(CelTimestamp::from(time.fixed_offset())))
}
