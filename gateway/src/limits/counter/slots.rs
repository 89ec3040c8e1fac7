//! Slots: calls under way. What a gateway holds lasts as long as it renews it; what one call holds, as long as the call,
//! or as long as the policy says.

use std::collections::BTreeSet;

use super::SlotId;

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// As Redis has it.
    granted: u64,
    /// From then on they may be others'.
    until: i64,
    /// When it was renewed last.
    told_at: i64,
    taken: BTreeSet<SlotId>,
    next: u64,
    /// Those before it were taken under a lease that ran out: others may have them.
    valid_from: u64,
}

impl Slots {
    pub(super) fn free(&mut self, now: i64) -> u64 {
        self.end_old(now);
        if now >= self.until {
            return 0;
        }
        self.granted.saturating_sub(self.taken.len() as u64)
    }

    fn end_old(&mut self, now: i64) {
        while self.taken.first().is_some_and(|(ends, _)| *ends <= now) {
            self.taken.pop_first();
        }
    }

    pub(super) fn take(&mut self, span: u64, now: i64) -> SlotId {
        let slot = (now.saturating_add_unsigned(span), self.next);
        self.next += 1;
        self.taken.insert(slot);
        slot
    }

    pub(super) fn give_back(&mut self, slot: SlotId) {
        self.taken.remove(&slot);
    }

    pub(super) fn holds(&self, slot: SlotId, now: i64) -> bool {
        now < self.until && now < slot.0 && slot.1 >= self.valid_from && self.taken.contains(&slot)
    }

    /// Calls under way that still have their slot.
    pub(super) fn in_use(&self, now: i64) -> u64 {
        self.taken.range((now + 1, 0)..).count() as u64
    }

    /// What Redis is told: also what is idle, which may be taken before it answers.
    pub(super) fn held(&self, now: i64) -> u64 {
        let used = self.in_use(now);
        if now < self.until {
            used.max(self.granted)
        } else {
            used
        }
    }

    /// Gives up what is idle beyond `keep`; true when Redis is to be told of that, or that the rest is still held.
    pub(super) fn shrink(&mut self, keep: u64, lease: u64, now: i64) -> bool {
        self.end_old(now);
        let used = self.taken.len() as u64;
        let keeps = self.granted.min(used.saturating_add(keep)).max(used);
        let renews = now.saturating_sub(self.told_at) > (lease / 6).cast_signed();
        if keeps == self.granted && !(renews && keeps > 0) {
            return false;
        }
        self.granted = keeps;
        true
    }

    pub(super) fn apply(&mut self, held: u64, granted: u64, clock: i64, lease: u64) {
        if clock >= self.until {
            self.valid_from = self.next;
        }
        self.granted = held.saturating_add(granted);
        self.until = clock.saturating_add_unsigned(lease);
        self.told_at = clock;
    }
}
