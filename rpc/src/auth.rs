//! Who may call what: authentication and authorization, for the one [`call`](crate::call) layer.
//!
//! A call is let through when its method stands in the [`access`](crate::access) table, its token
//! is valid, the token's role is large enough, and, where the token is for some tenants, the method
//! is one that can tell tenants apart. What is not let through reaches no handler. A stream ends
//! when its token stops being valid; any other call has then been answered long ago.
//!
//! Credentials are the tokens of a file, API keys, and portal tokens made with one of those. Where
//! the listener asks for none nobody is authenticated and everybody may do everything; it allows
//! that on loopback only. The table holds even then.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::error::{Reason, Refusal};
use pregon_core::id::ApiKeyId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::access::{Access, Reach, Table, Who};
use crate::caller::{self, Caller, Role};
use crate::keys::{self, Keys, expired};
use crate::portal::{self, Grant, Maker, PortalKeys};
use crate::tokens::{Entry, Hash, Tokens};

/// How long a token is trusted to go on as it is before the clock is looked at again: the wall
/// clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// Decides which calls are let through.
pub(crate) struct Guard {
    table: Table,
    credentials: Option<Credentials>,
    clock: SharedClock,
}

/// The credentials that let callers in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// Those of the tokens file, if there is one.
    pub(crate) tokens: Option<watch::Receiver<Arc<Tokens>>>,
    /// API keys, where the server knows any.
    pub(crate) keys: Option<watch::Receiver<Arc<Keys>>>,
    /// Authenticate portal tokens; none lets none in.
    pub(crate) portal: PortalKeys,
}

/// A credential that is valid.
#[derive(Clone, Debug)]
enum Credential {
    Token(Hash, Entry),
    Key(ApiKeyId, Hash),
    Portal(Box<Grant>),
}

impl Credentials {
    /// Whom a credential stands for.
    fn find(&self, given: &str, now: Timestamp) -> Result<(Caller, Credential), Refusal> {
        if let Some((id, hash)) = keys::read(given) {
            let keys = self.keys.as_ref().ok_or_else(invalid)?.borrow();
            let key = keys.get(&id)?;
            let end = key.check(&hash, now)?;
            return Ok((key.caller.clone().until(end), Credential::Key(id, hash)));
        }
        if given.starts_with(portal::PREFIX) {
            let grant = self.portal.open(given).ok_or_else(invalid)?;
            let role = Role::parse(&grant.role).ok_or_else(invalid)?;
            let (maker, end) = match &grant.maker {
                Maker::Anyone => return Err(invalid()),
                Maker::Token(_) => {
                    lent_by_token(&self.tokens.as_ref().ok_or_else(invalid)?.borrow(), &grant, now)?
                }
                Maker::Key(_) => {
                    lent_by_key(&self.keys.as_ref().ok_or_else(invalid)?.borrow(), &grant, now)?
                }
            };
            let caller = Caller::with_portal(&grant, role, &maker).until(Some(end));
            return Ok((caller, Credential::Portal(Box::new(grant))));
        }
        let tokens = self.tokens.as_ref().ok_or_else(invalid)?.borrow();
        let (hash, entry) = tokens.find(given.as_bytes()).ok_or_else(invalid)?;
        match entry.expires {
            Some(end) if end <= now => Err(expired()),
            Some(_) | None => {
                let caller = entry.caller.clone().until(entry.expires);
                Ok((caller, Credential::Token(hash, entry.clone())))
            }
        }
    }
}

/// Who had a portal token made, by the tokens file, and when it stops being valid.
fn lent_by_token(
    tokens: &Tokens,
    grant: &Grant,
    now: Timestamp,
) -> Result<(Caller, Timestamp), Refusal> {
    let Maker::Token(name) = &grant.maker else { return Err(invalid()) };
    let lives = |entry: &&Entry| entry.expires.is_none_or(|end| end > now);
    let makers = tokens.named(name).filter(lives);
    let maker = makers
        .filter(|entry| entry.caller.may_lend(grant))
        .max_by_key(|entry| entry.expires.map_or(i64::MAX, Timestamp::millis));
    let maker = maker.ok_or_else(lost)?;
    let end = maker.expires.into_iter().chain([grant.end]).min();
    lent(&maker.caller, end.unwrap_or(grant.end), now)
}

/// The same by the API keys.
fn lent_by_key(keys: &Keys, grant: &Grant, now: Timestamp) -> Result<(Caller, Timestamp), Refusal> {
    let Maker::Key(id) = &grant.maker else { return Err(invalid()) };
    let key = keys.get(id)?;
    let standing = key.standing(now)?;
    if !key.caller.may_lend(grant) {
        return Err(lost());
    }
    lent(&key.caller, standing.map_or(grant.end, |end| end.min(grant.end)), now)
}

fn lent(maker: &Caller, end: Timestamp, now: Timestamp) -> Result<(Caller, Timestamp), Refusal> {
    match end <= now {
        true => Err(expired()),
        false => Ok((maker.clone(), end)),
    }
}

/// A call that was let through.
pub(crate) struct Admitted {
    /// For its handler.
    pub(crate) caller: Caller,
    /// Whether the caller may read what belongs to all tenants, also of a method that is open to
    /// strangers.
    pub(crate) sees_all: bool,
    credential: Option<Credential>,
}

/// Resolves when a credential stops being valid.
pub(crate) type Lapse = Pin<Box<dyn Future<Output = Refusal> + Send>>;

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard by this table; without credentials, everybody may do what the table lists.
    pub(crate) fn new(table: Table, credentials: Option<Credentials>, clock: SharedClock) -> Self {
        Self { table, credentials, clock }
    }

    /// Lets a call of a method (none: one that does not exist) through, or says why not. The
    /// credential is taken out of the headers, so that nothing behind can show it.
    pub(crate) fn admit(
        &self,
        method: Option<&str>,
        headers: &mut HeaderMap,
    ) -> Result<Admitted, Refusal> {
        let access = method.and_then(|path| self.table.get(path));
        let given = take_token(headers);
        if access.is_some_and(|access| access.who == Who::Everyone) {
            let (caller, sees_all) = (Caller::stranger(), self.sees_all(given.ok().as_deref()));
            return Ok(Admitted { caller, sees_all, credential: None });
        }
        let Some(credentials) = &self.credentials else {
            return match access.is_some() || method.is_none() {
                // A method that does not exist is for the routes to refuse.
                true => Ok(Admitted { caller: Caller::anyone(), sees_all: true, credential: None }),
                false => Err(unlisted()),
            };
        };
        let given = given?;
        let (caller, credential) = credentials.find(&given, self.clock.now())?;
        check_role(access.ok_or_else(unlisted)?, &caller)?;
        caller.count_call()?;
        let sees_all = sees_all(&caller);
        Ok(Admitted { caller, sees_all, credential: Some(credential) })
    }

    /// Whether whoever shows this token, or none, may read what belongs to all tenants.
    fn sees_all(&self, given: Option<&str>) -> bool {
        let Some(credentials) = &self.credentials else { return true };
        let found = given.and_then(|given| credentials.find(given, self.clock.now()).ok());
        found.is_some_and(|(caller, _)| sees_all(&caller))
    }

    /// When the credential of a call stops being valid; none if it never can.
    pub(crate) fn lapse(&self, admitted: &Admitted) -> Option<Lapse> {
        let (credentials, clock) = (self.credentials.clone()?, Arc::clone(&self.clock));
        Some(match admitted.credential.clone()? {
            Credential::Token(hash, entry) => {
                let valid = move |tokens: &Tokens, now: Timestamp| {
                    if tokens.get(&hash) != Some(&entry) {
                        return Err(invalid());
                    }
                    match entry.expires {
                        Some(end) if end <= now => Err(expired()),
                        Some(_) | None => Ok(entry.expires),
                    }
                };
                Box::pin(lapse(credentials.tokens?, clock, valid))
            }
            Credential::Key(id, hash) => {
                let valid = move |keys: &Keys, now| keys.get(&id)?.check(&hash, now);
                Box::pin(lapse(credentials.keys?, clock, valid))
            }
            Credential::Portal(grant) => match grant.maker {
                Maker::Anyone => return None,
                Maker::Token(_) => {
                    let valid = move |tokens: &Tokens, now| {
                        lent_by_token(tokens, &grant, now).map(|(_, end)| Some(end))
                    };
                    Box::pin(lapse(credentials.tokens?, clock, valid))
                }
                Maker::Key(_) => {
                    let valid = move |keys: &Keys, now| {
                        lent_by_key(keys, &grant, now).map(|(_, end)| Some(end))
                    };
                    Box::pin(lapse(credentials.keys?, clock, valid))
                }
            },
        })
    }
}

/// Waits until a credential is taken away, is changed, or expires; `valid` says until when it is
/// valid.
async fn lapse<T>(
    mut all: watch::Receiver<Arc<T>>,
    clock: SharedClock,
    valid: impl Fn(&T, Timestamp) -> Result<Option<Timestamp>, Refusal>,
) -> Refusal {
    loop {
        let now = clock.now();
        let checked = valid(&all.borrow_and_update(), now);
        let end = match checked {
            Ok(end) => end,
            Err(lapsed) => return lapsed,
        };
        let look = async {
            match end {
                Some(end) => sleep(end.since(now).min(LOOK)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = all.changed() => if changed.is_err() {
                // Nobody follows them any more: the server is at its end.
                std::future::pending::<()>().await;
            },
            () = look => {}
        }
    }
}

/// Whether a caller may read what belongs to all tenants.
fn sees_all(caller: &Caller) -> bool {
    !caller.is_bound() && caller.role().is_none_or(|role| role.covers(Role::Auditor))
}

/// Whether a caller may call a method at all.
fn check_role(access: Access, caller: &Caller) -> Result<(), Refusal> {
    let large_enough = match access.who {
        Who::Everyone | Who::Known => true,
        Who::Role(needed) => caller.role().is_some_and(|role| role.covers(needed)),
    };
    if !large_enough {
        let needed = match access.who {
            Who::Role(needed) => needed.word(),
            Who::Everyone | Who::Known => "",
        };
        let text = format!("the method wants the role {needed}, which the credential has not");
        return Err(Refusal::new(Reason::RoleMissing, text));
    }
    match access.reach {
        Reach::All if caller.is_bound() => Err(caller::tenant_denied()),
        Reach::Credentials if caller.is_portal() => {
            let text = "a portal token does not reach credentials";
            Err(Refusal::new(Reason::RoleMissing, text))
        }
        Reach::All | Reach::Credentials | Reach::Named | Reach::Shared => Ok(()),
    }
}

/// Takes `authorization: Bearer …` out of the headers.
fn take_token(headers: &mut HeaderMap) -> Result<String, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let taken = match (values.next(), values.next()) {
        (None, _) => Err(Refusal::new(
            Reason::CredentialMissing,
            "the call has no credential: send metadata `authorization: Bearer <token>`",
        )),
        (Some(value), None) => value.to_str().ok().and_then(bearer).ok_or_else(|| {
            Refusal::new(Reason::CredentialInvalid, "authorization must be `Bearer <token>`")
        }),
        (Some(_), Some(_)) => {
            Err(Refusal::new(Reason::CredentialInvalid, "authorization must be given once"))
        }
    };
    headers.remove(AUTHORIZATION);
    taken
}

/// The token of a header; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn invalid() -> Refusal {
    Refusal::new(Reason::CredentialInvalid, "the credential is not known")
}

/// A portal token's maker could not have it made any more.
fn lost() -> Refusal {
    Refusal::new(Reason::CredentialRevoked, "the credential was revoked with its maker's")
}

fn unlisted() -> Refusal {
    Refusal::new(Reason::RoleMissing, "no role may call this method")
}

#[cfg(test)]
mod tests;
