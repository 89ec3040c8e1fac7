//! Which list of prices holds for a record: by the tier that served it and by how long its input was. A list says only what
//! differs from the one below it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Pricing,
    class::{Class, PerClass},
};

/// How the provider served a call, where that changes the price.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
}

impl ServiceTier {
    pub const ALL: [Self; 4] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority];

    /// For records, which leave the usual one out.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        *self == Self::Standard
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }
}

/// Prices for 1,000,000 tokens that differ from those below; absent ones do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million_nanos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_per_million_nanos: Option<i64>,
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
}

/// The list of calls whose whole input (cached and cache write too) has more than so many tokens: for all their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongContext {
    pub above_input_tokens: u64,
    pub rates: Rates,
}

/// The tiers that have prices of their own. One that is absent here is billed as the standard one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceTiers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<TierPrices>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flex: Option<Box<TierPrices>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Box<TierPrices>>,
}

/// What differs in one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierPrices {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request_nanos: Option<i64>,
    pub rates: Rates,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units_per_million_nanos: BTreeMap<String, i64>,
    /// Without any of its own, those of the standard tier hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub long_context: Vec<LongContext>,
}

impl ServiceTiers {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_none() && self.flex.is_none() && self.priority.is_none()
    }

    #[must_use]
    pub fn get(&self, tier: ServiceTier) -> Option<&TierPrices> {
        match tier {
            ServiceTier::Standard => None,
            ServiceTier::Batch => self.batch.as_deref(),
            ServiceTier::Flex => self.flex.as_deref(),
            ServiceTier::Priority => self.priority.as_deref(),
        }
    }
}

impl Rates {
    pub(super) fn price(&self, class: Class) -> Option<i64> {
        match class {
            Class::Input => self.input_per_million_nanos,
            Class::Output => self.output_per_million_nanos,
            Class::CachedInput => self.cached_input_per_million_nanos,
            Class::CacheWrite => self.cache_write_per_million_nanos,
            Class::CacheWrite1h => self.cache_write_1h_per_million_nanos,
            Class::Reasoning => self.reasoning_per_million_nanos,
            Class::InputAudio => self.input_audio_per_million_nanos,
            Class::CachedInputAudio => self.cached_input_audio_per_million_nanos,
            Class::InputImage => self.input_image_per_million_nanos,
            Class::CachedInputImage => self.cached_input_image_per_million_nanos,
            Class::InputVideo => self.input_video_per_million_nanos,
            Class::Embeddings => self.embeddings_per_million_nanos,
            Class::OutputAudio => self.output_audio_per_million_nanos,
            Class::OutputImage => self.output_image_per_million_nanos,
            Class::OutputVideo => self.output_video_per_million_nanos,
            Class::ToolInput => self.tool_input_per_million_nanos,
            Class::ToolOutput => self.tool_output_per_million_nanos,
        }
    }
}

impl Pricing {
    /// The standard prices as a list.
    pub(super) fn standard_rates(&self) -> Rates {
        Rates {
            input_per_million_nanos: Some(self.input_per_million_nanos),
            output_per_million_nanos: Some(self.output_per_million_nanos),
            cached_input_per_million_nanos: self.cached_input_per_million_nanos,
            cache_write_per_million_nanos: self.cache_write_per_million_nanos,
            cache_write_1h_per_million_nanos: self.cache_write_1h_per_million_nanos,
            reasoning_per_million_nanos: self.reasoning_per_million_nanos,
            input_audio_per_million_nanos: self.input_audio_per_million_nanos,
            cached_input_audio_per_million_nanos: self.cached_input_audio_per_million_nanos,
            input_image_per_million_nanos: self.input_image_per_million_nanos,
            cached_input_image_per_million_nanos: self.cached_input_image_per_million_nanos,
            input_video_per_million_nanos: self.input_video_per_million_nanos,
            embeddings_per_million_nanos: self.embeddings_per_million_nanos,
            output_audio_per_million_nanos: self.output_audio_per_million_nanos,
            output_image_per_million_nanos: self.output_image_per_million_nanos,
            output_video_per_million_nanos: self.output_video_per_million_nanos,
            tool_input_per_million_nanos: self.tool_input_per_million_nanos,
            tool_output_per_million_nanos: self.tool_output_per_million_nanos,
        }
    }

    /// Whether the price has a list of its own for the tier.
    #[must_use]
    pub fn has_tier(&self, tier: ServiceTier) -> bool {
        tier == ServiceTier::Standard || self.service_tiers.get(tier).is_some()
    }

    /// Whether any list has a price for cache writes that are kept longer.
    #[must_use]
    pub fn prices_long_cache(&self) -> bool {
        let of_rates = |rates: &Rates| rates.cache_write_1h_per_million_nanos.is_some();
        let of_lists = |lists: &[LongContext]| lists.iter().any(|list| of_rates(&list.rates));
        let mut tiers = ServiceTier::ALL
            .into_iter()
            .filter_map(|tier| self.service_tiers.get(tier));
        self.cache_write_1h_per_million_nanos.is_some()
            || of_lists(&self.long_context)
            || tiers.any(|tier| of_rates(&tier.rates) || of_lists(&tier.long_context))
    }

    pub(super) fn tier(&self, tier: ServiceTier) -> Tier<'_> {
        Tier {
            standard: self,
            own: self.service_tiers.get(tier),
        }
    }
}

/// The prices of one tier.
#[derive(Clone, Copy)]
pub(super) struct Tier<'a> {
    standard: &'a Pricing,
    own: Option<&'a TierPrices>,
}

impl<'a> Tier<'a> {
    /// The list of a call with so many input tokens.
    pub(super) fn list(&self, input_tokens: u64) -> PriceList {
        let applies = |longer: &&LongContext| longer.above_input_tokens < input_tokens;
        let longer = self.long_context().iter().filter(applies);
        let longer = longer.max_by_key(|longer| longer.above_input_tokens);
        let mut list = PriceList::default();
        let layers = [
            Some(self.standard.standard_rates()),
            self.own.map(|own| own.rates),
            longer.map(|longer| longer.rates),
        ];
        for rates in layers.into_iter().flatten() {
            list.lay_over(&rates);
        }
        list
    }

    pub(super) fn long_context(&self) -> &'a [LongContext] {
        match self.own {
            Some(own) if !own.long_context.is_empty() => &own.long_context,
            Some(_) | None => &self.standard.long_context,
        }
    }

    pub(super) fn per_request(&self) -> i64 {
        let own = self.own.and_then(|own| own.per_request_nanos);
        own.unwrap_or(self.standard.per_request_nanos)
    }

    /// `None`: pieces of this kind cost nothing.
    pub(super) fn unit_price(&self, kind: &str) -> Option<i64> {
        let own = self
            .own
            .and_then(|own| own.units_per_million_nanos.get(kind));
        own.or_else(|| self.standard.units_per_million_nanos.get(kind))
            .copied()
    }
}

/// Prices of every class, of which some may have none of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PriceList(PerClass<Option<i64>>);

impl PriceList {
    fn lay_over(&mut self, rates: &Rates) {
        for class in Class::ALL {
            if let Some(price) = rates.price(class) {
                self.0.set(class, Some(price));
            }
        }
    }

    /// The price of a class, its own or that of what it is a part of.
    pub(super) fn of(&self, class: Class) -> i64 {
        let own = self.0.of(class);
        own.unwrap_or_else(|| match class {
            Class::Input | Class::Output => 0,
            Class::CachedInput
            | Class::CacheWrite
            | Class::InputAudio
            | Class::InputImage
            | Class::InputVideo
            | Class::ToolInput
            | Class::Embeddings => self.of(Class::Input),
            Class::CacheWrite1h => self.of(Class::CacheWrite),
            Class::CachedInputAudio => self.cached_media(Class::InputAudio),
            Class::CachedInputImage => self.cached_media(Class::InputImage),
            Class::Reasoning
            | Class::OutputAudio
            | Class::OutputImage
            | Class::OutputVideo
            | Class::ToolOutput => self.of(Class::Output),
        })
    }

    /// Media with a price of its own has no discount that is not stated; media that costs as text is cached as text.
    fn cached_media(&self, media: Class) -> i64 {
        let own = self.0.of(media);
        own.unwrap_or_else(|| self.of(Class::CachedInput))
    }
}
