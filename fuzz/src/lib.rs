//! What must hold of input that strangers and neighbours send: one function a fuzz target.
//!
//! A target takes any bytes and asserts properties of what Pregón makes of them; not only that nothing
//! panics, but that what was read is what was written, that bounds hold, and that the same input is
//! answered in the same way. `fuzz/libfuzzer` runs the targets under libFuzzer, `scripts/fuzz.sh` starts
//! them, and a test replays `fuzz/corpus` with each on every compiler. A new target is a module here, a
//! line of [`TARGETS`], a folder of the corpus, and a file in `fuzz/libfuzzer/fuzz_targets`.

mod contract;
mod event;
mod expression;
mod message;
mod response;
mod retry_after;
mod stored;
mod url;

pub use contract::contract;
pub use event::event;
pub use expression::expression;
pub use message::message;
pub use response::response;
pub use retry_after::retry_after;
pub use stored::stored;
pub use url::url;

/// What is asserted of bytes: it panics where a property does not hold.
pub type Target = fn(&[u8]);

/// Every target: its name, which is that of its folder in the corpus, and the function.
pub const TARGETS: [(&str, Target); 8] = [
    ("contract", contract),
    ("event", event),
    ("expression", expression),
    ("message", message),
    ("response", response),
    ("retry_after", retry_after),
    ("stored", stored),
    ("url", url),
];

/// A line and what follows it; all of it where there is no end of a line.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
