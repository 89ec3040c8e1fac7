//! The most that a call can cost: what a reservation takes.

use super::{
    Pieces, PriceList, Pricing, ServiceTier, TokenDetails,
    class::Class,
    list::Tier,
    sum::{self, RunningSum},
};
use crate::units::NanoUsd;

/// The most that a call can use of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBound<'a> {
    /// Input tokens of every class.
    pub input: u64,
    /// Output tokens of every class.
    pub output: u64,
    /// Of these at most so many of each kind; of the cached media, at most the media.
    pub details: TokenDetails,
    pub pieces: Pieces,
    /// Any of these may serve it.
    pub tiers: &'a [ServiceTier],
}

impl UsageBound<'_> {
    /// Text by the standard tier.
    #[must_use]
    pub fn text(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            details: TokenDetails::default(),
            pieces: Pieces::new(),
            tiers: &[ServiceTier::Standard],
        }
    }
}

/// The most that a call within `bound` can cost, however its tokens split into classes, by whichever of the tiers it is
/// served and however long its input turns out: each side at its dearest class of the dearest list.
/// `None` when the prices are not valid or the bound does not fit: such a call cannot be reserved.
#[must_use]
pub fn upper_bound(pricing: &Pricing, bound: &UsageBound<'_>) -> Option<NanoUsd> {
    let mut dearest: Option<NanoUsd> = None;
    for tier in bound.tiers {
        let tier = pricing.tier(*tier);
        // A list holds from one threshold to the next, so each is tried at the longest input that it is reached with.
        let ends = tier.long_context().iter();
        let ends = ends.map(|longer| longer.above_input_tokens.min(bound.input));
        for input in ends.chain([bound.input]) {
            let cost = at_most(tier, input, bound)?;
            dearest = dearest.max(Some(cost));
        }
    }
    dearest
}

fn at_most(tier: Tier<'_>, input: u64, bound: &UsageBound<'_>) -> Option<NanoUsd> {
    let prices = tier.list(input);
    let mut sum = RunningSum::default();
    let media = &bound.details;
    add_side(
        &mut sum,
        &prices,
        input,
        &[Class::Input, Class::CachedInput, Class::CacheWrite],
        &[
            (media.cache_write_1h, &[Class::CacheWrite1h]),
            (
                media.input_audio,
                &[Class::InputAudio, Class::CachedInputAudio],
            ),
            (
                media.input_image,
                &[Class::InputImage, Class::CachedInputImage],
            ),
            (media.input_video, &[Class::InputVideo]),
            (media.tool_input, &[Class::ToolInput]),
            (media.embeddings, &[Class::Embeddings]),
        ],
    )?;
    add_side(
        &mut sum,
        &prices,
        bound.output,
        &[Class::Output, Class::Reasoning],
        &[
            (media.output_audio, &[Class::OutputAudio]),
            (media.output_image, &[Class::OutputImage]),
            (media.output_video, &[Class::OutputVideo]),
            (media.tool_output, &[Class::ToolOutput]),
        ],
    )?;
    for (kind, count) in &bound.pieces {
        if let Some(price) = tier.unit_price(kind) {
            sum.add(*count, price).ok()?;
        }
    }
    let per_request = sum::checked("per_request_nanos", tier.per_request()).ok()?;
    sum.total_with(per_request).ok()
}

/// All tokens at the dearest class that any of them can be of, and for kinds that only some can be of, what they cost more.
fn add_side(
    sum: &mut RunningSum,
    prices: &PriceList,
    tokens: u64,
    any: &[Class],
    some: &[(u64, &[Class])],
) -> Option<()> {
    let dearest = |classes: &[Class]| {
        let prices = classes.iter().map(|class| prices.of(*class));
        prices.max().unwrap_or_default()
    };
    let dearest_of_any = dearest(any);
    sum.add(tokens, dearest_of_any).ok()?;
    for (most, classes) in some {
        let more = dearest(classes).saturating_sub(dearest_of_any).max(0);
        sum.add((*most).min(tokens), more).ok()?;
    }
    Some(())
}
