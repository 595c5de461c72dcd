//! Runs: what waits in a lane and was never attempted, as one bit each.
//!
//! Of such a delivery nothing is known but that it waits, so it has no record of its own. A run
//! holds a bit for each of [`RUN`] event numbers, from a multiple of [`RUN`] on, and says once what
//! all of its deliveries have in common. A million waiting deliveries are some 4,000 runs.
//!
//! - A delivery of a run was made when the run began, or when its event was accepted if that was
//!   later: [`created`].
//! - It leaves the run when it is attempted and does not succeed, and when somebody names it
//!   (cancels it): then it gets a record. One that succeeds leaves none: the log tells of it.
//! - What is leased of a run, and what ended of it together, are runs of their own.

/// Event numbers in a run.
pub(crate) const RUN: u64 = 256;
/// Bytes of the bits.
pub(crate) const BYTES: usize = 32;

/// The first event number of the run that an event lies in.
pub(crate) fn base(n: u64) -> u64 {
    n - n % RUN
}

/// When a delivery was made that lies in a run, in ms: `began` is when the run did, `accepted` is
/// of its event.
pub(crate) fn created(began: i64, accepted: i64) -> i64 {
    began.max(accepted)
}

/// A bit for each event of a run. The highest bit of the first byte is of the first event, as Redis
/// counts bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits([u8; BYTES]);

/// The byte of an event's bit, and the bit in it.
fn place(n: u64) -> (usize, u8) {
    let offset = (n % RUN) as usize;
    (offset / 8, 0x80 >> (offset % 8))
}

impl Bits {
    /// Of the bytes that [`Bits::bytes`] gave; none: they are not as many.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bits of some events of one run.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut bits = Self::default();
        for n in numbers {
            bits.insert(n);
        }
        bits
    }

    /// The bits of the run's events up to this one, which is of the run; all of them, or none,
    /// where it lies behind or before the run that begins at `base`.
    pub fn up_to(base: u64, n: u64) -> Self {
        let last = match n.checked_sub(base) {
            None => return Self::default(),
            Some(offset) => base + offset.min(RUN - 1),
        };
        Self::of(base..=last)
    }

    /// As they are written.
    pub fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// Whether an event is among them.
    pub fn contains(&self, n: u64) -> bool {
        let (byte, bit) = place(n);
        self.0[byte] & bit != 0
    }

    /// Adds an event; false: it was there.
    pub fn insert(&mut self, n: u64) -> bool {
        let (byte, bit) = place(n);
        let new = self.0[byte] & bit == 0;
        self.0[byte] |= bit;
        new
    }

    /// Removes an event; false: it was not there.
    pub fn remove(&mut self, n: u64) -> bool {
        let (byte, bit) = place(n);
        let there = self.0[byte] & bit != 0;
        self.0[byte] &= !bit;
        there
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The first so many.
    pub fn first(&self, most: usize) -> Self {
        Self::of(self.numbers(0).take(most))
    }

    /// Those that are in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Those that are in either.
    pub fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Those that are not in the other.
    pub fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// Their event numbers in a run that begins at `base`, lowest first.
    pub fn numbers(&self, base: u64) -> impl DoubleEndedIterator<Item = u64> + use<> {
        let bits = *self;
        (base..base + RUN).filter(move |n| bits.contains(*n))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn some() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(512..768_u64, 0..256)
    }

    fn set(bits: &Bits) -> BTreeSet<u64> {
        bits.numbers(512).collect()
    }

    proptest! {
        /// Bits are a set of the run's event numbers, and come back from their bytes.
        #[test]
        fn bits_are_a_set(a in some(), b in some(), n in 512..768_u64, most in 0..300_usize) {
            let (x, y) = (Bits::of(a.iter().copied()), Bits::of(b.iter().copied()));
            prop_assert_eq!(&set(&x), &a);
            prop_assert_eq!(Bits::read(x.bytes()), Some(x));
            prop_assert_eq!(x.count() as usize, a.len());
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(n), a.contains(&n));
            prop_assert_eq!(set(&x.and(&y)), &a & &b);
            prop_assert_eq!(set(&x.or(&y)), &a | &b);
            prop_assert_eq!(set(&x.without(&y)), &a - &b);
            prop_assert_eq!(set(&x.first(most)), a.iter().copied().take(most).collect());
            prop_assert_eq!(set(&x.and(&Bits::up_to(512, n))), a.range(..=n).copied().collect());
            let (mut more, mut model) = (x, a.clone());
            prop_assert_eq!(more.insert(n), model.insert(n));
            prop_assert_eq!(more.insert(n), false);
            prop_assert_eq!(set(&more), model);
            let (mut less, mut model) = (x, a);
            prop_assert_eq!(less.remove(n), model.remove(&n));
            prop_assert_eq!(set(&less), model);
        }
    }

    #[test]
    fn a_run_begins_at_a_multiple_of_its_length() {
        assert_eq!([base(0), base(255), base(256), base(700)], [0, 0, 256, 512]);
        assert_eq!(Bits::up_to(512, 511).count(), 0, "before the run");
        assert_eq!(Bits::up_to(512, u64::MAX).count(), 256, "behind the run");
        assert_eq!(Bits::of([512]).bytes()[0], 0x80, "as Redis counts bits");
        assert_eq!(Bits::read(&[0; 31]), None);
    }
}
