//! Arguments of a step.

use std::time::Duration;

use crate::redis::engine::fault::{Fault, Result};

/// A step's own arguments, in order.
#[derive(Clone, Default, Hash)]
pub(in crate::redis) struct Args(pub(in crate::redis) Vec<Vec<u8>>);

impl Args {
    pub fn text(mut self, value: impl std::fmt::Display) -> Self {
        self.push_text(value);
        self
    }

    pub fn millis(self, value: Duration) -> Self {
        self.text(value.as_millis())
    }

    /// What Lua reads as a table.
    pub fn table(mut self, value: &impl serde::Serialize) -> Result<Self> {
        self.push_table(value)?;
        Ok(self)
    }

    pub fn push_text(&mut self, value: impl std::fmt::Display) {
        self.0.push(value.to_string().into_bytes());
    }

    pub fn push_bytes(&mut self, value: Vec<u8>) {
        self.0.push(value);
    }

    pub fn push_table(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let packed = rmp_serde::to_vec(value)
            .map_err(|error| Fault::Corrupt(format!("an argument: {error}")))?;
        self.0.push(packed);
        Ok(())
    }
}
