//! Properties of the cost rules: never under-reserved, rounded once, parts that add up, monotone, no wrapping.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn prices()(
        per_request_nanos in 0..=PRICE_MAX,
        input_per_million_nanos in price(),
        output_per_million_nanos in price(),
        cached_input_per_million_nanos in proptest::option::of(price()),
        cache_write_per_million_nanos in proptest::option::of(price()),
        reasoning_per_million_nanos in proptest::option::of(price()),
    ) -> Pricing {
        Pricing {
            per_request_nanos,
            input_per_million_nanos,
            output_per_million_nanos,
            cached_input_per_million_nanos,
            cache_write_per_million_nanos,
            reasoning_per_million_nanos,
        }
    }
}

/// Tiny ones make rounding matter, huge ones try the bounds.
fn price() -> impl Strategy<Value = i64> {
    prop_oneof![0..3_000_000_i64, 0..=100_000_000_000_i64, 0..=PRICE_MAX]
}

prop_compose! {
    fn usages()(
        input in tokens(), cached_input in tokens(), cache_write in tokens(),
        output in tokens(), reasoning in tokens(),
    ) -> TokenUsage {
        TokenUsage { input, cached_input, cache_write, output, reasoning }
    }
}

fn tokens() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, 0..2_000_000_u64]
}

/// The exact cost of the tokens in millionths of a nano, written out independently.
fn exact(pricing: &Pricing, usage: &TokenUsage) -> i128 {
    let input = pricing.input_per_million_nanos;
    let output = pricing.output_per_million_nanos;
    [
        (usage.input, input),
        (
            usage.cached_input,
            pricing.cached_input_per_million_nanos.unwrap_or(input),
        ),
        (
            usage.cache_write,
            pricing.cache_write_per_million_nanos.unwrap_or(input),
        ),
        (usage.output, output),
        (
            usage.reasoning,
            pricing.reasoning_per_million_nanos.unwrap_or(output),
        ),
    ]
    .iter()
    .map(|(tokens, price)| i128::from(*tokens) * i128::from(*price))
    .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_reservation_covers_every_split(pricing in prices(), usage in usages()) {
        let bound = upper_bound(&pricing, usage.input_side(), usage.output_side()).unwrap();
        prop_assert!(cost(&pricing, &usage).unwrap().total <= bound);
    }

    #[test]
    fn the_bound_is_reached_by_the_dearest_split(pricing in prices(), input in tokens(), output in tokens()) {
        let splits = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)].map(|(side, end)| TokenUsage {
            input: if side == 0 { input } else { 0 },
            cached_input: if side == 1 { input } else { 0 },
            cache_write: if side == 2 { input } else { 0 },
            output: if end == 0 { output } else { 0 },
            reasoning: if end == 1 { output } else { 0 },
        });
        let dearest = splits.iter().map(|usage| cost(&pricing, usage).unwrap().total).max();
        prop_assert_eq!(upper_bound(&pricing, input, output), dearest);
    }

    #[test]
    fn it_is_rounded_up_once(pricing in prices(), usage in usages()) {
        let total = i128::from(cost(&pricing, &usage).unwrap().total.0 - pricing.per_request_nanos);
        let exact = exact(&pricing, &usage);
        prop_assert!(total * 1_000_000 >= exact);
        prop_assert!(total * 1_000_000 - exact < 1_000_000);
    }

    #[test]
    fn the_parts_add_up_and_are_within_a_nano(pricing in prices(), usage in usages()) {
        let Cost { total, breakdown: b } = cost(&pricing, &usage).unwrap();
        let parts = [b.request, b.input, b.cached_input, b.cache_write, b.output, b.reasoning];
        prop_assert_eq!(parts.iter().map(|part| part.0).sum::<i64>(), total.0);
        let alone = |usage| exact(&pricing, &usage);
        let none = TokenUsage::default();
        for (part, exact) in [
            (b.input, alone(TokenUsage { input: usage.input, ..none })),
            (b.cached_input, alone(TokenUsage { cached_input: usage.cached_input, ..none })),
            (b.cache_write, alone(TokenUsage { cache_write: usage.cache_write, ..none })),
            (b.output, alone(TokenUsage { output: usage.output, ..none })),
            (b.reasoning, alone(TokenUsage { reasoning: usage.reasoning, ..none })),
        ] {
            prop_assert!((i128::from(part.0) * 1_000_000 - exact).abs() < 1_000_000);
            prop_assert!(part.0 >= 0);
        }
    }

    #[test]
    fn more_tokens_never_cost_less(pricing in prices(), usage in usages(), more in usages()) {
        let sum = TokenUsage {
            input: usage.input + more.input,
            cached_input: usage.cached_input + more.cached_input,
            cache_write: usage.cache_write + more.cache_write,
            output: usage.output + more.output,
            reasoning: usage.reasoning + more.reasoning,
        };
        prop_assert!(cost(&pricing, &usage).unwrap().total <= cost(&pricing, &sum).unwrap().total);
        let bound = |usage: TokenUsage| upper_bound(&pricing, usage.input_side(), usage.output_side());
        prop_assert!(bound(usage).unwrap() <= bound(sum).unwrap());
    }

    #[test]
    fn any_numbers_give_a_cost_or_an_error(
        pricing in any::<(i64, i64, i64, Option<i64>, Option<i64>, Option<i64>)>(),
        usage in any::<(u64, u64, u64, u64, u64)>(),
    ) {
        let pricing = Pricing {
            per_request_nanos: pricing.0,
            input_per_million_nanos: pricing.1,
            output_per_million_nanos: pricing.2,
            cached_input_per_million_nanos: pricing.3,
            cache_write_per_million_nanos: pricing.4,
            reasoning_per_million_nanos: pricing.5,
        };
        let (input, cached_input, cache_write, output, reasoning) = usage;
        let usage = TokenUsage { input, cached_input, cache_write, output, reasoning };
        if let Ok(cost) = cost(&pricing, &usage) {
            prop_assert!(cost.total.0 >= pricing.per_request_nanos);
        }
    }
}
