//! The one rounding of a cost.

use super::{CostError, InvalidPricing, PRICE_MAX};
use crate::units::NanoUsd;

/// The exact cost so far, in millionths of a nano, and the same rounded up to nanos.
#[derive(Clone, Copy, Default)]
pub(super) struct RunningSum {
    exact: i128,
    rounded: i64,
}

impl RunningSum {
    /// Adds a class and says by how much the rounded sum rose.
    pub(super) fn add(&mut self, count: u64, price_per_million: i64) -> Result<NanoUsd, CostError> {
        let price = checked("a price", price_per_million)?;
        let product = i128::from(count).checked_mul(i128::from(price));
        let exact = product
            .and_then(|product| self.exact.checked_add(product))
            .ok_or(CostError::Overflow)?;
        // Prices are not negative here, so rounding up is adding one less than the divisor.
        let nanos = exact.checked_add(999_999).ok_or(CostError::Overflow)? / 1_000_000;
        let rounded = i64::try_from(nanos).map_err(|_| CostError::Overflow)?;
        let part = NanoUsd(rounded - self.rounded);
        *self = Self { exact, rounded };
        Ok(part)
    }

    pub(super) fn total_with(self, per_request: i64) -> Result<NanoUsd, CostError> {
        self.rounded
            .checked_add(per_request)
            .map(NanoUsd)
            .ok_or(CostError::Overflow)
    }
}

/// A price that is neither negative nor too high.
pub(super) fn checked(field: &'static str, price: i64) -> Result<i64, InvalidPricing> {
    if (0..=PRICE_MAX).contains(&price) {
        Ok(price)
    } else {
        Err(InvalidPricing::of(field))
    }
}
