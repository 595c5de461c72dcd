//! Files that the commands read, each within a bound, and the documents in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pregon_core::contract::Contract;
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

/// The contract that a file states, and how many of its examples hold.
///
/// # Errors
///
/// Everything that the control plane would refuse it for.
pub fn contract(given: &Path) -> Result<(Contract, usize), Vec<Fault>> {
    let name = name(given);
    let document = text(given, limits::CONTRACT_LEN).map_err(|fault| vec![fault])?;
    let read = Contract::read_counting(&document, 0).map_err(|faults| {
        let placed = faults.into_iter();
        placed.map(|it| Fault::at(&name, it.line, it.column, it.text)).collect::<Vec<_>>()
    })?;
    match read.0.check_egress() {
        Ok(()) => Ok(read),
        Err(wrong) => Err(vec![Fault::of(&name, wrong.description)]),
    }
}
