//! What both engines keep as bytes, and how it is read.

pub(crate) mod packed;
pub(crate) mod records;
pub(crate) mod stored;
pub mod test_reply;
