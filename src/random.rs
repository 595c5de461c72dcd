//! Randomness, where it enters the process.

/// Fills a buffer with random bytes fit for keys.
///
/// # Panics
///
/// When the operating system gives none: nothing that needs a key may go on then.
pub fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the operating system gives no randomness: {error}");
    }
}
