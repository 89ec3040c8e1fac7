//! Single facts about prices and costs; `table` has the sums, `properties` what holds for all of them.

use super::*;

const DEMO_FAST: Pricing = Pricing::of_tokens(1_000_000_000, 2_000_000_000);

fn text_cost(pricing: &Pricing, usage: TokenUsage) -> Result<Cost, CostError> {
    cost(pricing, Billed::text(&usage))
}

#[test]
fn the_contracts_example_costs_45000_nanos() {
    let usage = TokenUsage {
        input: 5,
        output: 20,
        ..TokenUsage::default()
    };
    let cost = text_cost(&DEMO_FAST, usage).unwrap();
    assert_eq!(cost.total, NanoUsd(45_000));
    let expected = CostBreakdown {
        input: NanoUsd(5_000),
        output: NanoUsd(40_000),
        ..CostBreakdown::default()
    };
    assert_eq!(cost.breakdown, expected);
}

#[test]
fn rounding_happens_once_and_lands_on_the_first_class_that_needs_it() {
    let usage = TokenUsage {
        input: 1,
        output: 1,
        ..TokenUsage::default()
    };
    let cost = text_cost(&Pricing::of_tokens(400_000, 400_000), usage).unwrap();
    assert_eq!(cost.total, NanoUsd(1));
    assert_eq!(cost.breakdown.input, NanoUsd(1));
    assert_eq!(cost.breakdown.output, NanoUsd(0));
}

#[test]
fn too_much_is_an_error_and_never_wraps() {
    let pricing = Pricing::of_tokens(PRICE_MAX, 0);
    let usage = TokenUsage {
        input: u64::MAX,
        ..TokenUsage::default()
    };
    assert_eq!(text_cost(&pricing, usage), Err(CostError::Overflow));
    assert_eq!(upper_bound(&pricing, &UsageBound::text(u64::MAX, 0)), None);
}

#[test]
fn prices_out_of_bounds_are_refused_by_name() {
    let json = |text: &str| serde_json::from_str::<Pricing>(text).unwrap();
    for (text, field) in [
        (r#"{"per_request_nanos":-1}"#, "per_request_nanos"),
        (
            r#"{"reasoning_per_million_nanos":1000000000000001}"#,
            "reasoning_per_million_nanos",
        ),
        (
            r#"{"units_per_million_nanos":{"pages":-1}}"#,
            "units_per_million_nanos/pages",
        ),
        (
            r#"{"units_per_million_nanos":{"Pages":1}}"#,
            "units_per_million_nanos/Pages",
        ),
        (
            r#"{"long_context":[{"above_input_tokens":0,"rates":{}}]}"#,
            "long_context/0/above_input_tokens",
        ),
        (
            r#"{"long_context":[{"above_input_tokens":9,"rates":{}},{"above_input_tokens":9,"rates":{}}]}"#,
            "long_context/1/above_input_tokens",
        ),
        (
            r#"{"long_context":[{"above_input_tokens":9,"rates":{"input_audio_per_million_nanos":-5}}]}"#,
            "long_context/0/rates/input_audio_per_million_nanos",
        ),
        (
            r#"{"service_tiers":{"flex":{"rates":{"output_per_million_nanos":-5}}}}"#,
            "service_tiers/flex/rates/output_per_million_nanos",
        ),
        (
            r#"{"service_tiers":{"batch":{"long_context":[{"above_input_tokens":0,"rates":{}}]}}}"#,
            "service_tiers/batch/long_context/0/above_input_tokens",
        ),
        (r#"{"unpriced":["web_search","web_search"]}"#, "unpriced"),
    ] {
        assert_eq!(json(text).validate().unwrap_err().field, field, "{text}");
    }
    let usage = TokenUsage {
        input: 1,
        ..TokenUsage::default()
    };
    let negative = Pricing::of_tokens(-1, 0);
    assert!(text_cost(&negative, usage).is_err());
    assert_eq!(upper_bound(&negative, &UsageBound::text(1, 1)), None);
    let fee = Pricing {
        per_request_nanos: -1,
        ..Pricing::default()
    };
    assert!(text_cost(&fee, usage).is_err());
    assert_eq!(upper_bound(&fee, &UsageBound::text(1, 1)), None);
}

#[test]
fn json_has_defaults_and_refuses_floats_and_unknown_fields() {
    let parse = |text: &str| serde_json::from_str::<Pricing>(text);
    assert_eq!(parse("{}").unwrap(), Pricing::default());
    let text = r#"{"per_request_nanos":0,"input_per_million_nanos":1,"output_per_million_nanos":2,"cached_input_per_million_nanos":0}"#;
    let pricing = parse(text).unwrap();
    assert_eq!(pricing.cached_input_per_million_nanos, Some(0));
    assert_eq!(serde_json::to_string(&pricing).unwrap(), text);
    for wrong in [
        r#"{"input_per_million_nanos":1.5}"#,
        r#"{"image_per_million_nanos":1}"#,
        r#"{"service_tiers":{"scale":{}}}"#,
        r#"{"service_tiers":{"flex":{"input_per_million_nanos":1}}}"#,
        r#"{"long_context":[{"above_input_tokens":9}]}"#,
        r#"{"long_context":[{"above_input_tokens":9,"rates":{"input":1}}]}"#,
        r#"{"unpriced":["moonlight"]}"#,
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_price_without_a_tier_bills_it_as_the_standard_one() {
    let usage = TokenUsage {
        input: 1_000,
        ..TokenUsage::default()
    };
    let billed = Billed {
        service_tier: ServiceTier::Priority,
        ..Billed::text(&usage)
    };
    assert!(!DEMO_FAST.has_tier(ServiceTier::Priority));
    assert_eq!(cost(&DEMO_FAST, billed).unwrap().total, NanoUsd(1_000_000));
}

#[test]
fn pieces_without_a_price_cost_nothing() {
    let usage = TokenUsage::default();
    let pieces = Pieces::from([("web_search_low".to_owned(), 3)]);
    let billed = Billed {
        pieces: &pieces,
        ..Billed::text(&usage)
    };
    assert_eq!(cost(&DEMO_FAST, billed).unwrap().total, NanoUsd(0));
}
