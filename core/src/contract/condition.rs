//! What a contract asks of a receiver's answer: `acknowledge`, `refuse` and `disable` as data.

use std::ops::RangeInclusive;

/// A condition on an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Holds for no answer; what `refuse` and `disable` are when a contract does not name them.
    Never,
    /// Holds when the status lies in one of these ranges.
    Status(Vec<RangeInclusive<u16>>),
}

impl Condition {
    /// `response.status >= 200 && response.status < 300`: what acknowledges by default.
    pub fn success() -> Self {
        Condition::Status(vec![200..=299])
    }

    /// Exactly one status.
    pub fn status(status: u16) -> Self {
        Condition::Status(vec![status..=status])
    }

    /// Whether it holds for an answer with this status.
    pub fn holds(&self, status: u16) -> bool {
        match self {
            Condition::Never => false,
            Condition::Status(ranges) => ranges.iter().any(|range| range.contains(&status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_within_its_ranges_only() {
        let success = Condition::success();
        for (status, holds) in [(199, false), (200, true), (299, true), (300, false), (0, false)] {
            assert_eq!(success.holds(status), holds, "{status}");
        }
        assert!(Condition::status(410).holds(410) && !Condition::status(410).holds(411));
        assert!((0..=u16::MAX).all(|status| !Condition::Never.holds(status)));
    }
}
