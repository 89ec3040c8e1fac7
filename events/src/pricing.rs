//! What a call costs: six prices, five token classes, one rounding. The gateway reserves with [`upper_bound`] and settles
//! with [`cost`]; the admin validates prices with [`Pricing::validate`]; the projector checks records against [`cost`].

use serde::{Deserialize, Serialize};

use crate::units::NanoUsd;

/// Prices in nano-USD: for one request, and for 1,000,000 tokens of each class.
/// A class without a price of its own costs what its side costs: cached and cache write as input, reasoning as output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pricing {
    pub per_request_nanos: i64,
    pub input_per_million_nanos: i64,
    pub output_per_million_nanos: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_per_million_nanos: Option<i64>,
}

impl Pricing {
    /// Refuses negative prices and those above [`PRICE_MAX`], naming the first such field.
    pub fn validate(&self) -> Result<(), InvalidPricing> {
        let fields = [
            ("per_request_nanos", Some(self.per_request_nanos)),
            (
                "input_per_million_nanos",
                Some(self.input_per_million_nanos),
            ),
            (
                "output_per_million_nanos",
                Some(self.output_per_million_nanos),
            ),
            (
                "cached_input_per_million_nanos",
                self.cached_input_per_million_nanos,
            ),
            (
                "cache_write_per_million_nanos",
                self.cache_write_per_million_nanos,
            ),
            (
                "reasoning_per_million_nanos",
                self.reasoning_per_million_nanos,
            ),
        ];
        let out_of_bounds =
            |price: Option<i64>| price.is_some_and(|p| !(0..=PRICE_MAX).contains(&p));
        match fields.into_iter().find(|(_, price)| out_of_bounds(*price)) {
            Some((field, _)) => Err(InvalidPricing { field }),
            None => Ok(()),
        }
    }

    fn cached_input(&self) -> i64 {
        self.cached_input_per_million_nanos
            .unwrap_or(self.input_per_million_nanos)
    }

    fn cache_write(&self) -> i64 {
        self.cache_write_per_million_nanos
            .unwrap_or(self.input_per_million_nanos)
    }

    fn reasoning(&self) -> i64 {
        self.reasoning_per_million_nanos
            .unwrap_or(self.output_per_million_nanos)
    }
}

/// The highest price of a field: 1,000,000 USD for a request or for 1,000,000 tokens.
pub const PRICE_MAX: i64 = 1_000_000 * 1_000_000_000;

/// Tokens of one call by class. The classes are disjoint: `input` is without the cached and the cache-write tokens,
/// `output` without the reasoning tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl TokenUsage {
    /// All that went in: plain, cached and written to the cache.
    #[must_use]
    pub fn input_side(&self) -> u64 {
        self.input
            .saturating_add(self.cached_input)
            .saturating_add(self.cache_write)
    }

    /// All that came out: text and reasoning.
    #[must_use]
    pub fn output_side(&self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.input_side().saturating_add(self.output_side())
    }
}

/// A cost by class. The parts always add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CostBreakdown {
    pub request: NanoUsd,
    pub input: NanoUsd,
    pub cached_input: NanoUsd,
    pub cache_write: NanoUsd,
    pub output: NanoUsd,
    pub reasoning: NanoUsd,
}

/// What one record costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub total: NanoUsd,
    pub breakdown: CostBreakdown,
}

/// `per_request + ceil(sum of tokens * price / 1,000,000)`: rounded up once, over the sum of all classes.
///
/// Each class gets what it adds to the rounded running sum (input, cached input, cache write, output, reasoning, in this
/// order), so the nano that rounding adds goes to the first class that needs it, every part is within a nano of its exact
/// value, and a class without tokens costs nothing.
pub fn cost(pricing: &Pricing, usage: &TokenUsage) -> Result<Cost, CostError> {
    pricing.validate()?;
    let mut sum = RunningSum::default();
    let breakdown = CostBreakdown {
        request: NanoUsd(pricing.per_request_nanos),
        input: sum.add(usage.input, pricing.input_per_million_nanos)?,
        cached_input: sum.add(usage.cached_input, pricing.cached_input())?,
        cache_write: sum.add(usage.cache_write, pricing.cache_write())?,
        output: sum.add(usage.output, pricing.output_per_million_nanos)?,
        reasoning: sum.add(usage.reasoning, pricing.reasoning())?,
    };
    Ok(Cost {
        total: sum.total_with(pricing.per_request_nanos)?,
        breakdown,
    })
}

/// The most that a call can cost whose input side has at most `input_tokens_max` tokens and whose output side at most
/// `output_tokens_max`, however they split into classes: each side at its dearest class.
/// `None` when the prices are not valid or the bound does not fit: such a call cannot be reserved.
#[must_use]
pub fn upper_bound(
    pricing: &Pricing,
    input_tokens_max: u64,
    output_tokens_max: u64,
) -> Option<NanoUsd> {
    pricing.validate().ok()?;
    let dearest_input = pricing
        .input_per_million_nanos
        .max(pricing.cached_input())
        .max(pricing.cache_write());
    let dearest_output = pricing.output_per_million_nanos.max(pricing.reasoning());
    let mut sum = RunningSum::default();
    sum.add(input_tokens_max, dearest_input).ok()?;
    sum.add(output_tokens_max, dearest_output).ok()?;
    sum.total_with(pricing.per_request_nanos).ok()
}

/// Why a cost cannot be told. Neither occurs with validated prices and token counts that a provider can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    #[error(transparent)]
    Pricing(#[from] InvalidPricing),
    #[error("the cost does not fit into 64 bits of nano-dollars")]
    Overflow,
}

/// A price out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be between 0 and {PRICE_MAX}")]
pub struct InvalidPricing {
    pub field: &'static str,
}

/// The exact cost so far, in millionths of a nano, and the same rounded up to nanos.
#[derive(Default)]
struct RunningSum {
    exact: i128,
    rounded: i64,
}

impl RunningSum {
    /// Adds a class and says by how much the rounded sum rose.
    fn add(&mut self, tokens: u64, price_per_million: i64) -> Result<NanoUsd, CostError> {
        let product = i128::from(tokens).checked_mul(i128::from(price_per_million));
        let exact = product
            .and_then(|p| self.exact.checked_add(p))
            .ok_or(CostError::Overflow)?;
        // Prices are not negative here, so rounding up is adding one less than the divisor.
        let nanos = exact.checked_add(999_999).ok_or(CostError::Overflow)? / 1_000_000;
        let rounded = i64::try_from(nanos).map_err(|_| CostError::Overflow)?;
        let part = NanoUsd(rounded - self.rounded);
        *self = Self { exact, rounded };
        Ok(part)
    }

    fn total_with(&self, per_request: i64) -> Result<NanoUsd, CostError> {
        self.rounded
            .checked_add(per_request)
            .map(NanoUsd)
            .ok_or(CostError::Overflow)
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO_FAST: Pricing = Pricing {
        per_request_nanos: 0,
        input_per_million_nanos: 1_000_000_000,
        output_per_million_nanos: 2_000_000_000,
        cached_input_per_million_nanos: None,
        cache_write_per_million_nanos: None,
        reasoning_per_million_nanos: None,
    };

    #[test]
    fn the_contracts_example_costs_45000_nanos() {
        let usage = TokenUsage {
            input: 5,
            output: 20,
            ..TokenUsage::default()
        };
        let cost = cost(&DEMO_FAST, &usage).unwrap();
        assert_eq!(cost.total, NanoUsd(45_000));
        let expected = CostBreakdown {
            input: NanoUsd(5_000),
            output: NanoUsd(40_000),
            ..CostBreakdown::default()
        };
        assert_eq!(cost.breakdown, expected);
    }

    #[test]
    fn a_fee_is_due_without_a_token() {
        let pricing = Pricing {
            per_request_nanos: 1_000_000,
            ..Pricing::default()
        };
        assert_eq!(
            cost(&pricing, &TokenUsage::default()).unwrap().total,
            NanoUsd(1_000_000)
        );
        assert_eq!(
            upper_bound(&pricing, 1_000, 1_000),
            Some(NanoUsd(1_000_000))
        );
    }

    #[test]
    fn classes_without_a_price_cost_what_their_side_costs() {
        let usage = TokenUsage {
            cached_input: 1,
            cache_write: 2,
            reasoning: 4,
            ..TokenUsage::default()
        };
        let cost = cost(&DEMO_FAST, &usage).unwrap();
        assert_eq!(cost.breakdown.cached_input, NanoUsd(1_000));
        assert_eq!(cost.breakdown.cache_write, NanoUsd(2_000));
        assert_eq!(cost.breakdown.reasoning, NanoUsd(8_000));
        assert_eq!(cost.total, NanoUsd(11_000));
    }

    #[test]
    fn rounding_happens_once_and_lands_on_the_first_class_that_needs_it() {
        let pricing = Pricing {
            input_per_million_nanos: 400_000,
            output_per_million_nanos: 400_000,
            ..Pricing::default()
        };
        let cost = cost(
            &pricing,
            &TokenUsage {
                input: 1,
                output: 1,
                ..TokenUsage::default()
            },
        )
        .unwrap();
        assert_eq!(cost.total, NanoUsd(1));
        assert_eq!(cost.breakdown.input, NanoUsd(1));
        assert_eq!(cost.breakdown.output, NanoUsd(0));
    }

    #[test]
    fn too_much_is_an_error_and_never_wraps() {
        let pricing = Pricing {
            input_per_million_nanos: PRICE_MAX,
            ..Pricing::default()
        };
        let usage = TokenUsage {
            input: u64::MAX,
            ..TokenUsage::default()
        };
        assert_eq!(cost(&pricing, &usage), Err(CostError::Overflow));
        assert_eq!(upper_bound(&pricing, u64::MAX, 0), None);
    }

    #[test]
    fn prices_out_of_bounds_are_refused_by_name() {
        let dear = Pricing {
            reasoning_per_million_nanos: Some(PRICE_MAX + 1),
            ..DEMO_FAST
        };
        let field = "reasoning_per_million_nanos";
        assert_eq!(dear.validate(), Err(InvalidPricing { field }));
        let negative = Pricing {
            per_request_nanos: -1,
            ..DEMO_FAST
        };
        assert_eq!(
            negative.validate(),
            Err(InvalidPricing {
                field: "per_request_nanos"
            })
        );
        assert!(cost(&negative, &TokenUsage::default()).is_err());
        assert_eq!(upper_bound(&negative, 1, 1), None);
    }

    #[test]
    fn json_has_defaults_and_refuses_floats_and_unknown_fields() {
        let parse = |text: &str| serde_json::from_str::<Pricing>(text);
        assert_eq!(parse("{}").unwrap(), Pricing::default());
        let text = r#"{"per_request_nanos":0,"input_per_million_nanos":1,"output_per_million_nanos":2,"cached_input_per_million_nanos":0}"#;
        let pricing = parse(text).unwrap();
        assert_eq!(pricing.cached_input_per_million_nanos, Some(0));
        assert_eq!(serde_json::to_string(&pricing).unwrap(), text);
        assert!(parse(r#"{"input_per_million_nanos":1.5}"#).is_err());
        assert!(parse(r#"{"image_per_million_nanos":1}"#).is_err());
    }
}
