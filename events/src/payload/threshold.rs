//! Thresholds of budgets and quotas: parts of a limit whose crossing is told, once a window each.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::account::AccountSpec;
use crate::ids::UsageId;

/// Percents of a limit, 1 to 100 each. On the wire a list that rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// A bit for each percent, as two words: 16 bytes whose alignment makes nothing larger that holds them.
    low: u64,
    high: u64,
}

impl Thresholds {
    /// Told of nothing.
    pub const NONE: Self = Self::of_bits(0);
    pub const LARGEST: u8 = 100;

    const fn of_bits(bits: u128) -> Self {
        Self {
            low: bits as u64,
            high: (bits >> 64) as u64,
        }
    }

    const fn bits(self) -> u128 {
        self.low as u128 | (self.high as u128) << 64
    }

    /// `None` where one of them is 0 or above 100.
    #[must_use]
    pub fn of(percents: &[u8]) -> Option<Self> {
        percents.iter().try_fold(Self::NONE, |all, percent| {
            (1..=Self::LARGEST)
                .contains(percent)
                .then(|| Self::of_bits(all.bits() | 1 << percent))
        })
    }

    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// From the smallest to the largest.
    pub fn percents(self) -> impl Iterator<Item = u8> {
        (1..=Self::LARGEST).filter(move |percent| self.bits() & 1 << percent != 0)
    }

    /// Those above `before` percent that `settled` of `limit` has reached.
    pub fn crossed(self, before: u8, settled: i64, limit: i64) -> impl Iterator<Item = u8> {
        let reached = move |percent: &u8| {
            limit > 0 && i128::from(settled) * 100 >= i128::from(limit) * i128::from(*percent)
        };
        self.percents()
            .filter(move |percent| *percent > before)
            .take_while(reached)
    }
}

impl Default for Thresholds {
    /// 50, 80, 90 and 100.
    fn default() -> Self {
        Self::of_bits(1 << 50 | 1 << 80 | 1 << 90 | 1 << 100)
    }
}

impl Serialize for Thresholds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Bytes would be what MessagePack makes of numbers below 256 in a sequence of unknown type.
        let percents: Vec<u16> = self.percents().map(u16::from).collect();
        percents.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Thresholds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percents = Vec::<u8>::deserialize(deserializer)?;
        Self::of(&percents).ok_or_else(|| D::Error::custom("thresholds are percents from 1 to 100"))
    }
}

/// `threshold.crossed`: what calls have settled has reached so much of the limit, for the first time in this window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdCrossed {
    pub account: AccountSpec,
    pub percent: u8,
    /// In the account's unit, when it was crossed.
    pub settled: i64,
    /// What was carried in is a part of it.
    pub limit: i64,
    /// The call that crossed it.
    pub usage_id: UsageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_crossed_where_its_part_is_reached_and_not_again() {
        let crossed = |before, settled| {
            Thresholds::default()
                .crossed(before, settled, 1_000)
                .collect::<Vec<u8>>()
        };
        assert_eq!(crossed(0, 499), [0_u8; 0]);
        assert_eq!(crossed(0, 500), [50]);
        assert_eq!(crossed(50, 899), [80]);
        assert_eq!(crossed(0, 2_000), [50, 80, 90, 100]);
        assert_eq!(crossed(100, i64::MAX), [0_u8; 0]);
        assert_eq!(Thresholds::default().crossed(0, 5, 0).count(), 0);
    }

    #[test]
    fn the_wire_is_a_list_and_refuses_what_is_no_percent() {
        let some = Thresholds::of(&[100, 5]).unwrap();
        assert_eq!(serde_json::to_string(&some).unwrap(), "[5,100]");
        assert_eq!(
            serde_json::from_str::<Thresholds>("[100,5,5]").unwrap(),
            some
        );
        assert!(serde_json::from_str::<Thresholds>("[0]").is_err());
        assert!(serde_json::from_str::<Thresholds>("[101]").is_err());
        let bytes = rmp_serde::to_vec_named(&some).unwrap();
        assert_eq!(rmp_serde::from_slice::<Thresholds>(&bytes).unwrap(), some);
        assert!(serde_json::from_str::<Thresholds>("[]").unwrap() == Thresholds::NONE);
    }
}
