//! Whether to step back before a turn, so that what is about to end is taken in with it.
//!
//! A turn of the loop costs as much for one report as for twenty. Where many attempts end together,
//! letting the other tasks have their turn first brings their reports, too. Where they end one by
//! one it brings nothing and costs a look at the network. So the loop steps back while that brings
//! something, and now and then to see whether it does.

/// Vain steps back after which it does without.
const PATIENCE: u8 = 4;
/// Turns without one, after which it tries again.
const REST: u8 = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Steps back that may still be in vain.
    left: u8,
    /// Turns without one.
    without: u8,
}

impl Gathering {
    /// Whether to step back in this turn.
    pub fn is_worth_it(&mut self) -> bool {
        if self.left > 0 {
            return true;
        }
        self.without += 1;
        if self.without < REST {
            return false;
        }
        self.without = 0;
        true
    }

    /// It stepped back, and more came meanwhile, or nothing did.
    pub fn came(&mut self, more: bool) {
        self.left = if more { PATIENCE } else { self.left.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps back in so many turns that bring something, or do not.
    fn steps(gathering: &mut Gathering, turns: usize, more: bool) -> usize {
        (0..turns)
            .filter(|_| {
                let steps = gathering.is_worth_it();
                if steps {
                    gathering.came(more);
                }
                steps
            })
            .count()
    }

    #[test]
    fn it_steps_back_while_that_brings_something() {
        let mut gathering = Gathering::default();
        let rest = usize::from(REST);
        assert_eq!(steps(&mut gathering, 10 * rest, false), 10, "in vain: now and then");
        assert_eq!(steps(&mut gathering, rest, true), 1, "until one brings something");
        assert_eq!(steps(&mut gathering, 100, true), 100);
        assert_eq!(steps(&mut gathering, rest, false), usize::from(PATIENCE), "and a little on");
    }
}
