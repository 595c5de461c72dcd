//! The third layer, contracts as documents: from YAML to a [`Contract`](super::Contract), or to
//! everything that is wrong with it, each fault with its line and column.
//!
//! The keys are described in `docs/contracts.md`. A document is read in three steps: the text
//! becomes a tree ([`crate::yaml`]); the tree becomes a [`ContractSpec`], and every fault on the way
//! is noted at its place; the contract that comes of it renders its own examples, and one that fails
//! on them is refused.

mod batch;
pub mod builtin;
pub mod catalog;
mod check;
mod compile;
mod example;
mod extend;
mod fault;
mod headers;
mod overrides;
mod read;
mod retry;
mod signature;
mod spec;
mod template;
mod url;
mod verification;

pub use builtin::{BuiltIn, builtins, standard_webhooks};
pub use catalog::{CatalogEntry, catalog, catalogued};
pub use example::{Trial, TrialError, Tried};
pub use extend::{Composed, Extends, shipped};
pub use fault::DocumentFault;
pub use overrides::{OVERRIDES_LEN, Overrides};
pub use read::{EXAMPLES, TYPES};
pub use spec::ContractSpec;

#[cfg(test)]
pub(super) mod tests;
