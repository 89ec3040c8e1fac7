//! The price catalogue that is shipped with the binary: known models with type, capabilities, sizes and list prices.
//! Asked when a model is created or updated without a price of its own, and by the console's import dialog.
//!
//! `catalogue/prices.json` is built by `catalogue/build.py`; its head says from what and when.

use std::sync::LazyLock;

use odock_events::{
    payload::{
        model::{Capability, ModelConfig, ModelType},
        provider::ProviderType,
    },
    pricing::Pricing,
};
use serde::Deserialize;

/// The entry of a model by its provider's type on the wire and the slug that goes upstream, both exact.
#[must_use]
pub fn find(provider_type: &str, slug: &str) -> Option<&'static Entry> {
    let models = entries();
    let place = models
        .binary_search_by(|entry| {
            (entry.provider_type.name(), entry.slug.as_str()).cmp(&(provider_type, slug))
        })
        .ok()?;
    models.get(place)
}

/// All entries, sorted by provider type and slug.
#[must_use]
pub fn entries() -> &'static [Entry] {
    &CATALOGUE.models
}

/// Which catalogue this is: the date of its prices, `YYYY-MM-DD`.
#[must_use]
pub fn version() -> &'static str {
    &CATALOGUE.version
}

/// Where the facts come from.
#[must_use]
pub fn source() -> &'static str {
    &CATALOGUE.source
}

/// One known model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub provider_type: ProviderType,
    pub slug: String,
    #[serde(rename = "type")]
    pub kind: ModelType,
    pub capabilities: Vec<Capability>,
    /// `context_window` is the most input tokens that the provider takes.
    pub config: ModelConfig,
    /// List prices of the standard tier.
    pub pricing: Pricing,
    /// What the provider bills otherwise than `pricing` can say: such use costs more than we compute.
    #[serde(default)]
    pub gaps: Vec<PriceGap>,
    /// Above this many input tokens the provider bills all tokens by a dearer list.
    #[serde(default)]
    pub long_context_above: Option<u64>,
}

/// A kind of use that the six prices do not cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceGap {
    /// Inputs above [`Entry::long_context_above`].
    LongContext,
    /// Cache writes that are kept longer than by default.
    CacheWriteLong,
    InputAudio,
    InputImage,
    InputVideo,
    /// A fee for each search that the provider runs itself.
    Search,
}

/// The file; the rest of its head is for the reader.
#[derive(Deserialize)]
struct Catalogue {
    version: String,
    source: String,
    models: Vec<Entry>,
}

#[expect(
    clippy::expect_used,
    reason = "the file is compiled in, and a test of this file fails when it does not parse"
)]
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../catalogue/prices.json")).expect("prices.json parses")
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use odock_events::{
        pricing::{TokenUsage, cost, upper_bound},
        units::NanoUsd,
    };

    use super::*;

    #[test]
    fn every_entry_is_found_once_and_has_valid_prices() {
        assert!(entries().len() >= 60, "{}", entries().len());
        let mut seen = BTreeSet::new();
        for entry in entries() {
            let provider = entry.provider_type.name();
            assert!(
                seen.insert((provider, entry.slug.as_str())),
                "{provider} {} twice",
                entry.slug
            );
            let found = find(provider, &entry.slug).unwrap();
            assert_eq!(found.slug, entry.slug);
            entry.pricing.validate().unwrap();
        }
    }

    #[test]
    fn all_four_providers_are_there() {
        for (provider, least) in [
            (ProviderType::OpenAi, 25),
            (ProviderType::Anthropic, 10),
            (ProviderType::Google, 10),
            (ProviderType::Mistral, 10),
        ] {
            let count = entries()
                .iter()
                .filter(|entry| entry.provider_type == provider)
                .count();
            assert!(count >= least, "{provider:?} has {count}");
        }
    }

    #[test]
    fn every_model_that_talks_has_prices_and_bounds_for_a_reservation() {
        let talking = entries()
            .iter()
            .filter(|entry| matches!(entry.kind, ModelType::Chat | ModelType::Reasoning));
        for entry in talking {
            let slug = &entry.slug;
            let input = entry.config.context_window.unwrap_or_default();
            let output = entry.config.max_output_tokens.unwrap_or_default();
            assert!(input >= 8_000 && output >= 1_000, "{slug}");
            let bound = upper_bound(&entry.pricing, input, output).unwrap();
            assert!(bound > NanoUsd::ZERO, "{slug}");
            // More than 1,000 USD for one call, or less than a hundredth of a cent at full length, is a slip of the point.
            assert!(
                (100_000..=1_000_000_000_000).contains(&bound.0),
                "{slug}: {bound}"
            );
            assert!(
                entry.pricing.output_per_million_nanos >= entry.pricing.input_per_million_nanos
            );
            if let Some(cached) = entry.pricing.cached_input_per_million_nanos {
                assert!(cached < entry.pricing.input_per_million_nanos, "{slug}");
            }
        }
    }

    #[test]
    fn a_dearer_list_for_long_inputs_says_where_it_begins() {
        for entry in entries() {
            let named = entry.gaps.contains(&PriceGap::LongContext);
            assert_eq!(named, entry.long_context_above.is_some(), "{}", entry.slug);
        }
        assert_eq!(
            find("google", "gemini-2.5-pro").unwrap().long_context_above,
            Some(200_000)
        );
    }

    #[test]
    fn known_prices_are_right() {
        // USD per 1,000,000 tokens, in nanos: input, output, cached input, cache write.
        let usd = |cents: i64| cents * 10_000_000;
        for (provider, slug, input, output, cached, cache_write) in [
            (
                "openai",
                "gpt-4o",
                usd(250),
                usd(1_000),
                Some(usd(125)),
                None,
            ),
            (
                "openai",
                "gpt-4.1-mini",
                usd(40),
                usd(160),
                Some(usd(10)),
                None,
            ),
            (
                "anthropic",
                "claude-haiku-4-5",
                usd(100),
                usd(500),
                Some(usd(10)),
                Some(usd(125)),
            ),
            (
                "google",
                "gemini-2.5-flash",
                usd(30),
                usd(250),
                Some(usd(3)),
                None,
            ),
            (
                "mistral",
                "mistral-large-2512",
                usd(50),
                usd(150),
                Some(usd(5)),
                None,
            ),
        ] {
            let expected = Pricing {
                per_request_nanos: 0,
                input_per_million_nanos: input,
                output_per_million_nanos: output,
                cached_input_per_million_nanos: cached,
                cache_write_per_million_nanos: cache_write,
                reasoning_per_million_nanos: None,
            };
            assert_eq!(find(provider, slug).unwrap().pricing, expected, "{slug}");
        }
        let gpt_4o_mini = find("openai", "gpt-4o-mini").unwrap();
        let usage = TokenUsage {
            input: 1_000,
            output: 100,
            ..TokenUsage::default()
        };
        // 1,000 at 0.15 USD and 100 at 0.60 USD a million.
        assert_eq!(
            cost(&gpt_4o_mini.pricing, &usage).unwrap().total,
            NanoUsd(210_000)
        );
    }

    #[test]
    fn what_is_not_listed_is_not_found() {
        assert!(find("openai", "claude-haiku-4-5").is_none());
        assert!(find("openai", "gpt-4").is_none());
        assert!(find("custom", "gpt-4o").is_none());
        assert!(find("OpenAI", "gpt-4o").is_none());
    }

    #[test]
    fn the_head_says_when_and_from_what() {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<_> = version().split('-').collect();
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [4, 2, 2]
        );
        assert!(parts.into_iter().all(digits));
        assert!(source().contains("litellm"));
    }
}
