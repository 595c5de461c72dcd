//! The documents of `contracts/catalog`: each can be stored, and does what its examples say.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pregon_core::contract::{Contract, builtins};

/// The documents by the names of their files.
fn documents() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/catalog");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    let mut documents: Vec<_> = yaml.map(read).collect();
    documents.sort();
    documents
}

#[test]
fn every_document_can_be_stored_and_its_examples_hold() {
    let documents = documents();
    assert!(documents.len() >= 45, "{} documents", documents.len());
    for (name, document) in &documents {
        let contract = Contract::read(document, 1);
        let contract = contract.unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        assert_eq!(contract.id().as_str(), name, "the file's name is the contract's id");
        for part in ["\nexamples:\n", "    expect:\n      body: ", "      headers:\n"] {
            assert!(document.contains(part), "{name} has no {part:?}");
        }
    }
}

#[test]
fn a_document_whose_example_expects_another_byte_is_refused() {
    for (name, document) in documents() {
        let block = "    expect:\n      body: |-\n        ";
        let quoted = "    expect:\n      body: \"";
        let start = if document.contains(block) { block } else { quoted };
        let other = document.replacen(start, &format!("{start}x"), 1);
        assert_ne!(other, document, "{name}: nothing changed");
        assert!(Contract::read(&other, 1).is_err(), "{name} expects another body and is taken");
    }
}

#[test]
fn no_document_has_the_name_of_a_contract_that_is_built_in() {
    let built_in: BTreeSet<&str> =
        builtins().iter().map(|one| one.contract.id().as_str()).collect();
    for (name, _) in documents() {
        assert!(!built_in.contains(name.as_str()), "{name} is built in");
    }
}
