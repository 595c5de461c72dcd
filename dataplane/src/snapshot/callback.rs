//! A callback, compiled: what asking it needs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pregon_core::contract::{Contract, SigningKeys, Verdict};
use pregon_core::event::Environment;
use pregon_core::id::CallbackName;
use pregon_core::model::{Callback, CallbackState, FailurePolicy};
use pregon_core::seal::KeyRing;
use pregon_core::url::EndpointUrl;

use super::headers::FixedHeaders;
use super::{Labels, labels_of, terms};
use crate::egress::{PoolChoice, Target, Terms};
use crate::oauth::Client;

/// A callback, as checks see it.
#[derive(Clone, Debug)]
pub struct CallbackEntry {
    /// Its name.
    pub name: CallbackName,
    /// Which environment it belongs to.
    pub environment: Environment,
    /// Where questions go.
    pub url: EndpointUrl,
    /// The same, ready to be sent to.
    pub target: Target,
    /// What its TLS has of its own.
    pub terms: Option<Terms>,
    /// Where its tokens come from, if it wants any.
    pub(crate) client: Option<Client>,
    /// The contract whose `callback` section it follows.
    pub contract: Arc<Contract>,
    /// What Pregón identifies itself with, and the callback's own headers.
    pub headers: FixedHeaders,
    /// How a 2xx answer is read; none: as the contract says.
    pub verdict: Option<Verdict>,
    /// How long the answer may take.
    pub timeout: Duration,
    /// What is answered when the receiver does not.
    pub on_error: FailurePolicy,
    /// For how long an ALLOWED answer is remembered; zero: not.
    pub cache_ttl: Duration,
    /// Whether it is asked.
    pub state: CallbackState,
    /// Keys that are not revoked, newest first; which of them sign is a matter of the moment.
    pub keys: SigningKeys,
    /// Its labels.
    pub labels: Labels,
    /// The revision that wrote it last; keys and contract may have changed since.
    pub revision: i64,
    /// Questions in flight at most, of this node.
    pub max_concurrency: u32,
    /// Questions in flight, over all changes of the callback.
    in_flight: Arc<AtomicU32>,
}

impl CallbackEntry {
    /// Compiles a callback; the reason where that cannot be done. Keys are added by whoever knows
    /// them.
    pub(super) fn compile(
        callback: &Callback,
        contract: Arc<Contract>,
        revision: i64,
        ring: &KeyRing,
    ) -> Result<Self, String> {
        let name = callback.name();
        let verdict = match callback.verdict.as_str() {
            "" => None,
            text => Some(Verdict::compile(text).map_err(|wrong| format!("verdict: {wrong}"))?),
        };
        let url =
            EndpointUrl::parse_stored(&callback.url).map_err(|wrong| format!("url: {wrong}"))?;
        let choice = PoolChoice::new(None, contract.egress());
        let whose = (&name, &callback.tenant);
        let client = terms::client(&callback.auth, &callback.trust, whose, &choice, ring)?;
        let terms = terms::read(&callback.auth, &callback.trust, &name, ring)?;
        Ok(Self {
            headers: FixedHeaders::compile(&callback.auth, &callback.headers, &name, ring)?,
            name,
            environment: callback.environment,
            target: Target::by(callback.tenant.clone(), &url, choice, terms.clone()),
            terms,
            client,
            url,
            contract,
            verdict,
            timeout: Duration::from_millis(callback.timeout_ms.into()),
            on_error: callback.on_error,
            cache_ttl: Duration::from_millis(callback.cache_ttl_ms.into()),
            state: callback.state,
            keys: SigningKeys::default(),
            labels: labels_of(&callback.common),
            revision,
            max_concurrency: callback.max_concurrency,
            in_flight: Arc::default(),
        })
    }

    /// Puts it under another revision of its contract.
    pub(super) fn put_under(&mut self, contract: &Arc<Contract>) {
        let choice = PoolChoice::new(None, contract.egress());
        let (tenant, terms) = (self.name.tenant.clone(), self.terms.clone());
        if let Some(client) = &mut self.client {
            client.put_by(&choice);
        }
        self.target = Target::by(tenant, &self.url, choice, terms);
        self.contract = Arc::clone(contract);
    }

    /// Goes on counting what is in flight where an older version of it counted, and with its tokens.
    pub(super) fn go_on_from(&mut self, older: &CallbackEntry) {
        self.in_flight = Arc::clone(&older.in_flight);
        if let (Some(client), Some(older)) = (&mut self.client, &older.client) {
            client.go_on_from(older);
        }
    }

    /// A place among the questions in flight; none when there are as many as may be.
    pub fn take_place(&self) -> Option<Place> {
        let most = self.max_concurrency;
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then_some(n + 1))
            .is_ok()
            .then(|| Place(Arc::clone(&self.in_flight)))
    }
}

/// A place among a callback's questions in flight; given back when dropped.
pub struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}
