//! `pregon contract check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::source;

/// Checks documents as the control plane does before it stores one
///
/// Prints each fault on a line of its own, FILE:LINE:COLUMN: and the key and rule, and ends with
/// status 1 where a file is refused. The examples of each are rendered, signed and compared.
///
/// What a document extends is built in, of the catalogue, or the file NAME.yaml beside it; --extends
/// names another file.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Documents of at most 64 KiB each; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The contract that the documents extend, if it is not in NAME.yaml beside them.
    #[arg(long, value_name = "FILE")]
    extends: Option<PathBuf>,
}

impl CheckArgs {
    /// Checks one file after the other.
    ///
    /// # Errors
    ///
    /// Standard input is given twice, or the output cannot be written.
    pub fn run(self) -> Result<ExitCode, Vec<String>> {
        if self.files.iter().filter(|file| source::is_stdin(file)).count() > 1 {
            return Err(vec!["- is standard input, and can be given once".to_owned()]);
        }
        let mut refused = false;
        let mut out = io::stdout().lock();
        for file in &self.files {
            let (lines, ok) = checked(file, self.extends.as_deref());
            refused |= !ok;
            out.write_all(lines.as_bytes()).map_err(|error| vec![unwritten(&error)])?;
        }
        out.flush().map_err(|error| vec![unwritten(&error)])?;
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// What is said when the output is closed.
pub fn unwritten(error: &io::Error) -> String {
    format!("cannot write: {error}")
}

/// What is printed of a file, and whether it is a contract.
fn checked(file: &Path, extended: Option<&Path>) -> (String, bool) {
    match source::contract(file, extended) {
        Ok((_, count)) => {
            let examples = if count == 1 { "example holds" } else { "examples hold" };
            (format!("{}: ok, {count} {examples}\n", source::name(file)), true)
        }
        Err(faults) => (faults.iter().map(|fault| format!("{fault}\n")).collect(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, text: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_contract_is_ok_and_its_examples_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let one = "contract: mine\nexamples:\n  - event: { type: a, data: '{}' }\n";
        let path = file(dir.path(), "one.yaml", one.as_bytes());
        let name = path.display();
        assert_eq!(checked(&path, None), (format!("{name}: ok, 1 example holds\n"), true));
        let two = format!("{one}types: [{{ type: b, example: '{{}}' }}]\n");
        let path = file(dir.path(), "two.yaml", two.as_bytes());
        let name = path.display();
        assert_eq!(checked(&path, None), (format!("{name}: ok, 2 examples hold\n"), true));
    }

    #[test]
    fn every_fault_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let said = |text: &[u8]| {
            let path = file(dir.path(), "x.yaml", text);
            let (said, ok) = checked(&path, None);
            assert!(!ok, "{said}");
            said.replace(&path.display().to_string(), "x.yaml")
        };
        let faults = said(b"contract: mine\ncolour: red\nbody: ${event.idd}\n");
        let mut places = faults.lines().map(|line| line.split(' ').next().unwrap());
        assert_eq!(places.next(), Some("x.yaml:1:1:"));
        assert_eq!(places.next(), Some("x.yaml:2:1:"));
        assert_eq!(places.next(), Some("x.yaml:3:7:"));
        assert_eq!(places.next(), None, "{faults}");
        assert_eq!(said(b"contract: \xff\n"), "x.yaml:1:11: must be UTF-8\n");
        let long = [&b"contract: mine\n#"[..], &vec![b'x'; 64 * 1024]].concat();
        assert_eq!(said(&long), "x.yaml: must be 65536 bytes at most\n");
        let other = b"contract: mine\negress: lab\nexamples:\n  - event: { type: a, data: '{}' }\n";
        // Which pools there are is known to the deployment only.
        assert!(checked(&file(dir.path(), "x.yaml", other), None).1);
        let (said, ok) = checked(&dir.path().join("none.yaml"), None);
        assert!(!ok && said.contains("none.yaml: cannot be read: No such file"), "{said}");
    }

    #[test]
    fn what_a_document_extends_is_shipped_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| file(dir.path(), name, text.as_bytes());
        let example = "examples:\n  - event: { type: a, data: '{}' }\n";
        let base = write("base.yaml", &format!("contract: base\ntimeouts: [5s]\n{example}"));
        let mine = write("mine.yaml", "contract: mine\nextends: contracts/base\nretry: none\n");
        let name = mine.display();
        assert_eq!(checked(&mine, None), (format!("{name}: ok, 1 example holds\n"), true));
        let entry = write("entry.yaml", "contract: mine\nextends: catalog/github\nretry: none\n");
        assert!(checked(&entry, None).1);
        let ours = write("ours.yaml", "contract: mine\nextends: contracts/preauth\nretry: none\n");
        assert!(checked(&ours, None).1);

        let far = write("far.yaml", "contract: mine\nextends: contracts/away\n");
        let (said, ok) = checked(&far, None);
        assert!(
            !ok && said.contains("far.yaml:2:10: extends: contracts/away is not built"),
            "{said}"
        );
        let (said, ok) = checked(&far, Some(&base));
        assert!(!ok && said.contains("base.yaml: contract: must be away, as"), "{said}");
        let away = write("b.yaml", &format!("contract: away\n{example}"));
        assert!(checked(&far, Some(&away)).1);
        let wrong = write("b.yaml", &format!("contract: away\ntimeouts: [40s]\n{example}"));
        let (said, ok) = checked(&far, Some(&wrong));
        assert!(!ok && said.contains("b.yaml:2:12: timeouts[0]: must be"), "{said}");
        let none = write("none.yaml", "contract: mine\nextends: catalog/nobody\n");
        let (said, ok) = checked(&none, None);
        assert!(!ok && said.contains("2:10: extends: there is no such entry"), "{said}");
    }
}
