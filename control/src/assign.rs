//! Ids for resources whose creator gave none.

use std::fmt::Write as _;

use crate::Control;

impl Control {
    /// A new id: the prefix, and 80 random bits in hexadecimal, so that chance repeats none.
    pub(crate) fn assign(&self, prefix: &str) -> String {
        let mut bytes = [0u8; 10];
        (self.random)(&mut bytes);
        let mut id = prefix.to_owned();
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}
