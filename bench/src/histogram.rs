//! Latencies, counted in buckets whose width grows with the value.
//!
//! Log-linear as HDR histograms are: every power of two is cut into 128 equal buckets, so that a
//! value is known to within 0.8 % and a histogram of nanoseconds up to ten hours is 40 KiB.
//! Recording is one relaxed addition; anybody may record and read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::nanos;

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
/// Values from 2^45 ns (9.8 hours) on fall into the last bucket.
const TOP_BIT: u32 = 44;
const BUCKETS: usize = (TOP_BIT as usize - SUB_BITS as usize + 2) << SUB_BITS;

/// Counts of durations by size.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// What a histogram says, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many durations were recorded.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them were at most this.
    pub p50_us: f64,
    /// 90 % of them were at most this.
    pub p90_us: f64,
    /// 99 % of them were at most this.
    pub p99_us: f64,
    /// 99.9 % of them were at most this.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let value = nanos(duration);
        self.buckets[index(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
    }

    /// Counts everything that `other` counted.
    pub fn add(&self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.fetch_add(theirs.load(Relaxed), Relaxed);
        }
        self.sum.fetch_add(other.sum.load(Relaxed), Relaxed);
        self.max.fetch_max(other.max.load(Relaxed), Relaxed);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
        self.sum.store(0, Relaxed);
        self.max.store(0, Relaxed);
    }

    /// The usual figures.
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count = counts.iter().sum();
        let max = self.max.load(Relaxed);
        let quantile = |per_mille: u64| micros(quantile(&counts, count, per_mille).min(max));
        Summary {
            count,
            mean_us: micros(self.sum.load(Relaxed).checked_div(count).unwrap_or(0)),
            p50_us: quantile(500),
            p90_us: quantile(900),
            p99_us: quantile(990),
            p999_us: quantile(999),
            max_us: micros(max),
        }
    }
}

/// The bucket of a value.
fn index(value: u64) -> usize {
    let value = value.min((1 << (TOP_BIT + 1)) - 1);
    let shift = (u64::BITS - (value | SUB).leading_zeros()) - 1 - SUB_BITS;
    let bucket = u64::from(shift) * SUB + (value >> shift);
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((bucket - shift * SUB + 1) << shift) - 1
}

fn quantile(counts: &[u64], count: u64, per_mille: u64) -> u64 {
    let rank = (count * per_mille).div_ceil(1000).max(1);
    let mut below = 0;
    for (bucket, in_bucket) in counts.iter().enumerate() {
        below += in_bucket;
        if below >= rank {
            return highest(bucket);
        }
    }
    0
}

/// Nanoseconds as microseconds with one decimal.
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_at_most_a_128th_above_it() {
        let mut value = 0;
        while value < 1 << TOP_BIT {
            let highest = highest(index(value));
            assert!(highest >= value, "{value} is above the end of its bucket, {highest}");
            assert!(highest - value <= value / SUB, "{value} is too far below {highest}");
            value += 1 + value / 77;
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(index(highest(bucket)), bucket);
            assert_eq!(index(highest(bucket - 1) + 1), bucket);
        }
    }

    #[test]
    fn quantiles_of_a_thousand_steps() {
        let histogram = Histogram::default();
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        for (figure, ms) in [
            (summary.p50_us, 500.0),
            (summary.p90_us, 900.0),
            (summary.p99_us, 990.0),
            (summary.p999_us, 999.0),
            (summary.mean_us, 500.5),
        ] {
            let deviation = figure / (ms * 1000.0) - 1.0;
            assert!((0.0..0.008).contains(&deviation), "{figure} µs for {ms} ms");
        }
        assert_eq!(summary.max_us, 1_000_000.0);

        let all = Histogram::default();
        all.add(&histogram);
        assert_eq!(all.summary(), summary);
        all.clear();
        assert_eq!(all.summary(), Summary::default());
    }
}
