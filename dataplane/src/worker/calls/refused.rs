//! Settlements that the store does not take.

use std::sync::Arc;
use std::time::Duration;

use pregon_store::settlement::Settlement;

use super::Calls;
use crate::worker::RETRY_STORE;

/// Failures in a row after which a settlement is taken to be the matter itself, where other calls go
/// well meanwhile: some six seconds.
const REFUSED: u32 = 5;
/// How often the time between two tries of a settlement doubles: 6.4 s at last.
const RETRY_DOUBLED: u32 = 5;

impl Calls {
    /// A settlement came back without having been taken. It is repeated as it is, with growing
    /// patience. One that fails time and again while other calls go well is itself the matter: it
    /// is halved, and the item that is found so is answered, to be set aside.
    pub(in crate::worker) fn not_settled(
        &mut self,
        settlement: Arc<Settlement>,
    ) -> Option<Arc<Settlement>> {
        let (failures, others) = self.refused;
        self.refused.0 = failures.saturating_add(1);
        if failures < REFUSED || !others {
            let after = RETRY_STORE.saturating_mul(1 << failures.min(RETRY_DOUBLED));
            self.settle(settlement, after);
            return None;
        }
        if let Some((first, second)) = settlement.halve() {
            self.parts.extend([Arc::new(second), Arc::new(first)]);
            self.next_part();
            return None;
        }
        self.next_part();
        Some(settlement)
    }

    pub(super) fn next_part(&mut self) {
        self.settle.busy = false;
        if let Some(part) = self.parts.pop() {
            // A part that fails, too, is halved at once.
            self.refused = (REFUSED, true);
            self.settle(part, Duration::ZERO);
        } else {
            self.refused = (0, false);
        }
    }

    /// Another call than a settle went well.
    pub(in crate::worker) fn store_answers(&mut self) {
        self.refused.1 |= self.refused.0 > 0;
    }
}
