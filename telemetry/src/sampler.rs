//! Whether a trace is recorded: decided once, at its head, and carried in its context.

use pregon_core::trace::{TraceContext, TraceId};

/// How it is decided; the samplers of the OpenTelemetry specification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What a caller decided counts, where it did.
    pub parent_based: bool,
    /// The share of all other traces that is recorded, 0 to 1.
    pub ratio: f64,
}

impl Default for Sampler {
    /// `parentbased_always_on`, as the specification has it.
    fn default() -> Self {
        Self { parent_based: true, ratio: 1.0 }
    }
}

impl Sampler {
    /// Whether a trace is recorded whose caller gave this context, if one did.
    pub(crate) fn decide(&self, trace: TraceId, caller: Option<&TraceContext>) -> bool {
        match caller {
            Some(caller) if self.parent_based => caller.sampled,
            Some(_) | None => trace.within(self.ratio),
        }
    }

    /// Whether anything may be recorded at all: of `always_off` nothing is, failures included.
    pub(crate) fn is_off(&self) -> bool {
        !self.parent_based && self.ratio <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_decide_where_they_may() {
        let at = |sampled| {
            let parent = format!("00-{}-{}-0{}", "f".repeat(32), "1".repeat(16), u8::from(sampled));
            TraceContext::parse(&parent, None).unwrap()
        };
        let (yes, no) = (at(true), at(false));
        let decide = |sampler: Sampler, caller| sampler.decide(yes.trace, caller);
        let ratio = |parent_based, ratio| Sampler { parent_based, ratio };
        for (sampler, alone, with_yes, with_no) in [
            (Sampler::default(), true, true, false),
            (ratio(true, 0.0), false, true, false),
            (ratio(false, 0.0), false, false, false),
            (ratio(false, 1.0), true, true, true),
            (ratio(true, 0.5), false, true, false),
        ] {
            assert_eq!(decide(sampler, None), alone, "{sampler:?}");
            assert_eq!(decide(sampler, Some(&yes)), with_yes, "{sampler:?}");
            assert_eq!(decide(sampler, Some(&no)), with_no, "{sampler:?}");
        }
        assert!(ratio(false, 0.0).is_off() && !ratio(true, 0.0).is_off());
    }
}
