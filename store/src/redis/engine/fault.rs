//! What a call to Redis fails with, before it becomes a caller's [`StoreError`].

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StoreError;

/// A call that Redis did not carry out, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Fault {
    /// No answer: it may or may not have run. The same call can be sent again.
    Silent(String),
    /// Redis is there and cannot serve now (it loads, fails over, or lost its write access):
    /// nothing ran.
    Busy(String),
    /// There is no memory for more; nothing ran.
    Full(String),
    /// Redis does not know the script; nothing ran.
    NoScript,
    /// The partition began another life: it was emptied or set up anew. Nothing ran.
    Epoch,
    /// A later call of the same kind ran before: this one was a stale copy. Nothing ran now.
    Stale,
    /// Redis no longer holds what it held, and must not be taken for an empty store.
    Emptied(String),
    /// Something stored cannot be read, or Redis refuses what it should not.
    Corrupt(String),
}

/// The result of a call.
pub(in crate::redis) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Whether the same call may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Fault::Silent(_) | Fault::Busy(_))
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly => Fault::Busy(text),
                ServerErrorKind::NoScript => Fault::NoScript,
                _ => by_code(error.code(), text),
            },
            ErrorKind::Extension => by_code(error.code(), text),
            // A wrong password does not right itself within a call, but it may be put right.
            ErrorKind::AuthenticationFailed => Fault::Busy(text),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Fault::Corrupt(text),
            _ => Fault::Silent(text),
        }
    }
}

fn by_code(code: Option<&str>, text: String) -> Fault {
    match code.unwrap_or_default() {
        "OOM" => Fault::Full(text),
        "EPOCH" => Fault::Epoch,
        "STALE" => Fault::Stale,
        "EMPTIED" => Fault::Emptied(text),
        "MISCONF" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "NOREPLICAS" | "BUSY" | "UNKILLABLE" => {
            Fault::Busy(text)
        }
        _ => Fault::Corrupt(text),
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Silent(text) | Fault::Busy(text) => StoreError::Unavailable(text),
            Fault::Full(text) => StoreError::Full(text),
            Fault::NoScript => StoreError::Unavailable("Redis lost a script".to_owned()),
            Fault::Epoch => StoreError::Unavailable("the store was set up anew".to_owned()),
            Fault::Stale => StoreError::Unavailable("a later call was carried out".to_owned()),
            Fault::Emptied(text) => StoreError::Emptied(text),
            Fault::Corrupt(text) => StoreError::Corrupt(text),
        }
    }
}

impl From<postcard::Error> for Fault {
    fn from(error: postcard::Error) -> Self {
        Fault::Corrupt(error.to_string())
    }
}

/// A reply that is not what was asked for.
pub(in crate::redis) fn bad(what: &str, found: impl std::fmt::Debug) -> Fault {
    Fault::Corrupt(format!("{what} {found:?}"))
}

/// Why a Redis cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A setting, or what it leads to, breaks a rule.
    #[error("{setting}: {rule}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// The rule.
        rule: String,
    },
    /// It does not answer, or refuses to.
    #[error("--redis-url: cannot use the server: {0}")]
    Unreachable(String),
    /// There is no store in it: it is new, or it was emptied.
    #[error(
        "this Redis holds no store: `pregon init` sets up a new one; if there was one, Redis was \
         emptied: restore it first"
    )]
    NotSetUp,
    /// A later release wrote it.
    #[error("the store has schema {found}, and this release knows {known} at most")]
    TooNew {
        /// Its schema.
        found: u32,
        /// The latest known.
        known: u32,
    },
}

impl OpenError {
    pub(in crate::redis) fn from_fault(fault: Fault) -> Self {
        match fault {
            Fault::Emptied(_) => OpenError::NotSetUp,
            Fault::Silent(text) | Fault::Busy(text) | Fault::Full(text) | Fault::Corrupt(text) => {
                OpenError::Unreachable(text)
            }
            Fault::Epoch | Fault::Stale | Fault::NoScript => {
                OpenError::Unreachable(format!("{fault:?}"))
            }
        }
    }

    pub(in crate::redis) fn setting(setting: &'static str, rule: impl Into<String>) -> Self {
        OpenError::Setting { setting, rule: rule.into() }
    }
}
