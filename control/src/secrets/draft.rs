//! What a request says of a new key.

use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::error::{Rule, Violations};
use pregon_core::id::SecretId;
use pregon_core::limits;
use pregon_core::model::SecretAlgorithm;
use pregon_core::secret::{SecretBytes, SecretForm, key_parse};
use pregon_proto::v1;

use crate::{map, parse};

/// A key that is to be stored.
#[derive(Debug)]
pub(crate) struct Draft {
    /// What it signs with.
    pub algorithm: SecretAlgorithm,
    /// The key; none: to be generated.
    pub key: Option<SecretBytes>,
    /// From when it signs.
    pub activate: Timestamp,
    /// From when it signs no more.
    pub expire: Option<Timestamp>,
}

impl Draft {
    /// Reads one; `field` is where it stands in the request.
    pub(super) fn parse(
        field: &str,
        given: &v1::Secret,
        contract: &Contract,
        now: Timestamp,
        wrong: &mut Violations,
    ) -> Option<Self> {
        let at = |name: &str| format!("{field}.{name}");
        let algorithm = algorithm(&at("algorithm"), given.algorithm, contract, wrong)
            .unwrap_or_else(|| own_algorithm(contract));
        let form = &contract.secret().form;
        let key = material(&at("material"), &given.material, algorithm, form, wrong);
        let activate = parse::moment(&at("activate_time"), given.activate_time.as_ref(), wrong);
        let expire = parse::moment(&at("expire_time"), given.expire_time.as_ref(), wrong);
        let activate = activate.unwrap_or(now);
        if expire.is_some_and(|expire| expire <= activate.max(now)) {
            let text = "must be later than activate_time, and not past";
            wrong.add(at("expire_time"), Rule::OutOfRange, text);
        }
        key.map(|key| Self { algorithm, key, activate, expire })
    }

    /// Reads those that a creation brings, each with its id if it has one.
    pub(crate) fn parse_all(
        given: &[v1::NewSecret],
        contract: &Contract,
        now: Timestamp,
        wrong: &mut Violations,
    ) -> Vec<(Option<SecretId>, Self)> {
        if given.len() > limits::LIVE_SECRETS {
            let text = format!("must be at most {}, are {}", limits::LIVE_SECRETS, given.len());
            wrong.add("secrets", Rule::TooMany, text);
            return Vec::new();
        }
        let mut parsed: Vec<(Option<SecretId>, Self)> = Vec::new();
        for (index, it) in given.iter().enumerate() {
            let field = format!("secrets[{index}]");
            let id = (!it.secret_id.is_empty())
                .then(|| wrong.check(format!("{field}.secret_id"), SecretId::parse(&it.secret_id)));
            let id = id.flatten();
            if id.is_some() && parsed.iter().any(|(other, _)| *other == id) {
                let text = "another has the same id; give each its own";
                wrong.add(format!("{field}.secret_id"), Rule::Malformed, text);
            }
            let secret = v1::Secret {
                algorithm: it.algorithm,
                material: it.material.clone(),
                activate_time: it.activate_time,
                expire_time: it.expire_time,
                ..Default::default()
            };
            let draft = Self::parse(&field, &secret, contract, now, wrong);
            parsed.extend(draft.map(|draft| (id, draft)));
        }
        parsed
    }
}

/// The algorithm that a request says, if the contract has a signature of it; none where it says
/// none.
pub(super) fn algorithm(
    field: &str,
    given: i32,
    contract: &Contract,
    wrong: &mut Violations,
) -> Option<SecretAlgorithm> {
    let algorithm = parse::known(field, given, wrong).and_then(map::from_secret_algorithm)?;
    if !signs_with(contract, algorithm) {
        let text = format!("{} has no signature of this kind", contract.id().name());
        wrong.add(field, Rule::OutOfRange, text);
    }
    Some(algorithm)
}

/// Material that may be left out: `Some(None)` then, and `None` where it is wrong.
#[allow(clippy::option_option)] // the outer one is the parse, the inner one the field
pub(super) fn material(
    field: &str,
    given: &str,
    algorithm: SecretAlgorithm,
    form: &SecretForm,
    wrong: &mut Violations,
) -> Option<Option<SecretBytes>> {
    if given.is_empty() {
        return Some(None);
    }
    wrong.check(field, key_parse(algorithm, form, given)).map(Some)
}

/// What a contract's secrets sign with where nobody says: HMAC where that is among it, or nothing is.
pub(super) fn own_algorithm(contract: &Contract) -> SecretAlgorithm {
    contract.kinds().next().unwrap_or(SecretAlgorithm::Hmac)
}

/// Whether a contract may have secrets of a kind. One that signs nothing has HMAC secrets of the form
/// it states, for the day it does.
pub(super) fn signs_with(contract: &Contract, algorithm: SecretAlgorithm) -> bool {
    let nothing = || contract.kinds().next().is_none();
    contract.uses(algorithm) || (algorithm == SecretAlgorithm::Hmac && nothing())
}
