//! What a call used, as records say it, and what its cost is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ServiceTier, class::Class};
use crate::units::NanoUsd;

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

/// Parts of the token classes: by modality, by how long they are kept, by what they are for. Subsets of [`TokenUsage`]:
/// media is in `input` or `cached_input` and in `output`, `cache_write_1h` is in `cache_write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenDetails {
    /// Cached or not.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_audio: u64,
    /// Of `input_audio`.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_input_audio: u64,
    /// Cached or not.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_image: u64,
    /// Of `input_image`.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_input_image: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub input_video: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub output_audio: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub output_image: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub output_video: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_1h: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub embeddings: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub tool_input: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub tool_output: u64,
    /// Of the output: what of the caller's prediction came true, and what did not and is billed all the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted_prediction: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected_prediction: u64,
    /// Calls, not tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub tool_calls: u64,
}

impl TokenDetails {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What is billed by the piece: pages, images, seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    pub count: u64,
    pub kind: String,
}

/// Pieces that are billed beside the main unit and the tokens, by kind: searches, images that went in.
pub type Pieces = BTreeMap<String, u64>;

/// Everything of a record that has a price.
#[derive(Clone, Copy, Debug)]
pub struct Billed<'a> {
    pub tokens: &'a TokenUsage,
    pub details: &'a TokenDetails,
    pub units: Option<&'a Units>,
    pub pieces: &'a Pieces,
    pub service_tier: ServiceTier,
}

impl<'a> Billed<'a> {
    /// Text by the standard tier.
    #[must_use]
    pub fn text(tokens: &'a TokenUsage) -> Self {
        static NO_PIECES: Pieces = Pieces::new();
        static NO_DETAILS: TokenDetails = TokenDetails {
            input_audio: 0,
            cached_input_audio: 0,
            input_image: 0,
            cached_input_image: 0,
            input_video: 0,
            output_audio: 0,
            output_image: 0,
            output_video: 0,
            cache_write_1h: 0,
            embeddings: 0,
            tool_input: 0,
            tool_output: 0,
            accepted_prediction: 0,
            rejected_prediction: 0,
            tool_calls: 0,
        };
        Self {
            tokens,
            details: &NO_DETAILS,
            units: None,
            pieces: &NO_PIECES,
            service_tier: ServiceTier::Standard,
        }
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
    #[serde(skip_serializing_if = "is_nothing")]
    pub cache_write_1h: NanoUsd,
    /// Cached or not, as `input_image`.
    #[serde(skip_serializing_if = "is_nothing")]
    pub input_audio: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub input_image: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub input_video: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub embeddings: NanoUsd,
    pub output: NanoUsd,
    pub reasoning: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub output_audio: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub output_image: NanoUsd,
    #[serde(skip_serializing_if = "is_nothing")]
    pub output_video: NanoUsd,
    /// Tokens of tools, in and out.
    #[serde(skip_serializing_if = "is_nothing")]
    pub tools: NanoUsd,
    /// Pieces of every kind.
    #[serde(skip_serializing_if = "is_nothing")]
    pub units: NanoUsd,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_nothing(cost: &NanoUsd) -> bool {
    *cost == NanoUsd::ZERO
}

impl CostBreakdown {
    pub(super) fn place_of(&mut self, class: Class) -> &mut NanoUsd {
        match class {
            Class::Input => &mut self.input,
            Class::CachedInput => &mut self.cached_input,
            Class::CacheWrite => &mut self.cache_write,
            Class::CacheWrite1h => &mut self.cache_write_1h,
            Class::InputAudio | Class::CachedInputAudio => &mut self.input_audio,
            Class::InputImage | Class::CachedInputImage => &mut self.input_image,
            Class::InputVideo => &mut self.input_video,
            Class::ToolInput | Class::ToolOutput => &mut self.tools,
            Class::Embeddings => &mut self.embeddings,
            Class::Output => &mut self.output,
            Class::Reasoning => &mut self.reasoning,
            Class::OutputAudio => &mut self.output_audio,
            Class::OutputImage => &mut self.output_image,
            Class::OutputVideo => &mut self.output_video,
        }
    }

    /// All parts, for whoever adds them up.
    #[must_use]
    pub fn parts(&self) -> [NanoUsd; 16] {
        [
            self.request,
            self.input,
            self.cached_input,
            self.cache_write,
            self.cache_write_1h,
            self.input_audio,
            self.input_image,
            self.input_video,
            self.embeddings,
            self.output,
            self.reasoning,
            self.output_audio,
            self.output_image,
            self.output_video,
            self.tools,
            self.units,
        ]
    }
}
