//! The most a call can take of whatever is accounted: requests, tokens in, tokens out, money. Pure arithmetic on what the
//! request says and what the model's configuration says; budgets, quotas and rate limits reserve with it.

use std::borrow::Cow;

use odock_events::{
    payload::model::ModelConfig,
    pricing::{self, Pieces, Pricing, ServiceTier, TokenDetails, Unpriced, UsageBound},
    state::Model,
    units::NanoUsd,
};

use crate::{
    dialect::openai_chat::{
        bound::{Allowances, InputBound, MediaCaps},
        request::{AskedTier, ChatRequest, SearchSize},
    },
    error::{Code, GatewayError},
};

/// Upper bounds of one call, each by itself: a call without a price still has bounds in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub requests: u64,
    /// All input tokens, of every class.
    pub tokens_in: Result<u64, Unbounded>,
    /// All output tokens of all choices, reasoning among them.
    pub tokens_out: Result<u64, Unbounded>,
    /// R.
    pub cost: Result<NanoUsd, Unbounded>,
}

/// Why there is no bound, and what to do about it: a clause of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unbounded(Cow<'static, str>);

impl Bounds {
    pub fn of(request: &ChatRequest, model: &Model) -> Self {
        let config = &model.body.config;
        let input = input(request, config);
        let tokens_out = tokens_out(request, config);
        let cost = match (&input, &tokens_out) {
            (Ok(input), Ok(output)) => {
                priced(model).and_then(|pricing| cost(request, config, pricing, *input, *output))
            }
            // What is missing first is told first, as all of it must be there.
            (Err(why), _) | (Ok(_), Err(why)) => priced(model).and_then(|_| Err(why.clone())),
        };
        Self {
            requests: 1,
            tokens_in: input.map(|bound| bound.tokens_upper),
            tokens_out,
            cost,
        }
    }
}

/// The most that a call can cost while its output is no longer than `output`: what a stream reserves chunk by chunk.
pub(crate) fn cost_up_to(
    request: &ChatRequest,
    model: &Model,
    output: u64,
) -> Result<NanoUsd, Unbounded> {
    let config = &model.body.config;
    let pricing = priced(model)?;
    cost(request, config, pricing, input(request, config)?, output)
}

impl Unbounded {
    fn because(why: &'static str) -> Self {
        Self(Cow::Borrowed(why))
    }

    /// The refusal, naming what asks for a bound, such as `a hard budget`.
    pub(crate) fn under(&self, what: &str) -> GatewayError {
        GatewayError::new(Code::CostUnbounded, format!("{what} applies, and {self}"))
    }
}

/// What the model's configuration says about media.
pub(crate) fn media_caps(config: &ModelConfig) -> MediaCaps {
    MediaCaps {
        context_window: config.context_window,
        image: config.max_image_tokens,
        low_detail_image: config.max_low_detail_image_tokens,
        audio: config.max_audio_tokens,
        file: config.max_file_tokens,
    }
}

/// How many searches the answers can bring about, as far as anybody says.
pub(crate) fn most_searches(request: &ChatRequest, config: &ModelConfig) -> Option<u64> {
    let each = config.max_web_searches?;
    Some(each.saturating_mul(u64::from(request.choices)))
}

/// How a search is billed, where there can be one: the request asks for it, or the model searches by itself.
pub(crate) fn search_size(request: &ChatRequest, config: &ModelConfig) -> Option<SearchSize> {
    let by_itself = config.max_web_searches.map(|_| SearchSize::Medium);
    request.web_search.or(by_itself)
}

fn priced(model: &Model) -> Result<&Pricing, Unbounded> {
    let pricing = model.body.price.pricing.as_deref();
    pricing.ok_or_else(|| Unbounded::because(NO_PRICE))
}

fn input(request: &ChatRequest, config: &ModelConfig) -> Result<InputBound, Unbounded> {
    if let Some(why) = request.unbounded {
        return Err(Unbounded::because(why));
    }
    let caps = media_caps(config);
    let bound = InputBound::of(&request.input, Allowances::default(), caps);
    let bound = match search_size(request, config) {
        Some(_) => bound.and_then(|bound| bound.with_search(caps)),
        None => bound,
    };
    bound.map_err(|error| Unbounded(error.to_string().into()))
}

fn tokens_out(request: &ChatRequest, config: &ModelConfig) -> Result<u64, Unbounded> {
    if let Some(why) = request.unbounded {
        return Err(Unbounded::because(why));
    }
    let caps = [request.max_output_tokens(), config.max_output_tokens];
    let each = caps.into_iter().flatten().min();
    let each = each.ok_or_else(|| Unbounded::because(NO_OUTPUT_LIMIT))?;
    Ok(each.saturating_mul(u64::from(request.choices)))
}

fn cost(
    request: &ChatRequest,
    config: &ModelConfig,
    pricing: &Pricing,
    input: InputBound,
    output: u64,
) -> Result<NanoUsd, Unbounded> {
    check_prices(request, config, pricing)?;
    let audio = if request.output_media.audio {
        output
    } else {
        0
    };
    let image = if request.output_media.image {
        output
    } else {
        0
    };
    let details = TokenDetails {
        input_audio: input.audio,
        input_image: input.image,
        input_video: input.video,
        output_audio: audio,
        output_image: image,
        cache_write_1h: if may_write_long_cache(request, pricing) {
            input.tokens_upper
        } else {
            0
        },
        ..TokenDetails::default()
    };
    let mut pieces = Pieces::new();
    if let Some(size) = search_size(request, config) {
        let most = most_searches(request, config);
        let most = most.ok_or_else(|| Unbounded::because(NO_SEARCH_LIMIT))?;
        pieces.insert(size.unit().to_owned(), most);
    }
    let images = request.input.media.images;
    if images > 0 && pricing.units_per_million_nanos.contains_key(INPUT_IMAGES) {
        pieces.insert(INPUT_IMAGES.to_owned(), images);
    }
    let bound = UsageBound {
        input: input.tokens_upper,
        output,
        details,
        pieces,
        tiers: tiers(request.tier),
    };
    pricing::upper_bound(pricing, &bound).ok_or_else(|| Unbounded::because(TOO_MUCH))
}

/// The tiers that may serve the call. A provider may fall back to its standard one; where the request leaves the choice to
/// the provider's settings, any of its tiers for single calls may be what those say.
fn tiers(asked: AskedTier) -> &'static [ServiceTier] {
    use ServiceTier::{Batch, Flex, Priority, Standard};
    match asked {
        AskedTier::Any => &[Standard, Flex, Priority],
        AskedTier::Tier(Standard) | AskedTier::Unknown => &[Standard],
        AskedTier::Tier(Flex) => &[Standard, Flex],
        AskedTier::Tier(Priority) => &[Standard, Priority],
        AskedTier::Tier(Batch) => &[Standard, Batch],
    }
}

/// Whether the request may ask for a cache that is kept longer, and that costs more.
fn may_write_long_cache(request: &ChatRequest, pricing: &Pricing) -> bool {
    pricing.prices_long_cache() && (request.long_cache || request.may_set_cache_ttl())
}

/// Refuses use that the provider bills and the price does not say how.
fn check_prices(
    request: &ChatRequest,
    config: &ModelConfig,
    pricing: &Pricing,
) -> Result<(), Unbounded> {
    let media = &request.input.media;
    let out = request.output_media;
    let files = media.files > 0;
    let audio_in = media.audios > 0;
    let video_in = media.videos > 0;
    let tier_is_unpriced = match request.tier {
        AskedTier::Any => false,
        AskedTier::Tier(tier) => !pricing.has_tier(tier),
        AskedTier::Unknown => true,
    };
    let search_is_unpriced = search_size(request, config).is_some_and(|size| {
        !has_search_price(pricing, size) || pricing.leaves_unpriced(Unpriced::WebSearch)
    });
    let unpriced = |kind| pricing.leaves_unpriced(kind);
    let refusals = [
        (unpriced(Unpriced::EveryCall), UNPRICED_CALLS),
        (tier_is_unpriced, UNPRICED_TIER),
        (search_is_unpriced, UNPRICED_SEARCH),
        (
            audio_in && pricing.input_audio_per_million_nanos.is_none()
                || (audio_in || files) && unpriced(Unpriced::InputAudio),
            UNPRICED_AUDIO,
        ),
        (
            video_in && pricing.input_video_per_million_nanos.is_none()
                || (video_in || files) && unpriced(Unpriced::InputVideo),
            UNPRICED_VIDEO,
        ),
        (
            (media.images > 0 || files) && unpriced(Unpriced::InputImage),
            UNPRICED_IMAGE,
        ),
        (
            out.audio
                && (pricing.output_audio_per_million_nanos.is_none()
                    || unpriced(Unpriced::OutputAudio)),
            UNPRICED_AUDIO_OUT,
        ),
        (
            out.image
                && (pricing.output_image_per_million_nanos.is_none()
                    || unpriced(Unpriced::OutputImage)),
            UNPRICED_IMAGE_OUT,
        ),
        (
            request.long_cache && unpriced(Unpriced::CacheWrite1h),
            UNPRICED_CACHE,
        ),
    ];
    match refusals.into_iter().find(|(refused, _)| *refused) {
        Some((_, why)) => Err(Unbounded::because(why)),
        None => Ok(()),
    }
}

fn has_search_price(pricing: &Pricing, size: SearchSize) -> bool {
    pricing.units_per_million_nanos.contains_key(size.unit())
}

/// Images that went in, where they have a price by the piece.
pub(crate) const INPUT_IMAGES: &str = "input_images";

const NO_PRICE: &str = "the model has no price: set `pricing` on the model";
const NO_OUTPUT_LIMIT: &str =
    "the output has no limit: send `max_tokens`, or set `max_output_tokens` on the model";
const NO_SEARCH_LIMIT: &str =
    "web searches have no limit: set `max_web_searches` in the model's `config`";
const TOO_MUCH: &str = "the most it can cost does not fit into 64 bits of nano-dollars";
const UNPRICED_CALLS: &str =
    "the model's price does not say all that the provider bills: set `pricing` on the model";
const UNPRICED_TIER: &str = "the model has no price for this `service_tier`: send `default`, or set `service_tiers` in its `pricing`";
const UNPRICED_SEARCH: &str = "`web_search_options` lets the provider search, and the model has no price for it: set `web_search_low`, `_medium` and `_high` in the `units_per_million_nanos` of its `pricing`";
const UNPRICED_AUDIO: &str =
    "audio has no price: set `input_audio_per_million_nanos` in the model's `pricing`";
const UNPRICED_VIDEO: &str =
    "video has no price: set `input_video_per_million_nanos` in the model's `pricing`";
const UNPRICED_IMAGE: &str =
    "images have no price: set `input_image_per_million_nanos` in the model's `pricing`";
const UNPRICED_AUDIO_OUT: &str =
    "audio in answers has no price: set `output_audio_per_million_nanos` in the model's `pricing`";
const UNPRICED_IMAGE_OUT: &str = "images in answers have no price: set `output_image_per_million_nanos` in the model's `pricing`";
const UNPRICED_CACHE: &str =
    "a longer cache has no price: set `cache_write_1h_per_million_nanos` in the model's `pricing`";

#[cfg(test)]
mod tests;
