//! Deliveries that go out together in one request, where the contract says so.

use tokio::time::Instant;

use super::{LaneFlow, Means, Waits};

impl<J: Waits> LaneFlow<J> {
    /// What goes out with a delivery that was taken out just now; nothing where each goes by itself.
    pub(in crate::worker) fn company(&mut self, first: &J) -> Vec<J> {
        let Some(batch) = &self.batch else { return Vec::new() };
        let (mut taken, mut bytes) = (Vec::new(), first.bytes());
        let mut skipped = Vec::new();
        while taken.len() + 1 < batch.max_events {
            let Some((since, job)) = self.queue.pop_front() else { break };
            if job.group() != first.group() {
                skipped.push((since, job));
                continue;
            }
            if bytes + job.bytes() > batch.max_bytes {
                skipped.push((since, job));
                break;
            }
            bytes += job.bytes();
            self.bytes = self.bytes.saturating_sub(job.bytes());
            taken.push(job);
        }
        for waits in skipped.into_iter().rev() {
            self.queue.push_front(waits);
        }
        taken
    }

    /// Whether some of what waits here is to go out together now. Never where each goes by itself.
    pub(in crate::worker) fn is_ripe(&self, now: Instant, means: Means) -> bool {
        self.ripe(now, means).is_some()
    }

    /// The place of the first delivery of a request that is to go out now: it has waited for as long
    /// as it may, memory is short, or the request is full.
    pub(super) fn ripe(&self, now: Instant, means: Means) -> Option<usize> {
        let (batch, (since, _)) = (self.batch.as_ref()?, self.queue.front()?);
        if now >= *since + batch.max_wait || means.patience < batch.max_wait {
            return Some(0);
        }
        if self.queue.len() < batch.max_events && self.bytes < batch.max_bytes {
            return None;
        }
        // Group, first place, count and bytes; attempts have few numbers at a time.
        let mut groups: Vec<(u64, usize, usize, usize)> = Vec::new();
        for (place, (_, job)) in self.queue.iter().enumerate() {
            let known = groups.iter().position(|group| group.0 == job.group());
            let index = known.unwrap_or_else(|| {
                groups.push((job.group(), place, 0, 0));
                groups.len() - 1
            });
            let (_, first, count, bytes) = &mut groups[index];
            (*count, *bytes) = (*count + 1, *bytes + job.bytes());
            if *count >= batch.max_events || *bytes >= batch.max_bytes {
                return Some(*first);
            }
        }
        None
    }

    /// Deliveries that may wait here where they go out together: so many requests' worth, and what
    /// there are free slots for.
    pub(super) fn room(
        &self,
        now: Instant,
        (limit, means): (u32, Means),
        requests: usize,
    ) -> usize {
        let free = if means.full { 0 } else { limit.saturating_sub(self.in_flight) };
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        let requests = self.guard.cap(now, means.patience, requests.saturating_add(free));
        requests.saturating_mul(self.each())
    }

    /// Deliveries of one request at most.
    pub(super) fn each(&self) -> usize {
        self.batch.as_ref().map_or(1, |batch| batch.max_events)
    }
}
