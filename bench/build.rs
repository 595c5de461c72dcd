//! Tells the benchmarks which compiler built them: a figure without it cannot be repeated.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.as_deref().map_or("unknown", str::trim);
    println!("cargo:rustc-env=PREGON_BENCH_RUSTC={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
