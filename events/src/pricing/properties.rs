//! Properties of the cost rules: never under-reserved, rounded once, parts that add up, monotone, no wrapping.

use proptest::{collection::btree_map, option, prelude::*, sample::select};

use super::{class::split, *};

/// Tiny ones make rounding matter, huge ones try the bounds.
fn price() -> impl Strategy<Value = i64> {
    prop_oneof![0..3_000_000_i64, 0..=100_000_000_000_i64, 0..=PRICE_MAX]
}

fn rates() -> impl Strategy<Value = Rates> {
    proptest::collection::vec(option::of(price()), Class::COUNT).prop_map(|prices| {
        let of = |class: Class| prices[class as usize];
        Rates {
            input_per_million_nanos: of(Class::Input),
            output_per_million_nanos: of(Class::Output),
            cached_input_per_million_nanos: of(Class::CachedInput),
            cache_write_per_million_nanos: of(Class::CacheWrite),
            cache_write_1h_per_million_nanos: of(Class::CacheWrite1h),
            reasoning_per_million_nanos: of(Class::Reasoning),
            input_audio_per_million_nanos: of(Class::InputAudio),
            cached_input_audio_per_million_nanos: of(Class::CachedInputAudio),
            input_image_per_million_nanos: of(Class::InputImage),
            cached_input_image_per_million_nanos: of(Class::CachedInputImage),
            input_video_per_million_nanos: of(Class::InputVideo),
            embeddings_per_million_nanos: of(Class::Embeddings),
            output_audio_per_million_nanos: of(Class::OutputAudio),
            output_image_per_million_nanos: of(Class::OutputImage),
            output_video_per_million_nanos: of(Class::OutputVideo),
            tool_input_per_million_nanos: of(Class::ToolInput),
            tool_output_per_million_nanos: of(Class::ToolOutput),
        }
    })
}

fn thresholds() -> impl Strategy<Value = Vec<LongContext>> {
    btree_map(1..200_u64, rates(), 0..4).prop_map(|lists| {
        let list = |(above_input_tokens, rates)| LongContext {
            above_input_tokens,
            rates,
        };
        lists.into_iter().map(list).collect()
    })
}

fn unit_prices() -> impl Strategy<Value = BTreeMap<String, i64>> {
    btree_map(kinds(), price(), 0..3)
}

fn kinds() -> impl Strategy<Value = String> {
    select(vec!["pages", "seconds", "web_search_low"]).prop_map(str::to_owned)
}

prop_compose! {
    fn tier_prices()(
        per_request_nanos in option::of(price()), rates in rates(),
        units_per_million_nanos in unit_prices(), long_context in thresholds(),
    ) -> Box<TierPrices> {
        Box::new(TierPrices { per_request_nanos, rates, units_per_million_nanos, long_context })
    }
}

prop_compose! {
    fn prices()(
        per_request_nanos in price(), rates in rates(), units_per_million_nanos in unit_prices(),
        long_context in thresholds(),
        tiers in (option::of(tier_prices()), option::of(tier_prices()), option::of(tier_prices())),
    ) -> Pricing {
        let (batch, flex, priority) = tiers;
        Pricing {
            per_request_nanos,
            cached_input_per_million_nanos: rates.cached_input_per_million_nanos,
            cache_write_per_million_nanos: rates.cache_write_per_million_nanos,
            cache_write_1h_per_million_nanos: rates.cache_write_1h_per_million_nanos,
            reasoning_per_million_nanos: rates.reasoning_per_million_nanos,
            input_audio_per_million_nanos: rates.input_audio_per_million_nanos,
            cached_input_audio_per_million_nanos: rates.cached_input_audio_per_million_nanos,
            input_image_per_million_nanos: rates.input_image_per_million_nanos,
            cached_input_image_per_million_nanos: rates.cached_input_image_per_million_nanos,
            input_video_per_million_nanos: rates.input_video_per_million_nanos,
            embeddings_per_million_nanos: rates.embeddings_per_million_nanos,
            output_audio_per_million_nanos: rates.output_audio_per_million_nanos,
            output_image_per_million_nanos: rates.output_image_per_million_nanos,
            output_video_per_million_nanos: rates.output_video_per_million_nanos,
            tool_input_per_million_nanos: rates.tool_input_per_million_nanos,
            tool_output_per_million_nanos: rates.tool_output_per_million_nanos,
            units_per_million_nanos,
            long_context,
            service_tiers: ServiceTiers { batch, flex, priority },
            ..Pricing::of_tokens(
                rates.input_per_million_nanos.unwrap_or_default(),
                rates.output_per_million_nanos.unwrap_or_default(),
            )
        }
    }
}

/// Around the thresholds, and far beyond.
fn tokens() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, 0..100_u64, 0..2_000_000_u64]
}

prop_compose! {
    fn usages()(
        input in tokens(), cached_input in tokens(), cache_write in tokens(),
        output in tokens(), reasoning in tokens(),
    ) -> TokenUsage {
        TokenUsage { input, cached_input, cache_write, output, reasoning }
    }
}

/// Also such that claim more than there is.
fn details() -> impl Strategy<Value = TokenDetails> {
    proptest::collection::vec(prop_oneof![3 => Just(0), 1 => tokens()], 12).prop_map(|n| {
        TokenDetails {
            input_audio: n[0],
            cached_input_audio: n[1],
            input_image: n[2],
            cached_input_image: n[3],
            input_video: n[4],
            output_audio: n[5],
            output_image: n[6],
            output_video: n[7],
            cache_write_1h: n[8],
            embeddings: n[9],
            tool_input: n[10],
            tool_output: n[11],
            ..TokenDetails::default()
        }
    })
}

prop_compose! {
    fn consumed()(
        tokens in usages(), details in details(), pieces in btree_map(kinds(), tokens(), 0..3),
        service_tier in select(ServiceTier::ALL.to_vec()),
    ) -> Consumed {
        Consumed { tokens, details, pieces, service_tier }
    }
}

#[derive(Clone, Debug)]
struct Consumed {
    tokens: TokenUsage,
    details: TokenDetails,
    pieces: Pieces,
    service_tier: ServiceTier,
}

impl Consumed {
    fn billed(&self) -> Billed<'_> {
        Billed {
            tokens: &self.tokens,
            details: &self.details,
            units: None,
            pieces: &self.pieces,
            service_tier: self.service_tier,
        }
    }

    /// The narrowest bound that it is within.
    fn bound<'a>(&self, tiers: &'a [ServiceTier]) -> UsageBound<'a> {
        UsageBound {
            input: self.tokens.input_side(),
            output: self.tokens.output_side(),
            details: self.details,
            pieces: self.pieces.clone(),
            tiers,
        }
    }
}

/// The exact cost in millionths of a nano without the fee, written out independently: a chain of look-ups a class.
fn exact(pricing: &Pricing, used: &Consumed) -> i128 {
    let own = pricing.service_tiers.get(used.service_tier);
    let lists = match own {
        Some(own) if !own.long_context.is_empty() => &own.long_context,
        _ => &pricing.long_context,
    };
    let context = used.tokens.input_side();
    let long = lists
        .iter()
        .rev()
        .find(|list| context > list.above_input_tokens);
    let find = |class: Class| {
        let long = long.and_then(|long| long.rates.price(class));
        let of_tier = || own.and_then(|own| own.rates.price(class));
        long.or_else(of_tier)
            .or_else(|| pricing.standard_rates().price(class))
    };
    let input = find(Class::Input).unwrap();
    let output = find(Class::Output).unwrap();
    let cached = find(Class::CachedInput).unwrap_or(input);
    let write = find(Class::CacheWrite).unwrap_or(input);
    let audio = find(Class::InputAudio);
    let image = find(Class::InputImage);
    let classes = split(&used.tokens, &used.details);
    let prices = [
        (Class::Input, input),
        (Class::CachedInput, cached),
        (Class::CacheWrite, write),
        (
            Class::CacheWrite1h,
            find(Class::CacheWrite1h).unwrap_or(write),
        ),
        (Class::InputAudio, audio.unwrap_or(input)),
        (
            Class::CachedInputAudio,
            find(Class::CachedInputAudio).or(audio).unwrap_or(cached),
        ),
        (Class::InputImage, image.unwrap_or(input)),
        (
            Class::CachedInputImage,
            find(Class::CachedInputImage).or(image).unwrap_or(cached),
        ),
        (Class::InputVideo, find(Class::InputVideo).unwrap_or(input)),
        (Class::ToolInput, find(Class::ToolInput).unwrap_or(input)),
        (Class::Embeddings, find(Class::Embeddings).unwrap_or(input)),
        (Class::Output, output),
        (Class::Reasoning, find(Class::Reasoning).unwrap_or(output)),
        (
            Class::OutputAudio,
            find(Class::OutputAudio).unwrap_or(output),
        ),
        (
            Class::OutputImage,
            find(Class::OutputImage).unwrap_or(output),
        ),
        (
            Class::OutputVideo,
            find(Class::OutputVideo).unwrap_or(output),
        ),
        (Class::ToolOutput, find(Class::ToolOutput).unwrap_or(output)),
    ];
    assert_eq!(prices.len(), Class::COUNT);
    let tokens = prices.map(|(class, price)| i128::from(classes.of(class)) * i128::from(price));
    let pieces = used.pieces.iter().map(|(kind, count)| {
        let of_tier = own.and_then(|own| own.units_per_million_nanos.get(kind));
        let price = of_tier.or_else(|| pricing.units_per_million_nanos.get(kind));
        i128::from(*count) * i128::from(price.copied().unwrap_or_default())
    });
    tokens.into_iter().chain(pieces).sum()
}

fn fee(pricing: &Pricing, tier: ServiceTier) -> i64 {
    let own = pricing.service_tiers.get(tier);
    own.and_then(|own| own.per_request_nanos)
        .unwrap_or(pricing.per_request_nanos)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_reservation_covers_whatever_is_within_it(
        pricing in prices(), used in consumed(), room in (tokens(), tokens()),
    ) {
        let cost = cost(&pricing, used.billed()).unwrap().total;
        let narrow = used.bound(&ServiceTier::ALL);
        prop_assert!(cost <= upper_bound(&pricing, &narrow).unwrap());
        let own_tier = [used.service_tier];
        prop_assert!(cost <= upper_bound(&pricing, &used.bound(&own_tier)).unwrap());
        let wide = UsageBound { input: narrow.input + room.0, output: narrow.output + room.1, ..narrow };
        prop_assert!(cost <= upper_bound(&pricing, &wide).unwrap());
    }

    #[test]
    fn a_bound_of_text_is_reached_by_the_dearest_split(
        pricing in prices(), input in tokens(), output in tokens(),
        tier in select(ServiceTier::ALL.to_vec()),
    ) {
        let tiers = [tier];
        let bound = UsageBound { tiers: &tiers, ..UsageBound::text(input, output) };
        let inputs = [0, 1, 2].into_iter().flat_map(|side| {
            let ends = pricing.tier(tier).long_context().iter().map(|list| list.above_input_tokens);
            ends.chain([input]).map(move |length| (side, length.min(input)))
        });
        let dearest = inputs.flat_map(|(side, length)| [false, true].map(|reasoning| {
            let tokens = TokenUsage {
                input: if side == 0 { length } else { 0 },
                cached_input: if side == 1 { length } else { 0 },
                cache_write: if side == 2 { length } else { 0 },
                output: if reasoning { 0 } else { output },
                reasoning: if reasoning { output } else { 0 },
            };
            let billed = Billed { service_tier: tier, ..Billed::text(&tokens) };
            cost(&pricing, billed).unwrap().total
        })).max();
        prop_assert_eq!(upper_bound(&pricing, &bound), dearest);
    }

    #[test]
    fn it_is_rounded_up_once(pricing in prices(), used in consumed()) {
        let total = cost(&pricing, used.billed()).unwrap().total.0 - fee(&pricing, used.service_tier);
        let exact = exact(&pricing, &used);
        let total = i128::from(total);
        prop_assert!(total * 1_000_000 >= exact);
        prop_assert!(total * 1_000_000 - exact < 1_000_000);
    }

    #[test]
    fn the_parts_add_up_and_none_is_negative(pricing in prices(), used in consumed()) {
        let Cost { total, breakdown } = cost(&pricing, used.billed()).unwrap();
        let parts = breakdown.parts();
        prop_assert_eq!(parts.iter().map(|part| part.0).sum::<i64>(), total.0);
        prop_assert!(parts.iter().all(|part| part.0 >= 0));
    }

    #[test]
    fn every_token_falls_into_one_class(used in consumed()) {
        let classes = split(&used.tokens, &used.details);
        let sum: u64 = Class::ALL.iter().map(|class| classes.of(*class)).sum();
        prop_assert_eq!(sum, used.tokens.total());
        prop_assert_eq!(classes.of(Class::Reasoning), used.tokens.reasoning);
        let media = classes.of(Class::InputAudio) + classes.of(Class::CachedInputAudio);
        prop_assert!(media <= used.details.input_audio);
    }

    #[test]
    fn a_wider_bound_is_never_cheaper(pricing in prices(), used in consumed(), more in consumed()) {
        let narrow = used.bound(&ServiceTier::ALL);
        let wide = UsageBound {
            input: narrow.input + more.tokens.input,
            output: narrow.output + more.tokens.output,
            ..narrow.clone()
        };
        prop_assert!(upper_bound(&pricing, &narrow).unwrap() <= upper_bound(&pricing, &wide).unwrap());
    }

    #[test]
    fn any_numbers_give_a_cost_or_an_error(
        prices in any::<(i64, i64, i64, Option<i64>, Option<i64>, Option<i64>)>(),
        usage in any::<(u64, u64, u64, u64, u64)>(),
        details in any::<(u64, u64, u64, u64)>(),
    ) {
        let pricing = Pricing {
            per_request_nanos: prices.0,
            cached_input_per_million_nanos: prices.3,
            cache_write_per_million_nanos: prices.4,
            output_audio_per_million_nanos: prices.5,
            ..Pricing::of_tokens(prices.1, prices.2)
        };
        let (input, cached_input, cache_write, output, reasoning) = usage;
        let tokens = TokenUsage { input, cached_input, cache_write, output, reasoning };
        let details = TokenDetails {
            input_audio: details.0, cached_input_audio: details.1,
            output_audio: details.2, cache_write_1h: details.3,
            ..TokenDetails::default()
        };
        let billed = Billed { details: &details, ..Billed::text(&tokens) };
        if let Ok(cost) = cost(&pricing, billed) {
            prop_assert!(cost.total.0 >= pricing.per_request_nanos);
        }
    }

    #[test]
    fn a_price_comes_back_from_its_bytes_and_its_text(pricing in prices()) {
        pricing.validate().unwrap();
        let bytes = rmp_serde::to_vec_named(&pricing).unwrap();
        prop_assert_eq!(&rmp_serde::from_slice::<Pricing>(&bytes).unwrap(), &pricing);
        let text = serde_json::to_string(&pricing).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pricing>(&text).unwrap(), pricing);
    }
}
