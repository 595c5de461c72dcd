//! The canonical forms against Node itself: what a receiver in JavaScript rebuilds is what was
//! signed. Thousands of hostile texts go to one Node process, one a line, and every line that
//! comes back is compared byte for byte.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod author;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use author::Author;
use pregon_core::form::urlencode;
use pregon_core::json::{JsonErrorKind, check, rfc8785, stringify};
use pregon_core::limits::JSON_DEPTH;

/// Texts that are compared.
const TEXTS: usize = 15_000;

/// Answers each line of standard input with one line.
fn node(script: &str, lines: &[String]) -> Vec<String> {
    let program = format!(
        "const answer = {script};
        const lines = require('fs').readFileSync(0, 'utf8').split('\\n');
        process.stdout.write(lines.map(answer).join('\\n'));"
    );
    let mut child = Command::new("node")
        .args(["-e", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot run node ({error}): scripts/tools.sh puts it into .tools/bin, for PATH")
        });
    // Node reads everything before it writes, so that neither waits for the other.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "node ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = text.split('\n').map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len(), "node answers every line");
    answers
}

#[test]
fn what_a_receiver_in_node_rebuilds_is_what_was_signed() {
    let mut author = Author::new();
    let texts: Vec<_> = (0..TEXTS).map(|_| author.text()).collect();
    // Both forms of a line come back on one, with a tab between: neither holds a raw tab.
    let answers = node(
        "line => {
            const write = value => {
                if (value === null || typeof value !== 'object') return JSON.stringify(value);
                if (Array.isArray(value)) return '[' + value.map(write).join(',') + ']';
                const member = name => JSON.stringify(name) + ':' + write(value[name]);
                return '{' + Object.keys(value).sort().map(member).join(',') + '}';
            };
            return JSON.stringify(JSON.parse(line)) + '\\t' + write(JSON.parse(line));
        }",
        &texts,
    );
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut changed = 0;
    for (text, answer) in texts.iter().zip(&answers) {
        // Node has parsed it, so whatever is refused is refused by a rule of ours.
        if let Err(error) = check(text.as_bytes(), JSON_DEPTH) {
            let stated = matches!(
                error.kind,
                JsonErrorKind::DuplicateName
                    | JsonErrorKind::LoneSurrogate
                    | JsonErrorKind::NumberOutOfRange
                    | JsonErrorKind::TooDeep
            );
            assert!(stated, "{error} in {text}");
            *refused.entry(error.kind.to_string()).or_default() += 1;
            continue;
        }
        let (rebuilt, sorted) = answer.split_once('\t').unwrap();
        changed += usize::from(text != rebuilt);
        let ours = stringify(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&ours), rebuilt, "json_stringify of {text}");
        assert_eq!(stringify(&ours), ours, "json_stringify twice of {text}");
        let ours = rfc8785(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&ours), sorted, "rfc8785 of {text}");
    }
    // The texts are worth comparing: every rule is met, most are accepted, and many of them change.
    assert_eq!(refused.len(), 4, "{refused:?}");
    let accepted = TEXTS - refused.values().sum::<usize>();
    assert!(accepted >= 10_000 && changed >= 5_000, "{accepted} accepted, {changed} changed");
}

#[test]
fn forms_are_encoded_as_node_encodes_them() {
    let mut author = Author::new();
    // The letter keeps names from being array indices.
    let mut pair = || format!("{{\"n{}:{}}}", &author.string()[1..], author.string());
    let pairs: Vec<_> = (0..2000).map(|_| pair()).collect();
    let script = "line => new URLSearchParams(Object.entries(JSON.parse(line))).toString()";
    for (text, theirs) in pairs.iter().zip(node(script, &pairs)) {
        let ours = urlencode(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&ours), theirs, "form of {text}");
    }
}
