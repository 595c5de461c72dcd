//! What lies in Redis, and what both engines keep as bytes.

use pregon_store::fuzzing::{KINDS, written_again};

/// A byte that chooses a kind of value, and what is stored of it.
///
/// What can be read at all is written again in a form that is read as the same: it is written as it was
/// from then on. What cannot be read is none; nothing takes more memory than its bytes account for.
pub fn stored(data: &[u8]) {
    let Some((choice, stored)) = data.split_first() else { return };
    let kind = KINDS[usize::from(*choice) % KINDS.len()];
    let Some(written) = written_again(kind, stored) else { return };
    let again = written_again(kind, &written);
    assert_eq!(again.as_ref(), Some(&written), "{kind} comes back as it was written");
}
