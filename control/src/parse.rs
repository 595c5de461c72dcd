//! Fields that several requests share, parsed once. What is wrong goes into the caller's
//! [`Violations`]; a `None` from here always stands beside a note there.

use std::collections::{BTreeMap, HashMap};

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::event::Environment;
use pregon_core::id::{PoolName, TenantId};
use pregon_core::limits;
use pregon_core::redact::{SensitivePath, SensitiveRoot};
use pregon_core::url::EgressRule;
use pregon_proto::v1;
use pregon_rpc::time;

use crate::map;

/// Ends the parsing of a request: the refusal of all wrong fields, or what was parsed.
pub(crate) fn done<T>(wrong: Violations, parsed: Option<T>) -> Result<T, Refusal> {
    wrong.finish()?;
    // Without a note every part was parsed; this arm is for a parser that breaks that rule.
    parsed.ok_or_else(|| Refusal::new(Reason::Internal, "a field was dropped without a reason"))
}

/// Parses a request of one field.
pub(crate) fn only<T>(field: &str, parsed: Result<T, Wrong>) -> Result<T, Refusal> {
    parsed.map_err(|wrong| Refusal::field(field, wrong.rule, wrong.description))
}

/// A message without which nothing else of the request can be parsed.
pub(crate) fn needed<T>(field: &str, given: Option<T>) -> Result<T, Refusal> {
    given.ok_or_else(|| Refusal::field(field, Rule::Required, "must be set"))
}

/// A message that must be there.
pub(crate) fn required<T>(field: &str, given: Option<T>, wrong: &mut Violations) -> Option<T> {
    if given.is_none() {
        wrong.add(field, Rule::Required, "must be set");
    }
    given
}

/// Text of so many characters at most.
pub(crate) fn text(given: &str, most: usize) -> Result<String, Wrong> {
    let length = given.chars().count();
    if length > most {
        let description = format!("must be {most} characters at most, is {length}");
        return Err(Wrong::new(Rule::TooLong, description));
    }
    Ok(given.to_owned())
}

/// `display_name`: one line, so no line breaks and no other control characters.
pub(crate) fn display_name(given: &str) -> Result<String, Wrong> {
    line(given, limits::DISPLAY_NAME_LEN)
}

/// Text of one line, of so many characters at most.
fn line(given: &str, most: usize) -> Result<String, Wrong> {
    if let Some(at) =
        given.chars().position(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        let description =
            format!("must be one line without control characters; character {} is one", at + 1);
        return Err(Wrong::new(Rule::Malformed, description));
    }
    text(given, most)
}

/// The reason for which events are erased: one line.
pub(crate) fn erasure_reason(given: &str) -> Result<String, Wrong> {
    if given.trim().is_empty() {
        return Err(Wrong::new(Rule::Required, "must be set"));
    }
    line(given, limits::ERASURE_REASON_LEN)
}

/// `request_id`, which may be empty.
pub(crate) fn request_id(given: &str) -> Result<String, Wrong> {
    text(given, limits::REQUEST_ID_LEN)
}

/// `labels`. A wrong one is reported by its key.
pub(crate) fn labels(
    field: &str,
    given: &HashMap<String, String>,
    wrong: &mut Violations,
) -> BTreeMap<String, String> {
    if given.len() > limits::LABELS {
        wrong.add(field, Rule::TooMany, format!("must be {} at most", limits::LABELS));
    }
    let sorted: BTreeMap<_, _> = given.iter().take(limits::LABELS).collect();
    for (key, value) in &sorted {
        let place =
            format!("{field}[{}]", key.chars().take(limits::LABEL_KEY_LEN).collect::<String>());
        if key.is_empty() {
            wrong.add(&place, Rule::Required, "a label must have a key");
        }
        if let Err(long) = text(key, limits::LABEL_KEY_LEN) {
            wrong.add(&place, long.rule, format!("the key {}", long.description));
        }
        if let Err(long) = text(value, limits::LABEL_VALUE_LEN) {
            wrong.add(&place, long.rule, format!("the value {}", long.description));
        }
    }
    sorted.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Paths to values that are shown redacted; all lead into the same data.
pub(crate) fn sensitive_paths(
    field: &str,
    given: &[String],
    root: SensitiveRoot,
    wrong: &mut Violations,
) -> Option<Vec<String>> {
    if given.len() > limits::SENSITIVE_PATHS {
        let text = format!("must be {} at most, are {}", limits::SENSITIVE_PATHS, given.len());
        wrong.add(field, Rule::TooMany, text);
        return None;
    }
    let mut parsed = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let path = SensitivePath::parse(text).and_then(|path| match path.root() == root {
            true => Ok(path.as_str().to_owned()),
            false => Err(Wrong::new(Rule::Malformed, "leads into data that is not there")),
        });
        parsed.extend(wrong.check(format!("{field}[{index}]"), path));
    }
    Some(parsed)
}

/// A whole number within bounds.
pub(crate) fn within<T>(given: T, least: T, most: T) -> Result<T, Wrong>
where
    T: PartialOrd + Copy + std::fmt::Display,
{
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        let text = format!("must be {least} to {most}, is {given}");
        Err(Wrong::new(Rule::OutOfRange, text))
    }
}

/// `max_concurrency`; 0 stands for the default.
pub(crate) fn concurrency(field: &str, given: i32, wrong: &mut Violations) -> Option<u32> {
    if given == 0 {
        return Some(limits::CONCURRENCY_DEFAULT);
    }
    let parsed = within(i64::from(given), 1, i64::from(limits::CONCURRENCY_MAX));
    wrong.check(field, parsed).and_then(|number| u32::try_from(number).ok())
}

/// A field whose feature is not there yet: refused when set.
pub(crate) fn unsupported(field: &str, set: bool, wrong: &mut Violations) {
    if set {
        wrong.add(field, Rule::Unsupported, "is not supported yet: leave it out");
    }
}

/// An enum's value, if this release knows it.
pub(crate) fn known<E: TryFrom<i32>>(field: &str, given: i32, wrong: &mut Violations) -> Option<E> {
    let known = E::try_from(given).ok();
    if known.is_none() {
        wrong.add(field, Rule::OutOfRange, format!("{given} is none of this enum's values"));
    }
    known
}

/// An environment; none where it is not specified.
pub(crate) fn environment(field: &str, given: i32, wrong: &mut Violations) -> Option<Environment> {
    known(field, given, wrong).and_then(map::from_environment)
}

/// A moment that may be left out.
pub(crate) fn moment(
    field: &str,
    given: Option<&prost_types::Timestamp>,
    wrong: &mut Violations,
) -> Option<Timestamp> {
    given.and_then(|time| wrong.check(field, time::parse_timestamp(time)))
}

/// Start (included) and end (excluded) of a time range that may be left out.
pub(crate) fn time_range(
    given: Option<&v1::TimeRange>,
    wrong: &mut Violations,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let Some(range) = given else { return (None, None) };
    let from = moment("time_range.start_time", range.start_time.as_ref(), wrong);
    let to = moment("time_range.end_time", range.end_time.as_ref(), wrong);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        wrong.add("time_range.end_time", Rule::OutOfRange, "must be later than start_time");
    }
    (from, to)
}

/// The name of an egress pool; `Some(None)`: none is named.
pub(crate) fn pool(field: &str, given: &str, wrong: &mut Violations) -> Option<Option<PoolName>> {
    match given.is_empty() {
        true => Some(None),
        false => wrong.check(field, PoolName::parse(given)).map(Some),
    }
}

/// Rules that say whom requests may go to; every wrong one is told.
pub(crate) fn egress_rules(
    field: &str,
    given: &[String],
    wrong: &mut Violations,
) -> Option<Vec<EgressRule>> {
    if given.len() > limits::EGRESS_RULES {
        let text = format!("must be {} rules at most, are {}", limits::EGRESS_RULES, given.len());
        wrong.add(field, Rule::TooMany, text);
        return None;
    }
    let mut rules = Vec::with_capacity(given.len());
    for (index, text) in given.iter().enumerate() {
        rules.extend(wrong.check(format!("{field}[{index}]"), EgressRule::parse(text)));
    }
    Some(rules)
}

/// A tenant's id, as given to a new one. `-` is none: `tenants/-` stands for all tenants.
pub(crate) fn tenant_id(given: &str) -> Result<TenantId, Wrong> {
    TenantId::parse(given).and_then(one_tenant)
}

/// The name of one tenant.
pub(crate) fn tenant_name(given: &str) -> Result<TenantId, Wrong> {
    TenantId::parse_name(given).and_then(one_tenant)
}

fn one_tenant(id: TenantId) -> Result<TenantId, Wrong> {
    match id.as_str() {
        "-" => Err(Wrong::new(Rule::Malformed, "must be one tenant: - stands for all")),
        _ => Ok(id),
    }
}

/// Whose resources a list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `tenants/-`: everybody's.
    All,
    /// One tenant's.
    Tenant(TenantId),
}

impl Scope {
    /// Parses a parent that may be `tenants/-`.
    pub(crate) fn parse(parent: &str) -> Result<Self, Wrong> {
        match parent {
            "tenants/-" => Ok(Self::All),
            _ => tenant_name(parent).map(Self::Tenant),
        }
    }

    /// The tenant, unless it is everybody.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(wrong: &Violations) -> Vec<(String, Rule)> {
        wrong.as_slice().iter().map(|v| (v.field.clone(), v.rule)).collect()
    }

    #[test]
    fn a_display_name_is_one_line() {
        for good in ["", "Acme", "Café «Ñandú» 100 %", "名前"] {
            assert_eq!(display_name(good).unwrap(), good);
        }
        for bad in ["a\nb", "a\rb", "a\0", "\u{1b}[31mred", "a\u{85}b", "a\u{2028}b"] {
            let wrong = display_name(bad).unwrap_err();
            assert!(wrong.description.starts_with("must be one line"), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_reported_by_key() {
        let mut wrong = Violations::new();
        let given = HashMap::from([
            (String::new(), "x".to_owned()),
            ("k".repeat(64), "x".to_owned()),
            ("long".to_owned(), "v".repeat(257)),
            ("ñ".repeat(63), "á".repeat(256)),
        ]);
        labels("tenant.labels", &given, &mut wrong);
        let mut found = rules(&wrong);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            found,
            [
                ("tenant.labels[]".to_owned(), Rule::Required),
                (format!("tenant.labels[{}]", "k".repeat(63)), Rule::TooLong),
                ("tenant.labels[long]".to_owned(), Rule::TooLong),
            ]
        );
        let many = (0..33).map(|i| (i.to_string(), String::new())).collect();
        let mut wrong = Violations::new();
        labels("labels", &many, &mut wrong);
        assert_eq!(rules(&wrong), [("labels".to_owned(), Rule::TooMany)]);
    }

    #[test]
    fn ranges_run_forward() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut wrong = Violations::new();
        time_range(Some(&v1::TimeRange { start_time: at(5), end_time: at(5) }), &mut wrong);
        assert_eq!(rules(&wrong), [("time_range.end_time".to_owned(), Rule::OutOfRange)]);
        let mut wrong = Violations::new();
        let range =
            time_range(Some(&v1::TimeRange { start_time: None, end_time: at(5) }), &mut wrong);
        assert_eq!(range, (None, Some(Timestamp::from_millis(5000))));
        assert!(wrong.is_empty());
    }

    #[test]
    fn a_scope_is_a_tenant_or_all() {
        assert_eq!(Scope::parse("tenants/-").unwrap(), Scope::All);
        assert_eq!(Scope::parse("tenants/a").unwrap().tenant().unwrap().as_str(), "a");
        assert_eq!(Scope::parse("").unwrap_err().rule, Rule::Required);
        assert_eq!(Scope::parse("tenants/a/b").unwrap_err().rule, Rule::Malformed);
    }
}
