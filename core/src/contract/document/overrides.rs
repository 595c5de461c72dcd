//! What a subscription says in place of its contract, where that allows it.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{DocumentFault, parsed};
use super::retry;
use crate::contract::compiled::{Condition, Contract, Overridable, Retry, TIMEOUT, TIMEOUTS};
use crate::error::{Rule, Wrong};
use crate::yaml::{self, At, Reader};

/// Longest document of overrides, in bytes.
pub const OVERRIDES_LEN: usize = 4 * 1024;

/// Keys of a contract that a subscription says anew; read from a document of its own, which has the
/// same form and the same bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Overrides {
    retry: Option<Retry>,
    timeouts: Option<Vec<Duration>>,
    acknowledge: Option<Condition>,
}

impl Overrides {
    /// Reads a document, YAML or JSON, of `retry`, `timeouts` and `acknowledge`.
    ///
    /// # Errors
    ///
    /// Every fault that was found, in the order of the document; at least one.
    pub fn read(document: &str) -> Result<Self, Vec<DocumentFault>> {
        let refused = |faults: Vec<yaml::Fault>| -> Vec<DocumentFault> {
            faults.into_iter().map(DocumentFault::from).collect()
        };
        let node = yaml::read(document).map_err(|fault| refused(vec![fault]))?;
        let root = At::root(&node);
        let mut reader = Reader::new();
        let read = keys(&mut reader, &root);
        reader.finish().map_err(refused)?;
        read.ok_or_else(|| refused(vec![root.fault("cannot be read")]))
    }

    /// Whether the contract allows what is said here.
    ///
    /// # Errors
    ///
    /// [`Rule::OutOfRange`] for the first key that it does not allow.
    pub fn check(&self, contract: &Contract) -> Result<(), Wrong> {
        let said = [
            (Overridable::Retry, self.retry.is_some()),
            (Overridable::Timeouts, self.timeouts.is_some()),
            (Overridable::Acknowledge, self.acknowledge.is_some()),
        ];
        let allowed = |key: Overridable| contract.overridable().contains(&key);
        match said.into_iter().find(|(key, said)| *said && !allowed(*key)) {
            None => Ok(()),
            Some((key, _)) => {
                let text =
                    format!("{key}: {} does not list it as overridable", contract.id().name());
                Err(Wrong::new(Rule::OutOfRange, text))
            }
        }
    }

    /// The contract with what is said here in its place.
    pub fn over(&self, contract: &Contract) -> Arc<Contract> {
        let mut contract = contract.clone();
        if let Some(retry) = &self.retry {
            contract.retry = retry.clone();
        }
        if let Some(timeouts) = &self.timeouts {
            contract.timeouts.clone_from(timeouts);
        }
        if let Some(acknowledge) = &self.acknowledge {
            contract.acknowledge = acknowledge.clone();
        }
        Arc::new(contract)
    }
}

fn keys<'a>(reader: &mut Reader, root: &At<'a>) -> Option<Overrides> {
    let map =
        reader.map(root, &Overridable::ALL.iter().map(|key| key.word()).collect::<Vec<_>>())?;
    let retry = map.get("retry").map(|at| retry::read(reader, at));
    let timeouts = map
        .get("timeouts")
        .map(|at| reader.list_of(at, TIMEOUTS, |reader, at| reader.check(at.duration(TIMEOUT))));
    let acknowledge = map.get("acknowledge").map(|at| parsed(reader, at, Condition::parse));
    if retry.is_none() && timeouts.is_none() && acknowledge.is_none() {
        reader.add(root.fault("must have at least one of retry, timeouts and acknowledge"));
    }
    Some(Overrides {
        retry: whole(retry)?,
        timeouts: whole(timeouts)?,
        acknowledge: whole(acknowledge)?,
    })
}

/// A key that is not there is none; one that cannot be read makes the whole none.
fn whole<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    const CONTRACT: &str = "contract: c\noverridable: [retry, timeouts]\ntimeouts: [5s, 10s]\nexamples: [{ event: { type: a, data: '{}' } }]\n";

    #[test]
    fn what_is_said_stands_in_place_and_the_rest_stays() {
        let contract = Contract::read(CONTRACT, 3).unwrap();
        assert_eq!(contract.overridable(), [Overridable::Retry, Overridable::Timeouts]);
        let overrides = Overrides::read(r#"{"timeouts": ["7s"], "retry": "none"}"#).unwrap();
        overrides.check(&contract).unwrap();
        let changed = overrides.over(&contract);
        assert_eq!(changed.timeout(9), Duration::from_secs(7));
        assert_eq!(*changed.retry(), Retry::once());
        assert_eq!((changed.id(), changed.revision()), (contract.id(), 3));
        let only = Overrides::read("retry: { delays: [1s] }").unwrap().over(&contract);
        assert_eq!((only.timeout(2), only.retry().sends()), (Duration::from_secs(10), 2));
    }

    #[test]
    fn what_the_contract_does_not_allow_is_refused() {
        let contract = Contract::read(CONTRACT, 0).unwrap();
        let overrides = Overrides::read("acknowledge: response.status == 200").unwrap();
        let wrong = overrides.check(&contract).unwrap_err();
        assert_eq!(wrong.description, "acknowledge: contracts/c does not list it as overridable");
        let silent = CONTRACT.replace("overridable: [retry, timeouts]\n", "");
        let none = Overrides::read("retry: none").unwrap();
        assert!(none.check(&Contract::read(&silent, 0).unwrap()).is_err());
    }

    #[test]
    fn a_document_is_refused_as_a_contract_is() {
        for (document, expected) in [
            (
                "timeouts: [40s]",
                "1:12: timeouts[0]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is text)",
            ),
            (
                "retry: none\nrefuse: \"true\"",
                "2:1: unknown key \"refuse\"; known are retry, timeouts, acknowledge",
            ),
            ("{}", "1:1: must have at least one of retry, timeouts and acknowledge"),
            (
                "acknowledge: response.status = 1",
                "1:14: acknowledge: expression: 1:17: Syntax error: token recognition error at: '= '",
            ),
        ] {
            let faults = Overrides::read(document).unwrap_err();
            assert_eq!(faults[0].to_string(), expected, "{document}");
        }
    }
}
