//! Contracts that come with Pregón, as data.

use std::sync::Arc;

use super::condition::Condition;
use super::sign::{KeyChoice, Signature, SignatureAlgorithm, SignatureEncoding, SignaturePlace};
use super::template::{Template, TextTemplate};
use super::{Contract, ContractSpec, SecretRule};
use crate::error::Wrong;
use crate::id::ContractId;
use crate::secret::{SecretEncoding, SecretForm};

/// The id of the contract of subscriptions that name none.
pub const STANDARD_WEBHOOKS: &str = "standard_webhooks";

/// What Standard Webhooks signs: id, attempt's time in seconds, and body, with full stops between.
const PAYLOAD: &str = "${event.unique_id}.${int(attempt.time)}.${request.body}";

/// Standard Webhooks 1.0: <https://github.com/standard-webhooks/standard-webhooks>.
pub fn standard_webhooks() -> Contract {
    standard_webhooks_spec().and_then(Contract::new).expect("built in, and tested to be valid")
}

/// Standard Webhooks 1.0 as it is stated.
pub(super) fn standard_webhooks_spec() -> Result<ContractSpec, Wrong> {
    let header = |name: &str, text: &str| Ok((Arc::from(name), TextTemplate::parse(text)?));
    Ok(ContractSpec {
        body: Template::object([
            ("type", "${event.type}"),
            ("timestamp", "${event.time.rfc3339(3)}"),
            ("data", "${event.data}"),
        ])?,
        headers: vec![
            header("webhook-id", "${event.unique_id}")?,
            header("webhook-timestamp", "${int(attempt.time)}")?,
        ],
        secret: SecretRule {
            required: true,
            form: SecretForm::new(SecretEncoding::Base64, "whsec_", 24..=64, 32)?,
        },
        signatures: vec![
            standard_signature("v1", SignatureAlgorithm::HmacSha256)?,
            standard_signature("v1a", SignatureAlgorithm::Ed25519)?,
        ],
        disable: Condition::status(410),
        ..ContractSpec::new(ContractId::parse(STANDARD_WEBHOOKS)?)?
    })
}

fn standard_signature(name: &str, algorithm: SignatureAlgorithm) -> Result<Signature, Wrong> {
    Ok(Signature {
        name: name.into(),
        algorithm,
        payload: TextTemplate::parse(PAYLOAD)?,
        encoding: SignatureEncoding::Base64,
        keys: KeyChoice::All,
        place: SignaturePlace::Header {
            name: "webhook-signature".into(),
            each: TextTemplate::parse(&format!("{name},${{signature}}"))?,
            prefix: TextTemplate::parse("")?,
            separator: " ".into(),
        },
    })
}
