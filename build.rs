//! Compiles `proto/` into the generated code and the descriptor set of the crate `pregon-proto`.
//!
//! Run by that crate (`build = "../build.rs"`), so the working directory is `proto/`. protox parses
//! the files: no protoc is needed. The descriptor set keeps the comments, so that `grpcurl
//! describe` shows them by reflection.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Our package, below the working directory.
const PACKAGE_DIR: &str = "pregon/v1";

/// Messages with keys or passwords in them: their `Debug` is written by hand, in
/// `proto/src/hidden.rs`, so that no log line shows one.
const KEY_BEARERS: [&str; 12] = [
    "ApiKeyAuth",
    "BasicAuth",
    "BearerAuth",
    "CreateApiKeyResponse",
    "CreatePortalTokenResponse",
    "MtlsAuth",
    "NewSecret",
    "Oauth2Auth",
    "RevealSecretResponse",
    "RotateApiKeyResponse",
    "RotateSecretRequest",
    "Secret",
];

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["../build.rs", "pregon", "google"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(proto_files(Path::new(PACKAGE_DIR))?)?;
    fs::write(out.join("pregon_descriptor_set.bin"), compiler.encode_file_descriptor_set())?;

    // One `Status` in the whole program: that of tonic-types, which also makes its details.
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .emit_rerun_if_changed(false)
        .skip_debug(KEY_BEARERS.map(|name| format!("pregon.v1.{name}")))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The `.proto` files of a directory, sorted so that the output does not depend on the file system.
fn proto_files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
    files.sort();
    Ok(files)
}
