//! Which methods there are, and how long a call of each may take.
//!
//! The table is read from the descriptor set, so a method that is added to the API has its kind
//! without anybody thinking of it. Only the waits are named: nothing in a descriptor tells a wait
//! from any other unary method.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::unsent::Size;

/// How long a unary call may take when the caller does not say.
pub const UNARY_DEFAULT: Duration = Duration::from_secs(10);
/// How long a wait may take when the caller does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// How long a call may take at most; a larger `grpc-timeout` is cut to this.
pub const TIME_MAX: Duration = Duration::from_secs(60);

static TIMEOUT_HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// What kind of call a method makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message there, one back, within [`UNARY_DEFAULT`].
    Unary,
    /// The same, but made for waiting: within [`WAIT_DEFAULT`].
    Wait,
    /// Messages in a stream in either direction: open for as long as both sides like.
    Stream,
}

impl Kind {
    /// How long a call with these headers may take; `None`: as long as it likes.
    pub fn time(self, headers: &HeaderMap) -> Option<Duration> {
        let default = match self {
            Kind::Unary => UNARY_DEFAULT,
            Kind::Wait => WAIT_DEFAULT,
            Kind::Stream => return None,
        };
        let wanted = headers.get(&TIMEOUT_HEADER).and_then(|value| parse_timeout(value.as_bytes()));
        Some(wanted.map_or(default, |wanted| wanted.min(TIME_MAX)))
    }
}

impl Kind {
    /// How large the answer of a method with this path may be: reads answer with what is stored.
    pub(crate) fn size(self, path: &str) -> Size {
        let (_, name) = path.rsplit_once('/').unwrap_or_default();
        let begins = |verbs: &[&str]| verbs.iter().any(|verb| name.starts_with(verb));
        match self {
            Kind::Unary if begins(&["List", "Explain", "Preview"]) => Size::Page,
            Kind::Unary if begins(&["Get"]) => Size::One,
            Kind::Unary | Kind::Wait | Kind::Stream => Size::Small,
        }
    }
}

/// Every method of a server, by its path `/package.Service/Method`.
#[derive(Debug, Default)]
pub struct Methods {
    kinds: HashMap<Arc<str>, Kind>,
    services: Vec<String>,
}

/// What is wrong with what a server was told about its methods.
#[derive(Debug, thiserror::Error)]
pub enum MethodsError {
    /// Not a FileDescriptorSet.
    #[error("the descriptor set does not decode")]
    Descriptors(#[from] prost::DecodeError),
    /// A wait that no descriptor has, or that is a stream.
    #[error("{0} is not a unary method of the descriptor set")]
    NotUnary(String),
}

impl Methods {
    /// Reads the table from encoded descriptor sets; `waits` are the paths of the waits.
    pub fn read(sets: &[&[u8]], waits: &[&str]) -> Result<Self, MethodsError> {
        let mut methods = Self::default();
        for set in sets {
            methods.add(&FileDescriptorSet::decode(*set)?);
        }
        for &wait in waits {
            match methods.kinds.get_mut(wait) {
                Some(kind @ (Kind::Unary | Kind::Wait)) => *kind = Kind::Wait,
                Some(Kind::Stream) | None => return Err(MethodsError::NotUnary(wait.to_owned())),
            }
        }
        Ok(methods)
    }

    /// The method of a path, if there is one.
    pub fn get(&self, path: &str) -> Option<(&Arc<str>, &Kind)> {
        self.kinds.get_key_value(path)
    }

    /// Whether a service is described.
    pub fn has_service(&self, name: &str) -> bool {
        self.services.iter().any(|service| service == name)
    }

    fn add(&mut self, set: &FileDescriptorSet) {
        for file in &set.file {
            for service in &file.service {
                let name = match file.package() {
                    "" => service.name().to_owned(),
                    package => format!("{package}.{}", service.name()),
                };
                for method in &service.method {
                    let kind = if method.client_streaming() || method.server_streaming() {
                        Kind::Stream
                    } else {
                        Kind::Unary
                    };
                    self.kinds.insert(format!("/{name}/{}", method.name()).into(), kind);
                }
                self.services.push(name);
            }
        }
    }
}

/// `grpc-timeout`: up to eight digits and a unit. What does not read as that is not there.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTH: &[u8] = tonic_health::pb::FILE_DESCRIPTOR_SET;
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";

    #[test]
    fn kinds_come_from_the_descriptors() {
        let methods = Methods::read(&[HEALTH], &[]).unwrap();
        let kind = |path| methods.get(path).map(|(_, kind)| *kind);
        assert_eq!(kind(CHECK), Some(Kind::Unary));
        assert_eq!(kind(WATCH), Some(Kind::Stream));
        assert_eq!(kind("/grpc.health.v1.Health/Other"), None);
        assert!(methods.has_service("grpc.health.v1.Health"));
        let methods = Methods::read(&[HEALTH], &[CHECK]).unwrap();
        assert_eq!(methods.get(CHECK).unwrap().1, &Kind::Wait);
    }

    #[test]
    fn a_wait_must_be_a_unary_method() {
        for path in [WATCH, "/grpc.health.v1.Health/Other", ""] {
            assert!(Methods::read(&[HEALTH], &[path]).is_err());
        }
        assert!(Methods::read(&[b"\xff"], &[]).is_err());
    }

    #[test]
    fn time_is_the_callers_within_the_cap() {
        let with =
            |value: &str| HeaderMap::from_iter([(TIMEOUT_HEADER.clone(), value.parse().unwrap())]);
        let s = Duration::from_secs;
        assert_eq!(Kind::Unary.time(&HeaderMap::new()), Some(s(10)));
        assert_eq!(Kind::Wait.time(&HeaderMap::new()), Some(s(60)));
        assert_eq!(Kind::Unary.time(&with("30S")), Some(s(30)));
        assert_eq!(Kind::Unary.time(&with("99999999H")), Some(s(60)));
        assert_eq!(Kind::Wait.time(&with("5m")), Some(Duration::from_millis(5)));
        assert_eq!(Kind::Stream.time(&with("5m")), None);
        for odd in ["", "S", "5", "+5S", "5s", "123456789S", "5 S", "-5S"] {
            assert_eq!(Kind::Unary.time(&with(odd)), Some(s(10)), "{odd:?}");
        }
    }
}
