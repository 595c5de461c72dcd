//! What is the same for all scenarios of a run.

use std::path::Path;

use super::RunArgs;
use super::scenario::Size;

/// What is the same for all scenarios of a run, and the directory of this one.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// The server's binary.
    pub pregon: &'a Path,
    /// What was asked for.
    pub args: &'a RunArgs,
    /// How much of this scenario is measured.
    pub size: &'a Size,
    /// Where the server has its store and log.
    pub directory: &'a Path,
}
