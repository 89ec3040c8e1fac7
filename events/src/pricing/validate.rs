//! Which prices are prices: bounds of every number, named for the one who sent it.

use std::borrow::Cow;

use super::{
    LongContext, Pricing, Rates,
    class::Class,
    list::{ServiceTier, TierPrices},
};

/// The highest price of a field: 1,000,000 USD for a request, for 1,000,000 tokens or for 1,000,000 pieces.
pub const PRICE_MAX: i64 = 1_000_000 * 1_000_000_000;

/// Kinds of pieces that one price can name.
pub const MOST_UNIT_PRICES: usize = 32;

/// Thresholds of one tier.
const MOST_THRESHOLDS: usize = 8;

/// The highest threshold; no context window comes near it.
const THRESHOLD_MAX: u64 = 1_000_000_000;

pub(super) const OUT_OF_BOUNDS: &str = "must be between 0 and 1000000000000000";

/// A price out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct InvalidPricing {
    /// Its place, with slashes between its parts.
    pub field: Cow<'static, str>,
    pub why: &'static str,
}

impl InvalidPricing {
    fn new(field: String, why: &'static str) -> Self {
        Self {
            field: field.into(),
            why,
        }
    }
}

/// Whether pieces can be of a kind with this name: 1 to 40 lower-case letters, digits and underscores.
#[must_use]
pub fn is_unit_kind(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=40).contains(&name.len()) && name.bytes().all(allowed)
}

impl Pricing {
    /// Refuses negative prices, those above [`PRICE_MAX`] and lists that contradict themselves, naming the first field.
    pub fn validate(&self) -> Result<(), InvalidPricing> {
        price("", "per_request_nanos", Some(self.per_request_nanos))?;
        rates("", &self.standard_rates())?;
        units("", &self.units_per_million_nanos)?;
        long_context("", &self.long_context)?;
        for tier in ServiceTier::ALL {
            if let Some(prices) = self.service_tiers.get(tier) {
                tier_prices(&format!("service_tiers/{}/", tier.name()), prices)?;
            }
        }
        let mut seen = Vec::new();
        for kind in &self.unpriced {
            if seen.contains(kind) {
                return Err(InvalidPricing::new("unpriced".into(), "names a kind twice"));
            }
            seen.push(*kind);
        }
        Ok(())
    }
}

fn tier_prices(place: &str, prices: &TierPrices) -> Result<(), InvalidPricing> {
    price(place, "per_request_nanos", prices.per_request_nanos)?;
    rates(&format!("{place}rates/"), &prices.rates)?;
    units(place, &prices.units_per_million_nanos)?;
    long_context(place, &prices.long_context)
}

fn rates(place: &str, rates: &Rates) -> Result<(), InvalidPricing> {
    Class::ALL
        .into_iter()
        .try_for_each(|class| price(place, class.field(), rates.price(class)))
}

fn price(place: &str, field: &'static str, price: Option<i64>) -> Result<(), InvalidPricing> {
    match price {
        Some(price) if !(0..=PRICE_MAX).contains(&price) => Err(InvalidPricing::new(
            format!("{place}{field}"),
            OUT_OF_BOUNDS,
        )),
        Some(_) | None => Ok(()),
    }
}

fn units(
    place: &str,
    units: &std::collections::BTreeMap<String, i64>,
) -> Result<(), InvalidPricing> {
    let place = format!("{place}units_per_million_nanos");
    if units.len() > MOST_UNIT_PRICES {
        return Err(InvalidPricing::new(place, "names more than 32 kinds"));
    }
    for (kind, value) in units {
        let field = format!("{place}/{kind}");
        if !is_unit_kind(kind) {
            let why = "must have 1 to 40 lower-case letters, digits and underscores";
            return Err(InvalidPricing::new(field, why));
        }
        if !(0..=PRICE_MAX).contains(value) {
            return Err(InvalidPricing::new(field, OUT_OF_BOUNDS));
        }
    }
    Ok(())
}

fn long_context(place: &str, lists: &[LongContext]) -> Result<(), InvalidPricing> {
    let place = format!("{place}long_context");
    if lists.len() > MOST_THRESHOLDS {
        return Err(InvalidPricing::new(place, "has more than 8 lists"));
    }
    let mut before = 0;
    for (index, list) in lists.iter().enumerate() {
        let above = list.above_input_tokens;
        if above <= before || above > THRESHOLD_MAX {
            return Err(InvalidPricing::new(
                format!("{place}/{index}/above_input_tokens"),
                "must be above the one before it, and at most 1000000000",
            ));
        }
        before = above;
        rates(&format!("{place}/{index}/rates/"), &list.rates)?;
    }
    Ok(())
}
