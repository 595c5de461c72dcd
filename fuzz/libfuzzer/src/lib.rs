//! What the fuzz targets have in common under libFuzzer.

use std::collections::BTreeSet;
use std::panic::{Location, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

/// Where libraries of others lie: cargo's registry, and the compiler's own.
const OUTSIDE: [&str; 2] = ["/registry/src/", "/rustc/"];

/// Ends the process at a panic in our own code, also at one that somebody would catch. One in a library
/// is left to whoever catches it, as in a node, and told once for each place; where nobody does, libFuzzer
/// ends the process.
pub fn watch() {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(Location::to_string).unwrap_or_default();
        if !OUTSIDE.iter().any(|outside| place.contains(outside)) {
            eprintln!("{panic}");
            std::process::abort();
        }
        if SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
            eprintln!("a library: {panic}");
        }
    }));
}
