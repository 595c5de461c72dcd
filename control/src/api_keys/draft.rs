//! What a request says of a new API key, and who may make such a one.

use std::collections::BTreeSet;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violation, Violations};
use pregon_core::event::Environment;
use pregon_core::id::{ApiKeyId, TenantId};
use pregon_core::limits;
use pregon_core::model::{ApiKey, ApiKeyLimits, ApiKeySecret, Common};
use pregon_core::pattern::Pattern;
use pregon_proto::v1;
use pregon_rpc::caller::{Caller, Role};

use crate::{map, parse};

/// A new key, parsed.
#[derive(Debug)]
pub(super) struct Draft {
    display_name: String,
    role: Role,
    tenants: Option<BTreeSet<TenantId>>,
    event_types: Vec<String>,
    environment: Option<Environment>,
    limits: ApiKeyLimits,
    expire_time: Option<Timestamp>,
}

impl Draft {
    /// Parses `api_key`.
    pub(super) fn parse(
        given: &v1::ApiKey,
        now: Timestamp,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let display_name =
            wrong.check("api_key.display_name", parse::display_name(&given.display_name));
        let role: Option<v1::ApiKeyRole> = parse::known("api_key.role", given.role, wrong);
        if role == Some(v1::ApiKeyRole::Unspecified) {
            wrong.add("api_key.role", Rule::Required, "must be set");
        }
        let role = role.and_then(map::from_role);
        let tenants = tenants(&given.tenants, wrong);
        let event_types = event_types(&given.event_types, wrong);
        if role.is_some_and(|role| role != Role::Publisher) && !given.event_types.is_empty() {
            let text = "must be empty: only a PUBLISHER publishes";
            wrong.add("api_key.event_types", Rule::OutOfRange, text);
        }
        let environment = parse::environment("api_key.environment", given.environment, wrong);
        let limits = limits(given.limits.as_ref(), wrong);
        let expire = parse::moment("api_key.expire_time", given.expire_time.as_ref(), wrong);
        if expire.is_some_and(|end| end <= now) {
            wrong.add("api_key.expire_time", Rule::OutOfRange, "must lie ahead of now");
        }
        Some(Self {
            display_name: display_name?,
            role: role?,
            tenants,
            event_types,
            environment,
            limits,
            expire_time: expire,
        })
    }

    /// Refuses who may not make such a key.
    ///
    /// # Errors
    ///
    /// ROLE_MISSING, TENANT_DENIED, ENVIRONMENT_DENIED, with the field.
    pub(super) fn may_be_made_by(&self, caller: &Caller) -> Result<(), Refusal> {
        may_grant(caller, Some(self.role))
            .map_err(|text| at("api_key.role", Refusal::new(Reason::RoleMissing, text)))?;
        if !caller.reaches(self.tenants.as_ref()) {
            let text = "must be tenants that the caller's own credential is for, one at least";
            return Err(at("api_key.tenants", Refusal::new(Reason::TenantDenied, text)));
        }
        caller.may_use(self.environment).map_err(|refusal| {
            let text = "must be the environment that the caller's own credential is for";
            at("api_key.environment", Refusal::new(refusal.reason, text))
        })?;
        may_have(caller, self.expire_time, self.limits).map_err(|(field, rule)| {
            at(&format!("api_key.{field}"), Refusal::new(Reason::RoleMissing, rule))
        })
    }

    /// The key.
    pub(super) fn key(
        self,
        id: ApiKeyId,
        secret: ApiKeySecret,
        maker: &Caller,
        now: Timestamp,
    ) -> ApiKey {
        let display_name = self.display_name;
        // Whoever may make keys for everybody makes them for others; anyone else for itself.
        let share =
            if maker.makes_for_others() { String::new() } else { maker.share().to_string() };
        let common =
            Common { display_name, create_time: now, update_time: now, ..Common::default() };
        ApiKey {
            id,
            common,
            role: self.role.word().to_owned(),
            tenants: self.tenants,
            event_types: self.event_types,
            environment: self.environment,
            limits: self.limits,
            secrets: vec![secret],
            expire_time: self.expire_time,
            revoke_time: None,
            revoked: false,
            creator: maker.actor().to_string(),
            share,
        }
    }
}

/// Names the field that a refusal is about.
fn at(field: &str, mut refusal: Refusal) -> Refusal {
    let description = refusal.message.clone();
    refusal.message = format!("{field} {description}");
    refusal.violations =
        vec![Violation { field: field.to_owned(), rule: Rule::OutOfRange, description }];
    refusal
}

/// Whether a caller may make a key of a role; none: one that this release does not know.
pub(super) fn may_grant(caller: &Caller, role: Option<Role>) -> Result<(), &'static str> {
    let may = match (caller.role(), role) {
        (None | Some(Role::Admin), _) => true,
        (
            Some(Role::Operator | Role::TenantManager),
            Some(Role::TenantManager | Role::Publisher | Role::Viewer | Role::Auditor),
        ) => true,
        (
            Some(
                Role::Operator
                | Role::TenantManager
                | Role::Publisher
                | Role::Viewer
                | Role::Auditor,
            ),
            _,
        ) => false,
    };
    match may {
        true => Ok(()),
        false => Err("must be TENANT_MANAGER, PUBLISHER, VIEWER or AUDITOR: others are an admin's"),
    }
}

/// Whether a key may last so long and use so much: no more than the caller's own credential. If
/// not, answers with the field and its rule.
fn may_have(
    caller: &Caller,
    end: Option<Timestamp>,
    limits: ApiKeyLimits,
) -> Result<(), (&'static str, String)> {
    if let Some(own) = caller.end()
        && end.is_none_or(|end| end > own)
    {
        let rule = format!("must be set, to {own} at most: the caller's own credential ends then");
        return Err(("expire_time", rule));
    }
    let own = caller.limits();
    for (field, own, limit) in [
        ("limits.calls_per_second", own.calls_per_second, limits.calls_per_second),
        ("limits.events_per_second", own.events_per_second, limits.events_per_second),
        ("limits.bytes_per_second", own.bytes_per_second, limits.bytes_per_second),
    ] {
        if own != 0 && !(1..=own).contains(&limit) {
            let rule = format!("must be set, to {own} at most: the caller's own limit");
            return Err((field, rule));
        }
    }
    Ok(())
}

/// Refuses a new secret for a key that lasts longer, or may use more, than the caller's own
/// credential.
///
/// # Errors
///
/// ROLE_MISSING.
pub(super) fn may_rotate(caller: &Caller, key: &ApiKey) -> Result<(), Refusal> {
    may_have(caller, key.end(), key.limits).map_err(|(field, rule)| {
        let text = format!("{field} of {} {rule}", key.id.name());
        Refusal::new(Reason::RoleMissing, text)
    })
}

/// Refuses to change a key that the caller could not have made.
///
/// # Errors
///
/// ROLE_MISSING.
pub(super) fn may_manage(caller: &Caller, key: &ApiKey) -> Result<(), Refusal> {
    may_grant(caller, Role::parse(&key.role)).map_err(|rule| {
        let text = format!("the role of {} {rule}", key.id.name());
        Refusal::new(Reason::RoleMissing, text)
    })
}

fn tenants(given: &[String], wrong: &mut Violations) -> Option<BTreeSet<TenantId>> {
    let most = limits::API_KEY_TENANTS;
    if given.len() > most {
        let text = format!("must be {most} at most, are {}", given.len());
        wrong.add("api_key.tenants", Rule::TooMany, text);
        return None;
    }
    let names = given.iter().enumerate();
    let parsed = names.filter_map(|(index, name)| {
        wrong.check(format!("api_key.tenants[{index}]"), parse::tenant_name(name))
    });
    let tenants: BTreeSet<_> = parsed.collect();
    (!given.is_empty()).then_some(tenants)
}

fn event_types(given: &[String], wrong: &mut Violations) -> Vec<String> {
    if given.len() > limits::PATTERNS {
        let text = format!("must be {} at most, are {}", limits::PATTERNS, given.len());
        wrong.add("api_key.event_types", Rule::TooMany, text);
        return Vec::new();
    }
    let patterns = given.iter().enumerate();
    let parsed = patterns.filter_map(|(index, text)| {
        wrong.check(format!("api_key.event_types[{index}]"), Pattern::parse(text))
    });
    parsed.map(|pattern| pattern.as_str().to_owned()).collect()
}

fn limits(given: Option<&v1::ApiKeyLimits>, wrong: &mut Violations) -> ApiKeyLimits {
    let given = given.copied().unwrap_or_default();
    let mut number = |name: &str, given: i32, least: u32| {
        let least = i32::try_from(least).unwrap_or(i32::MAX);
        if given == 0 || given >= least {
            return u32::try_from(given).unwrap_or(0);
        }
        let text = format!("must be 0 or {least} to {}, is {given}", i32::MAX);
        wrong.add(format!("api_key.limits.{name}"), Rule::OutOfRange, text);
        0
    };
    ApiKeyLimits {
        calls_per_second: number("calls_per_second", given.calls_per_second, 1),
        events_per_second: number("events_per_second", given.events_per_second, 1),
        bytes_per_second: number(
            "bytes_per_second",
            given.bytes_per_second,
            limits::API_KEY_BYTES_MIN,
        ),
    }
}
