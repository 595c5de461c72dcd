//! Files that the commands read, each within a bound, and the documents in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pregon_core::contract::{Composed, Contract, DocumentFault, Extends, shipped};
use pregon_core::limits;
use zeroize::Zeroizing;

use super::fault::Fault;

/// What stands for standard input.
pub const STDIN: &str = "-";

/// A file as it is given and as it is named in faults.
pub fn name(given: &Path) -> String {
    match is_stdin(given) {
        true => "<stdin>".to_owned(),
        false => given.display().to_string(),
    }
}

/// Whether standard input is meant.
pub fn is_stdin(given: &Path) -> bool {
    given.as_os_str() == STDIN
}

/// The bytes of a file, or of standard input, of so many at most.
///
/// # Errors
///
/// It cannot be read, or is longer.
pub fn read(given: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let name = name(given);
    let unread = |error: io::Error| Fault::of(&name, format!("cannot be read: {error}"));
    let mut bytes = Zeroizing::new(Vec::new());
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = match is_stdin(given) {
        true => io::stdin().lock().take(bound).read_to_end(&mut bytes),
        false => File::open(given).and_then(|file| file.take(bound).read_to_end(&mut bytes)),
    };
    read.map_err(unread)?;
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(Fault::of(&name, format!("must be {most} bytes at most"))),
    }
}

/// The text of a file.
///
/// # Errors
///
/// As [`read`], and where it is not UTF-8.
pub fn text(given: &Path, most: usize) -> Result<Zeroizing<String>, Fault> {
    let bytes = read(given, most)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            Err(Fault::at_byte(&name(given), &bytes, error.valid_up_to(), "must be UTF-8"))
        }
    }
}

/// The contract that a file states, and how many of its examples hold. A document that extends a
/// contract of one's own is put together with the one in `extended`, or, if that is not given, with
/// `NAME.yaml` in its own directory.
///
/// # Errors
///
/// Everything that the control plane would refuse it for, but for an egress pool that is not set
/// up: which there are is known to the deployment only.
pub fn contract(given: &Path, extended: Option<&Path>) -> Result<(Contract, usize), Vec<Fault>> {
    let name = name(given);
    let document = text(given, limits::CONTRACT_LEN).map_err(|fault| vec![fault])?;
    let extends = Extends::of(&document).map_err(|fault| placed(&name, vec![fault]))?;
    match extends {
        None => Contract::read_counting(&document, 0).map_err(|faults| placed(&name, faults)),
        Some(extends) => {
            let composed = composed(given, &document, &extends, extended)?;
            Ok((composed.contract, composed.examples))
        }
    }
}

fn placed(name: &str, faults: Vec<DocumentFault>) -> Vec<Fault> {
    let place = |it: DocumentFault| {
        Fault::at(it.parent.as_deref().unwrap_or(name), it.line, it.column, it.text)
    };
    faults.into_iter().map(place).collect()
}

/// A document put together with what it extends: what comes with Pregón, or a file.
fn composed(
    given: &Path,
    document: &str,
    extends: &Extends,
    extended: Option<&Path>,
) -> Result<Composed, Vec<Fault>> {
    let name = name(given);
    if let Some(parent) = shipped(extends.name()) {
        return extends.compose(document, parent, 0).map_err(|faults| placed(&name, faults));
    }
    let Some(id) = extends.name().strip_prefix("contracts/") else {
        return Err(placed(&name, vec![extends.fault("there is no such entry of the catalogue")]));
    };
    let beside: PathBuf = given.with_file_name(format!("{id}.yaml"));
    let file = extended.unwrap_or(&beside);
    let shown = file.display().to_string();
    let parent = text(file, limits::CONTRACT_LEN).map_err(|fault| {
        let rule = format!("{} is not built in, and {fault}", extends.name());
        placed(&name, vec![extends.fault(&rule)])
    })?;
    let named = |mut fault: DocumentFault| {
        fault.parent = fault.parent.map(|_| shown.clone());
        fault
    };
    let composed = extends
        .compose(document, &parent, 0)
        .map_err(|faults| placed(&name, faults.into_iter().map(named).collect()))?;
    // The server has the extended contract as one that holds by itself.
    let whole = Contract::read(&parent, 0).map_err(|faults| placed(&shown, faults))?;
    if whole.id().as_str() == id {
        return Ok(composed);
    }
    Err(vec![Fault::of(&shown, format!("contract: must be {id}, as {name} extends it"))])
}
