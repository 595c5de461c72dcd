//! The shape of the workspace, held by a test: which crate may depend on which, who may name a
//! database, which lints hold, and that no generated code is kept.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates of ours that each crate may depend on: `src → {control, dataplane} → store → core`,
/// `{control, dataplane} → rpc → {core, proto}`, and `telemetry → core` for whoever tells. The binary
/// wires everything together, and so do the fuzz targets.
const MAY_USE: [(&str, &[&str]); 10] = [
    (
        "pregon",
        &[
            "pregon-control",
            "pregon-core",
            "pregon-dataplane",
            "pregon-proto",
            "pregon-rpc",
            "pregon-store",
            "pregon-telemetry",
        ],
    ),
    (
        "pregon-control",
        &["pregon-core", "pregon-proto", "pregon-rpc", "pregon-store", "pregon-telemetry"],
    ),
    (
        "pregon-dataplane",
        &["pregon-core", "pregon-proto", "pregon-rpc", "pregon-store", "pregon-telemetry"],
    ),
    ("pregon-store", &["pregon-core"]),
    ("pregon-rpc", &["pregon-core", "pregon-proto", "pregon-telemetry"]),
    ("pregon-telemetry", &["pregon-core"]),
    ("pregon-core", &[]),
    ("pregon-proto", &[]),
    ("pregon-bench", &["pregon-proto"]),
    (
        "pregon-fuzz",
        &[
            "pregon-control",
            "pregon-core",
            "pregon-dataplane",
            "pregon-proto",
            "pregon-rpc",
            "pregon-store",
            "pregon-telemetry",
        ],
    ),
];

/// Clients of databases: the engines, and what would be a way around them.
const DATABASES: [&str; 6] = ["rusqlite", "libsqlite3-sys", "redis", "fred", "sled", "redb"];

/// What core and proto may never pull in: they do no I/O.
const IO: [&str; 5] = ["tokio", "hyper", "hyper-util", "reqwest", "mio"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A crate of the workspace: its manifest and what it depends on, dev-dependencies set apart.
struct Member {
    manifest: PathBuf,
    depends: BTreeSet<String>,
    tests_with: BTreeSet<String>,
}

fn members() -> BTreeMap<String, Member> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (mut depends, mut tests_with) = (BTreeSet::new(), BTreeSet::new());
            for one in package["dependencies"].as_array().unwrap() {
                let set = if one["kind"] == "dev" { &mut tests_with } else { &mut depends };
                set.insert(text(&one["name"]));
            }
            let manifest = text(&package["manifest_path"]).into();
            (text(&package["name"]), Member { manifest, depends, tests_with })
        })
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let members = members();
    let names: BTreeSet<_> = members.keys().map(String::as_str).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "every crate has its place here");
    for (name, member) in &members {
        let ours = |set: &BTreeSet<String>| {
            set.iter().filter(|one| names.contains(one.as_str())).cloned().collect::<Vec<_>>()
        };
        for used in ours(&member.depends) {
            let may = allowed[name.as_str()].contains(used.as_str());
            assert!(may, "{name} must not depend on {used}");
        }
        // Tests may use more, but never turn the direction round.
        for used in ours(&member.tests_with) {
            let back = members[&used].depends.contains(name);
            assert!(!back, "the tests of {name} must not depend on {used}, which depends on it");
        }
    }
}

#[test]
fn only_the_store_names_a_database() {
    for (name, member) in members() {
        for database in DATABASES {
            let named = member.depends.contains(database) || member.tests_with.contains(database);
            assert!(!named || name == "pregon-store", "{name} must not depend on {database}");
        }
    }
}

#[test]
fn only_telemetry_names_its_sdk() {
    for (name, member) in members() {
        let sdk =
            |one: &String| one.starts_with("opentelemetry") || one.starts_with("tracing-open");
        let named = member.depends.iter().find(|one| sdk(one));
        assert!(named.is_none() || name == "pregon-telemetry", "{name} depends on {named:?}");
    }
}

#[test]
fn the_vocabulary_does_no_io() {
    let members = members();
    for library in IO {
        for name in ["pregon-core", "pregon-proto"] {
            let named = members[name].depends.contains(library);
            assert!(!named, "{name} must not depend on {library}");
        }
    }
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for (name, member) in members() {
        let manifest = std::fs::read_to_string(&member.manifest).unwrap();
        let lints = manifest.split("[lints]").nth(1).unwrap_or_default();
        let first = lints.lines().map(str::trim).find(|line| !line.is_empty());
        assert_eq!(first, Some("workspace = true"), "{name}: [lints] must be the workspace's");
    }
    for file in rust_files(&root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        // In two halves, so that this file does not name it.
        let allowed = text.contains(&format!("allow({}", "unsafe_code"));
        assert!(!allowed, "{} allows unsafe code", file.display());
    }
}

#[test]
fn generated_code_is_not_kept() {
    // What the compiler of proto files writes at the top of each file.
    let mark = format!("// This file is @{} by", "generated");
    for file in rust_files(&root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&mark), "{} is generated: build.rs makes it", file.display());
    }
}

#[test]
fn files_stay_readable() {
    let limit = 500;
    let long: Vec<_> = rust_files(&root())
        .into_iter()
        .map(|file| (std::fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > limit)
        .collect();
    assert!(long.is_empty(), "more than {limit} lines: {long:?}");
}

/// Rust files of ours: not in `target/`, not in hidden directories.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}
