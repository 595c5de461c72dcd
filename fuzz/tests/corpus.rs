//! Replays the corpus: every input with its target, on any compiler.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pregon_fuzz::TARGETS;

/// All inputs together: they are part of the repository.
const CORPUS_LEN: u64 = 300 * 1024;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let inputs = entries(&corpus().join(name));
    assert!(inputs.len() >= 10, "{name} has {} inputs", inputs.len());
    for input in inputs {
        let data = std::fs::read(&input).unwrap();
        let kept = catch_unwind(AssertUnwindSafe(|| target(&data)));
        assert!(kept.is_ok(), "{name} does not hold for {}", input.display());
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replays! { contract event expression message response retry_after stored url }

/// A target without a folder, a folder without a target, or either without libFuzzer's side of it.
#[test]
fn every_target_is_everywhere() {
    let names = |directory: &Path| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        entries(directory).into_iter().map(stem).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(targets, replayed);
    assert_eq!(targets, names(&corpus()));
    assert_eq!(targets, names(&corpus().join("../libfuzzer/fuzz_targets")));
}

#[test]
fn the_corpus_is_small() {
    let inputs = entries(&corpus()).into_iter().flat_map(|folder| entries(&folder));
    let size: u64 = inputs.map(|input| input.metadata().unwrap().len()).sum();
    assert!(size <= CORPUS_LEN, "{size} bytes");
}
