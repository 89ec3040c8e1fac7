//! What a call costs: a list of prices, token classes that do not overlap, pieces, one rounding. The gateway reserves with
//! [`upper_bound`] and settles with [`cost`]; the admin validates prices with [`Pricing::validate`]; the projector checks
//! records against [`cost`].

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::units::NanoUsd;

mod bound;
mod class;
mod list;
mod sum;
mod usage;
mod validate;

pub use self::{
    bound::{UsageBound, upper_bound},
    list::{LongContext, Rates, ServiceTier, ServiceTiers, TierPrices},
    usage::{Billed, CostBreakdown, Pieces, TokenDetails, TokenUsage, Units},
    validate::{InvalidPricing, MOST_UNIT_PRICES, PRICE_MAX, is_unit_kind},
};
use self::{class::Class, list::PriceList, sum::RunningSum};

/// Prices in nano-USD: for one request, for 1,000,000 tokens of each class, and for 1,000,000 pieces of each kind.
///
/// A class without a price of its own costs what it is a part of costs: cached, cache write, media, tools and embeddings as
/// input (the 1 h cache write as the other one), reasoning and media that come out as output, cached media as the media.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pricing {
    pub per_request_nanos: i64,
    pub input_per_million_nanos: i64,
    pub output_per_million_nanos: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million_nanos: Option<i64>,
    /// Kept by the provider for as long as it does by default (Anthropic: 5 minutes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_per_million_nanos: Option<i64>,
    /// Kept longer because the caller asked for it (Anthropic: 1 hour; OpenAI: 24 hours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_audio_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_audio_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_image_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_image_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_video_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_audio_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_image_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_video_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_input_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_output_per_million_nanos: Option<i64>,
    /// Nano-USD for 1,000,000 pieces of a kind: `pages`, `seconds`, `characters`, `images`, `web_search_medium`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units_per_million_nanos: BTreeMap<String, i64>,
    /// Dearer lists for long inputs, the lowest threshold first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub long_context: Vec<LongContext>,
    /// What differs where the provider serves or bills a call by another tier than its standard one.
    #[serde(skip_serializing_if = "ServiceTiers::is_empty")]
    pub service_tiers: ServiceTiers,
    /// Use that the provider bills and this list does not say how: it is refused under a hard budget.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpriced: Vec<Unpriced>,
}

/// A kind of use without a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// Something that any call may bring about.
    EveryCall,
    InputAudio,
    InputImage,
    InputVideo,
    OutputAudio,
    OutputImage,
    OutputVideo,
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    WebSearch,
}

impl Pricing {
    /// A price of text alone.
    #[must_use]
    pub const fn of_tokens(input_per_million_nanos: i64, output_per_million_nanos: i64) -> Self {
        Self {
            per_request_nanos: 0,
            input_per_million_nanos,
            output_per_million_nanos,
            cached_input_per_million_nanos: None,
            cache_write_per_million_nanos: None,
            cache_write_1h_per_million_nanos: None,
            reasoning_per_million_nanos: None,
            input_audio_per_million_nanos: None,
            cached_input_audio_per_million_nanos: None,
            input_image_per_million_nanos: None,
            cached_input_image_per_million_nanos: None,
            input_video_per_million_nanos: None,
            embeddings_per_million_nanos: None,
            output_audio_per_million_nanos: None,
            output_image_per_million_nanos: None,
            output_video_per_million_nanos: None,
            tool_input_per_million_nanos: None,
            tool_output_per_million_nanos: None,
            units_per_million_nanos: BTreeMap::new(),
            long_context: Vec::new(),
            service_tiers: ServiceTiers {
                batch: None,
                flex: None,
                priority: None,
            },
            unpriced: Vec::new(),
        }
    }

    /// Whether use of this kind is billed by the provider at a price that is not here.
    #[must_use]
    pub fn leaves_unpriced(&self, kind: Unpriced) -> bool {
        self.unpriced.contains(&kind)
    }
}

/// What one record costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub total: NanoUsd,
    pub breakdown: CostBreakdown,
}

/// `per_request + ceil((sum of tokens * price + sum of pieces * price) / 1,000,000)`: rounded up once, over everything.
///
/// The list is that of the record's service tier (the standard one where the price has none of that tier) and of its input
/// tokens. Each class gets what it adds to the rounded running sum, so the nano that rounding adds goes to the first class
/// that needs it, every part is within a nano of its exact value, and a class without tokens costs nothing.
pub fn cost(pricing: &Pricing, used: Billed<'_>) -> Result<Cost, CostError> {
    let tier = pricing.tier(used.service_tier);
    let prices = tier.list(used.tokens.input_side());
    let classes = class::split(used.tokens, used.details);
    let mut sum = RunningSum::default();
    let mut breakdown = CostBreakdown::default();
    for class in Class::ALL {
        let tokens = classes.of(class);
        if tokens > 0 {
            breakdown.place_of(class).0 += sum.add(tokens, prices.of(class))?.0;
        }
    }
    let of_units = used.units.map(|units| (units.kind.as_str(), units.count));
    let pieces = used.pieces.iter();
    for (kind, count) in of_units
        .into_iter()
        .chain(pieces.map(|(kind, count)| (kind.as_str(), *count)))
    {
        if let Some(price) = tier.unit_price(kind) {
            breakdown.units.0 += sum.add(count, price)?.0;
        }
    }
    let per_request = sum::checked("per_request_nanos", tier.per_request())?;
    breakdown.request = NanoUsd(per_request);
    Ok(Cost {
        total: sum.total_with(per_request)?,
        breakdown,
    })
}

/// Why a cost cannot be told. Neither occurs with validated prices and token counts that a provider can send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    #[error(transparent)]
    Pricing(#[from] InvalidPricing),
    #[error("the cost does not fit into 64 bits of nano-dollars")]
    Overflow,
}

impl InvalidPricing {
    fn of(field: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            why: validate::OUT_OF_BOUNDS,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
