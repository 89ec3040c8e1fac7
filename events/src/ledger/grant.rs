//! When a lease grows and by how much. Decided by the projector inside its transaction; the decision is recorded, so
//! that no replay decides again.

use crate::clock::Timestamp;

/// A gateway may reserve in a window this long before it begins.
pub const EARLIEST_BEFORE_WINDOW_SECONDS: i64 = 60;
/// A window is closed this long after its end.
pub const CLOSE_AFTER_WINDOW_SECONDS: i64 = 60;

/// The figures that a decision rests on, in the account's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Limit less held less settled; below zero after a lowered limit or a breach.
    pub free: i64,
    /// The gateway's total so far.
    pub granted: i64,
    /// Gateways with a heartbeat, at least 1.
    pub live_gateways: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The new total; equal to the old one when there is nothing to add.
    Granted(i64),
    /// What the oldest call needs is not free: park the ask and call idle parts back.
    Short,
}

/// Decides one ask, given as totals: with `must` the oldest waiting call fits, with `want` about ten seconds of spend.
#[must_use]
pub fn decide(situation: Situation, must: i64, want: i64) -> Decision {
    let Situation {
        free,
        granted,
        live_gateways,
    } = situation;
    let needed = must.saturating_sub(granted).max(0);
    if needed > free.max(0) {
        return Decision::Short;
    }
    // Half of a fair share beyond what must be: leases shrink as the limit comes near.
    let share = free.max(0) / (2 * i64::from(live_gateways.max(1)));
    let extra = want.saturating_sub(granted).min(share);
    Decision::Granted(granted + needed.max(extra).max(0))
}

/// Whether a scarce account has recovered: more than a tenth of its limit is free.
#[must_use]
pub fn is_plentiful(free: i64, limit: i64) -> bool {
    i128::from(free) * 10 > i128::from(limit)
}

/// Whether a window may be granted from at `now`: it begins in at most a minute and has not been over for one.
#[must_use]
pub fn is_grantable(start: Timestamp, end: Option<Timestamp>, now: Timestamp) -> bool {
    let begins_soon = start.seconds() - now.seconds() <= EARLIEST_BEFORE_WINDOW_SECONDS;
    let over = end.is_some_and(|end| now.seconds() - end.seconds() >= CLOSE_AFTER_WINDOW_SECONDS);
    begins_soon && !over
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_must_be_is_granted_to_the_last_unit_and_not_beyond() {
        let situation = Situation {
            free: 100,
            granted: 50,
            live_gateways: 8,
        };
        assert_eq!(decide(situation, 150, 150), Decision::Granted(150));
        assert_eq!(decide(situation, 151, 500), Decision::Short);
    }

    #[test]
    fn a_refill_gets_half_of_a_fair_share() {
        let situation = Situation {
            free: 1_000,
            granted: 0,
            live_gateways: 2,
        };
        assert_eq!(decide(situation, 0, 10_000), Decision::Granted(250));
        assert_eq!(decide(situation, 0, 100), Decision::Granted(100));
    }

    #[test]
    fn nothing_is_granted_from_a_negative_balance() {
        let situation = Situation {
            free: -5,
            granted: 10,
            live_gateways: 1,
        };
        assert_eq!(decide(situation, 10, 100), Decision::Granted(10));
        assert_eq!(decide(situation, 11, 100), Decision::Short);
    }

    proptest! {
        #[test]
        fn a_grant_never_exceeds_what_is_free(
            free in -1_000_i64..1_000_000, granted in 0_i64..1_000_000,
            must in 0_i64..2_000_000, want in 0_i64..4_000_000, live_gateways in 1_u32..64,
        ) {
            if let Decision::Granted(total) =
                decide(Situation { free, granted, live_gateways }, must, want)
            {
                prop_assert!(total >= granted && total >= must.min(total));
                prop_assert!(total - granted <= free.max(0));
            }
        }
    }
}
