//! A client certificate, as a request gives it.

use pregon_core::clock::Timestamp;
use pregon_core::error::{Refusal, Rule, Violations, Wrong};
use pregon_core::limits;
use pregon_core::model::Auth;
use pregon_core::secret::SecretBytes;
use pregon_core::tls::Chain;
use pregon_proto::v1;

/// A certificate, and its key unless that is left out.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pem: String,
    chain: Chain,
    key: Option<SecretBytes>,
}

impl Certificate {
    /// Parses `mtls`; a key that is given must fit.
    pub(super) fn parse(
        given: &v1::MtlsAuth,
        field: &impl Fn(&str) -> String,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let chain = match given.certificate_pem.as_str() {
            "" => Err(Wrong::new(Rule::Required, "must be set")),
            pem => Chain::parse(pem),
        };
        let chain = wrong.check(field("mtls.certificate_pem"), chain);
        let too_long = || {
            let text = format!("must be {} bytes at most", limits::CREDENTIAL_LEN);
            Wrong::new(Rule::TooLong, text)
        };
        let key = given.key_pem.as_bytes();
        let key = match (key.len(), &chain) {
            (0, _) => Ok(None),
            (length, _) if length > limits::CREDENTIAL_LEN => Err(too_long()),
            (_, None) => Ok(None), // refused already
            (_, Some(chain)) => chain.with_key(key).map(|_| Some(SecretBytes::new(key.to_vec()))),
        };
        let key = wrong.check(field("mtls.key_pem"), key);
        let pem = given.certificate_pem.clone();
        chain.zip(key).map(|(chain, key)| Self { pem, chain, key })
    }

    /// The key, if one is given.
    pub(super) fn key(&self) -> Option<&SecretBytes> {
        self.key.as_ref()
    }

    /// Whether it may still be shown.
    ///
    /// # Errors
    ///
    /// OUT_OF_RANGE: it has expired.
    pub(super) fn check_expiry(&self, resource: &str, now: Timestamp) -> Result<(), Refusal> {
        let until = self.chain.not_after();
        if now <= until {
            return Ok(());
        }
        let field = format!("{resource}.auth.mtls.certificate_pem");
        Err(Refusal::field(field, Rule::OutOfRange, format!("has expired at {until}")))
    }

    /// Whether the key that is kept fits.
    ///
    /// # Errors
    ///
    /// MALFORMED: it does not.
    pub(super) fn check_key(&self, resource: &str, kept: &SecretBytes) -> Result<(), Refusal> {
        self.chain.with_key(kept.expose()).map(|_| ()).map_err(|wrong| {
            let field = format!("{resource}.auth.mtls.key_pem");
            let text = format!("is left out, and the stored one {}", wrong.description);
            Refusal::field(field, wrong.rule, text)
        })
    }

    /// What is stored, with the sealed key.
    pub(super) fn with_key(&self, key: String) -> Auth {
        Auth::Mtls { certificate: self.pem.clone(), key, not_after: self.chain.not_after() }
    }
}
