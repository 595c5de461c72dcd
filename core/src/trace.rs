//! Trace context after W3C Trace Context, level 1: whose trace something belongs to.
//!
//! A context comes with a call, is kept with what the call led to, and goes out with every request
//! to a receiver, so that whoever looks at a trace sees both sides of Pregón connected. Ids of
//! spans that several processes must agree on are derived, not drawn: the attempts of a delivery
//! may be made by different nodes, days apart, and still point at each other.

use std::fmt;
use std::sync::Arc;

use crate::id::{DeliveryKey, Position};

/// Characters of a `tracestate` that are kept: what the recommendation asks for at least.
pub const STATE_LEN: usize = 512;
/// Characters of a `traceparent` of version 00.
const PARENT_LEN: usize = 55;

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(u128);

/// The id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(u64);

/// A place in a trace: what comes next is its child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that what comes next belongs to.
    pub span: SpanId,
    /// Whether the trace is recorded, as its head decided.
    pub sampled: bool,
    /// `tracestate` as it came, up to [`STATE_LEN`]; goes along unread.
    pub state: Option<Arc<str>>,
}

impl TraceId {
    /// From any bits; zero, which is no id, becomes one.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits.max(1))
    }

    /// As bytes, most significant first.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether a sampler that keeps `ratio` of all traces keeps this one. Samplers of other
    /// processes decide by the same 63 bits (OpenTelemetry, `TraceIdRatioBased`).
    pub fn within(self, ratio: f64) -> bool {
        // Truncation is what takes the lower half; 2^63 is exact as a double.
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let place = (self.0 as u64 >> 1) as f64;
        ratio >= 1.0 || place < ratio * 9_223_372_036_854_775_808.0
    }

    /// The trace of an event that came without one: the same on every node, and nothing of it has
    /// to be stored.
    pub fn of_event(position: Position) -> Self {
        let high = mix(position.ms ^ 0x7072_6567_6f6e_0001);
        let low = mix(high ^ position.n ^ (u64::from(position.partition) << 48));
        Self::from_bits((u128::from(high) << 64) | u128::from(low))
    }
}

impl SpanId {
    /// From any bits; zero, which is no id, becomes one.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits.max(1))
    }

    /// As bytes, most significant first.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// As a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The span of an attempt.
    pub fn of_attempt(key: DeliveryKey, number: u32) -> Self {
        let (position, replay) = (key.position, key.replay.map_or(0, |tag| tag.bits()));
        let (partition, number) = (u64::from(position.partition), u64::from(number));
        // One after the other, so that no two of them can change places.
        let parts = [position.ms, position.n, partition, key.lane.0, replay, number];
        Self::from_bits(parts.into_iter().fold(0, |bits: u64, part| mix(bits.wrapping_add(part))))
    }

    /// A span of the same trace that follows from this one, told from its siblings by `which`.
    pub fn derive(self, which: u64) -> Self {
        Self::from_bits(mix(self.0 ^ mix(which)))
    }
}

impl TraceContext {
    /// Reads `traceparent` and, if there is one, `tracestate`. None where the parent is not well
    /// formed; a state that is too long is dropped.
    ///
    /// Of a later version the parts that version 00 has are read, as the recommendation asks.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let (head, rest) = parent.split_at_checked(PARENT_LEN)?;
        let mut parts = head.split('-');
        let version = hex::<2>(parts.next()?)?;
        let (trace, span) = (hex::<32>(parts.next()?)?, hex::<16>(parts.next()?)?);
        let flags = hex::<2>(parts.next()?)?;
        let extended = rest.is_empty() || (version != 0 && rest.starts_with('-'));
        if version == 0xff || trace == 0 || span == 0 || parts.next().is_some() || !extended {
            return None;
        }
        let state = state.filter(|it| !it.is_empty() && it.len() <= STATE_LEN && plain(it));
        Some(Self {
            trace: TraceId(trace),
            span: SpanId(u64::try_from(span).ok()?),
            sampled: flags & 1 == 1,
            state: state.map(Arc::from),
        })
    }

    /// The `traceparent` that says it.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(PARENT_LEN);
        text.push_str("00-");
        push_hex(&mut text, &self.trace.bytes());
        text.push('-');
        push_hex(&mut text, &self.span.bytes());
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    /// The same trace, where what comes next belongs to `span`.
    pub fn at(&self, span: SpanId) -> Self {
        Self { span, ..self.clone() }
    }

    /// The context of an event that came without one; not sampled.
    pub fn of_event(position: Position) -> Self {
        let trace = TraceId::of_event(position);
        let span = SpanId::from_bits(mix(position.n ^ position.ms));
        Self { trace, span, sampled: false, state: None }
    }

    /// In one text, as it is stored: the parent, and the state behind a space.
    pub fn to_text(&self) -> String {
        let mut text = self.traceparent();
        if let Some(state) = &self.state {
            text.push(' ');
            text.push_str(state);
        }
        text
    }

    /// Reads [`Self::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None => Self::parse(text, None),
            Some((parent, state)) => Self::parse(parent, Some(state)),
        }
    }
}

/// Appends lower-case hexadecimal digits; goes out with every request, so without formatting.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads lower-case hexadecimal digits, exactly so many.
fn hex<const DIGITS: usize>(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == DIGITS && digits).then(|| u128::from_str_radix(text, 16).ok())?
}

/// Whether it can stand in a header: printable ASCII.
fn plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// Spreads the bits of a number over all of another (the finalizer of splitmix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::id::{LaneNo, ReplayTag};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn well_formed_contexts_are_read_and_others_are_not() {
        let context = TraceContext::parse(GOOD, Some("vendor=1,other=2")).unwrap();
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        assert!(context.sampled);
        assert_eq!(context.traceparent(), GOOD);
        assert_eq!(context.state.as_deref(), Some("vendor=1,other=2"));

        let (later, extended) = (GOOD.replacen("00", "01", 1), format!("01{}-x", &GOOD[2..]));
        assert_eq!(TraceContext::parse(&later, None).unwrap().traceparent(), GOOD);
        assert!(TraceContext::parse(&extended, None).is_some());
        assert!(!TraceContext::parse(&GOOD.replace("-01", "-02"), None).unwrap().sampled);

        let zero = "0".repeat(32);
        for bad in [
            String::new(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zero),
            GOOD.replace("00f067aa0ba902b7", &zero[..16]),
            GOOD.to_uppercase(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-x"),
            format!("{GOOD}x"),
            GOOD.replace('-', "_"),
            GOOD.replacen("4b", "é", 1),
        ] {
            assert_eq!(TraceContext::parse(&bad, None), None, "{bad}");
        }
        for bad in [String::new(), "k=é".into(), "k=\n".into(), "k".repeat(STATE_LEN + 1)] {
            assert_eq!(TraceContext::parse(GOOD, Some(&bad)).unwrap().state, None, "{bad}");
        }
    }

    #[test]
    fn attempts_of_all_deliveries_differ() {
        let mut seen = HashSet::new();
        for n in 1..40 {
            for lane in 1..20 {
                for replay in [None, Some([0, 0, 0, 0, 1]), Some([1, 0, 0, 0, 0])] {
                    let key = DeliveryKey {
                        position: Position { ms: 1_800_000_000_000, partition: 0, n },
                        lane: LaneNo(lane),
                        replay: replay.map(ReplayTag::from_bits),
                    };
                    for number in 1..10 {
                        assert!(seen.insert(SpanId::of_attempt(key, number)), "{key} {number}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_ratio_keeps_about_its_share() {
        let position = |n| Position { ms: 1_800_000_000_000 + n, partition: 3, n };
        let kept = (0..100_000).filter(|n| TraceId::of_event(position(*n)).within(0.01)).count();
        assert!((850..1150).contains(&kept), "{kept}");
        assert!(TraceId::from_bits(u128::MAX).within(1.0));
        assert!(!TraceId::from_bits(0).within(0.0));
    }

    proptest! {
        #[test]
        fn contexts_come_back(
            trace: u128, span: u64, sampled: bool,
            state in proptest::option::of("[a-z]{1,10}=[ -~]{0,40}[!-~]"),
        ) {
            let context = TraceContext {
                trace: TraceId::from_bits(trace),
                span: SpanId::from_bits(span),
                sampled,
                state: state.as_deref().map(Arc::from),
            };
            prop_assert_eq!(TraceContext::from_text(&context.to_text()), Some(context));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = TraceContext::from_text(&text);
        }
    }
}
