//! Costs worked out by hand with exact fractions, in integers: for each list of prices what so many tokens and pieces cost.

use super::*;

/// Lists of prices by name, as the admin API takes them.
const PRICES: &[(&str, &str)] = &[
    (
        "text",
        r#"{"input_per_million_nanos":2500000000,"output_per_million_nanos":10000000000,"cached_input_per_million_nanos":1250000000}"#,
    ),
    (
        "audio",
        r#"{"input_per_million_nanos":2500000000,"output_per_million_nanos":10000000000,"input_audio_per_million_nanos":40000000000,"output_audio_per_million_nanos":80000000000,"cached_input_per_million_nanos":1250000000,"cached_input_audio_per_million_nanos":2500000000}"#,
    ),
    (
        "cache",
        r#"{"input_per_million_nanos":3000000000,"output_per_million_nanos":15000000000,"cached_input_per_million_nanos":300000000,"cache_write_per_million_nanos":3750000000,"cache_write_1h_per_million_nanos":6000000000}"#,
    ),
    (
        "long",
        r#"{"input_per_million_nanos":1250000000,"output_per_million_nanos":10000000000,"cached_input_per_million_nanos":125000000,"long_context":[{"above_input_tokens":200000,"rates":{"input_per_million_nanos":2500000000,"output_per_million_nanos":15000000000,"cached_input_per_million_nanos":250000000}}]}"#,
    ),
    (
        "steps",
        r#"{"input_per_million_nanos":100000000,"output_per_million_nanos":400000000,"long_context":[{"above_input_tokens":32000,"rates":{"input_per_million_nanos":200000000}},{"above_input_tokens":128000,"rates":{"input_per_million_nanos":300000000,"output_per_million_nanos":800000000}},{"above_input_tokens":256000,"rates":{"input_per_million_nanos":500000000}}]}"#,
    ),
    (
        "tiers",
        r#"{"input_per_million_nanos":2000000000,"output_per_million_nanos":8000000000,"cached_input_per_million_nanos":500000000,"service_tiers":{"batch":{"rates":{"input_per_million_nanos":1000000000,"output_per_million_nanos":4000000000}},"flex":{"rates":{"input_per_million_nanos":1000000000,"output_per_million_nanos":4000000000,"cached_input_per_million_nanos":250000000}},"priority":{"rates":{"input_per_million_nanos":3500000000,"output_per_million_nanos":14000000000,"cached_input_per_million_nanos":875000000}}}}"#,
    ),
    (
        "both",
        r#"{"input_per_million_nanos":2500000000,"output_per_million_nanos":15000000000,"long_context":[{"above_input_tokens":272000,"rates":{"input_per_million_nanos":5000000000,"output_per_million_nanos":22500000000}}],"service_tiers":{"flex":{"rates":{"input_per_million_nanos":1250000000,"output_per_million_nanos":7500000000},"long_context":[{"above_input_tokens":272000,"rates":{"input_per_million_nanos":2500000000,"output_per_million_nanos":11250000000}}]},"priority":{"rates":{"input_per_million_nanos":5000000000,"output_per_million_nanos":30000000000}}}}"#,
    ),
    (
        "image",
        r#"{"input_per_million_nanos":5000000000,"output_per_million_nanos":10000000000,"input_image_per_million_nanos":8000000000,"cached_input_per_million_nanos":1250000000,"cached_input_image_per_million_nanos":2000000000,"output_image_per_million_nanos":30000000000,"input_video_per_million_nanos":3000000000,"output_video_per_million_nanos":60000000000}"#,
    ),
    (
        "units",
        r#"{"per_request_nanos":5000000,"units_per_million_nanos":{"pages":1000000000000,"seconds":100000000000,"characters":15000000000,"images":40000000000000,"web_search_low":10000000000000,"web_search_high":14000000000000,"input_images":60000000000},"service_tiers":{"batch":{"per_request_nanos":0,"units_per_million_nanos":{"pages":500000000000}}}}"#,
    ),
    (
        "think",
        r#"{"per_request_nanos":7,"input_per_million_nanos":1,"output_per_million_nanos":1,"reasoning_per_million_nanos":3,"tool_input_per_million_nanos":2,"tool_output_per_million_nanos":5,"embeddings_per_million_nanos":20000000}"#,
    ),
    (
        "tiny",
        r#"{"input_per_million_nanos":400000,"output_per_million_nanos":400000}"#,
    ),
];

/// Prices, what was used (each token under the one name it is billed by), the tier, the cost in nanos.
const ROWS: &[(&str, &str, &str, i64)] = &[
    ("text", "", "standard", 0),
    ("text", "in=1", "standard", 2_500),
    ("text", "in=15 out=644", "standard", 6_477_500),
    ("text", "in=1000", "standard", 2_500_000),
    ("text", "out=1000", "standard", 10_000_000),
    ("text", "in=1000000 out=1000000", "standard", 12_500_000_000),
    ("text", "cached=1000", "standard", 1_250_000),
    ("text", "in=100 cached=900 out=50", "standard", 1_875_000),
    ("text", "in=3 cached=1 out=1", "standard", 18_750),
    ("text", "write=10 in=10", "standard", 50_000),
    ("text", "reason=300 out=20 in=5", "standard", 3_212_500),
    (
        "text",
        "in=123456 cached=654321 out=7890",
        "standard",
        1_205_441_250,
    ),
    ("audio", "audio=100", "standard", 4_000_000),
    ("audio", "cached_audio=100", "standard", 250_000),
    (
        "audio",
        "in=50 audio=200 out=10 out_audio=400",
        "standard",
        40_225_000,
    ),
    ("audio", "out_audio=1", "standard", 80_000),
    (
        "audio",
        "in=1 audio=1 cached=1 cached_audio=1 out=1 out_audio=1",
        "standard",
        136_250,
    ),
    ("audio", "reason=10 out_audio=10", "standard", 900_000),
    ("audio", "image=1000", "standard", 2_500_000),
    ("audio", "video=10 cached=10", "standard", 37_500),
    (
        "audio",
        "audio=7 cached_audio=13 out=1",
        "standard",
        322_500,
    ),
    ("cache", "write=1000", "standard", 3_750_000),
    ("cache", "write1h=1000", "standard", 6_000_000),
    (
        "cache",
        "in=10 cached=2000 write=300 write1h=40 out=500",
        "standard",
        9_495_000,
    ),
    ("cache", "cached=1", "standard", 300),
    ("cache", "write1h=1", "standard", 6_000),
    (
        "cache",
        "write=1 write1h=1 cached=1 in=1",
        "standard",
        13_050,
    ),
    (
        "cache",
        "in=2095 write=188086 cached=0 out=393",
        "standard",
        717_502_500,
    ),
    ("cache", "reason=100", "standard", 1_500_000),
    (
        "cache",
        "in=21 write=4096 out=1 reason=1",
        "standard",
        15_453_000,
    ),
    ("long", "in=200000 out=1000", "standard", 260_000_000),
    ("long", "in=200001 out=1000", "standard", 515_002_500),
    (
        "long",
        "in=100000 cached=100000 out=10",
        "standard",
        137_600_000,
    ),
    (
        "long",
        "in=100000 cached=100001 out=10",
        "standard",
        275_150_250,
    ),
    ("long", "cached=200001", "standard", 50_000_250),
    ("long", "write=200001", "standard", 500_002_500),
    ("long", "in=1000000 out=65535", "standard", 3_483_025_000),
    ("long", "in=199999 out=1", "standard", 250_008_750),
    ("long", "in=200001", "standard", 500_002_500),
    ("long", "image=200001 out=1", "standard", 500_017_500),
    ("long", "video=250000", "standard", 625_000_000),
    ("steps", "in=32000 out=100", "standard", 3_240_000),
    ("steps", "in=32001 out=100", "standard", 6_440_200),
    ("steps", "in=128000 out=100", "standard", 25_640_000),
    ("steps", "in=128001 out=100", "standard", 38_480_300),
    ("steps", "in=256000 out=100", "standard", 76_880_000),
    ("steps", "in=256001 out=100", "standard", 128_040_500),
    ("steps", "in=1 out=1", "standard", 500),
    ("steps", "in=1000000 out=1000000", "standard", 900_000_000),
    ("steps", "cached=32001", "standard", 6_400_200),
    ("steps", "in=10 audio=128000 out=3", "standard", 38_405_400),
    ("tiers", "in=1000 out=1000", "standard", 10_000_000),
    (
        "tiers",
        "in=1000 cached=1000 out=10 reason=5",
        "standard",
        2_620_000,
    ),
    ("tiers", "in=1", "standard", 2_000),
    ("tiers", "cached=7", "standard", 3_500),
    ("tiers", "in=1000 out=1000", "batch", 5_000_000),
    (
        "tiers",
        "in=1000 cached=1000 out=10 reason=5",
        "batch",
        1_560_000,
    ),
    ("tiers", "in=1", "batch", 1_000),
    ("tiers", "cached=7", "batch", 3_500),
    ("tiers", "in=1000 out=1000", "flex", 5_000_000),
    (
        "tiers",
        "in=1000 cached=1000 out=10 reason=5",
        "flex",
        1_310_000,
    ),
    ("tiers", "in=1", "flex", 1_000),
    ("tiers", "cached=7", "flex", 1_750),
    ("tiers", "in=1000 out=1000", "priority", 17_500_000),
    (
        "tiers",
        "in=1000 cached=1000 out=10 reason=5",
        "priority",
        4_585_000,
    ),
    ("tiers", "in=1", "priority", 3_500),
    ("tiers", "cached=7", "priority", 6_125),
    ("both", "in=272000 out=100", "standard", 681_500_000),
    ("both", "in=272001 out=100", "standard", 1_362_255_000),
    ("both", "in=272000 out=100", "batch", 681_500_000),
    ("both", "in=272001 out=100", "batch", 1_362_255_000),
    ("both", "in=272000 out=100", "flex", 340_750_000),
    ("both", "in=272001 out=100", "flex", 681_127_500),
    ("both", "in=272000 out=100", "priority", 1_363_000_000),
    ("both", "in=272001 out=100", "priority", 1_362_255_000),
    ("image", "image=1000", "standard", 8_000_000),
    ("image", "cached_image=1000", "standard", 2_000_000),
    (
        "image",
        "in=50 image=300 out_image=1056",
        "standard",
        34_330_000,
    ),
    ("image", "out_image=4160", "standard", 124_800_000),
    ("image", "video=258", "standard", 774_000),
    ("image", "out_video=100", "standard", 6_000_000),
    (
        "image",
        "in=9 image=9 cached=9 cached_image=9 video=9 out=9 out_image=9 out_video=9",
        "standard",
        1_073_250,
    ),
    ("image", "out=10 out_image=10", "standard", 400_000),
    ("units", "pages=1", "standard", 6_000_000),
    ("units", "pages=17", "standard", 22_000_000),
    ("units", "pages=1000", "standard", 1_005_000_000),
    ("units", "seconds=61", "standard", 11_100_000),
    ("units", "pages=1", "batch", 500_000),
    ("units", "pages=17", "batch", 8_500_000),
    ("units", "pages=1000", "batch", 500_000_000),
    ("units", "seconds=61", "batch", 6_100_000),
    ("units", "characters=12", "standard", 5_180_000),
    ("units", "images=2", "standard", 85_000_000),
    ("units", "web_search_low=3", "standard", 35_000_000),
    (
        "units",
        "web_search_high=1 web_search_low=1",
        "standard",
        29_000_000,
    ),
    ("units", "web_search_medium=5", "standard", 5_000_000),
    ("units", "input_images=4 seconds=1", "standard", 5_340_000),
    ("units", "in=1000 pages=1", "standard", 6_000_000),
    (
        "units",
        "pages=1 seconds=1 characters=1 images=1",
        "standard",
        46_115_000,
    ),
    ("think", "in=1", "standard", 8),
    ("think", "in=999999", "standard", 8),
    ("think", "in=1000000", "standard", 8),
    ("think", "in=1000001", "standard", 9),
    ("think", "reason=1000000", "standard", 10),
    ("think", "tool_in=500000", "standard", 8),
    ("think", "tool_out=200000", "standard", 8),
    (
        "think",
        "tool_in=1 tool_out=1 in=1 out=1 reason=1",
        "standard",
        8,
    ),
    ("think", "embed=1000", "standard", 20_007),
    ("think", "embed=1", "standard", 27),
    ("think", "embed=8191 in=0", "standard", 163_827),
    ("tiny", "in=1", "standard", 1),
    ("tiny", "in=1 out=1", "standard", 1),
    ("tiny", "in=2 out=1", "standard", 2),
    ("tiny", "in=3 out=2", "standard", 2),
    (
        "tiny",
        "in=1 cached=1 write=1 out=1 reason=1",
        "standard",
        2,
    ),
];

#[test]
fn line_129_every_class_tier_and_piece_is_priced_exactly_in_integers() {
    assert!(ROWS.len() >= 100, "{}", ROWS.len());
    for row in ROWS {
        let (name, used, tier, wanted) = row;
        let text = PRICES.iter().find(|(known, _)| known == name).unwrap().1;
        let pricing: Pricing = serde_json::from_str(text).unwrap();
        pricing.validate().unwrap();
        let used = Used::parse(used, tier);
        let cost = cost(&pricing, used.billed()).unwrap();
        assert_eq!(cost.total, NanoUsd(*wanted), "{row:?}");
        let parts: i64 = cost.breakdown.parts().iter().map(|part| part.0).sum();
        assert_eq!(parts, *wanted, "{row:?}");
        let tiers = [used.tier];
        let bound = UsageBound {
            input: used.tokens.input_side(),
            output: used.tokens.output_side(),
            details: used.details,
            pieces: used.pieces.clone(),
            tiers: &tiers,
        };
        assert!(
            cost.total <= upper_bound(&pricing, &bound).unwrap(),
            "{row:?}"
        );
    }
}

struct Used {
    tokens: TokenUsage,
    details: TokenDetails,
    pieces: Pieces,
    tier: ServiceTier,
}

impl Used {
    fn parse(text: &str, tier: &str) -> Self {
        let mut used = Self {
            tokens: TokenUsage::default(),
            details: TokenDetails::default(),
            pieces: Pieces::new(),
            tier: *ServiceTier::ALL
                .iter()
                .find(|known| known.name() == tier)
                .unwrap(),
        };
        for pair in text.split_whitespace() {
            let (name, count) = pair.split_once('=').unwrap();
            used.add(name, count.parse().unwrap());
        }
        used
    }

    /// Media is a part of what it came with.
    fn add(&mut self, name: &str, count: u64) {
        let Self {
            tokens, details, ..
        } = self;
        let (side, part): (&mut u64, Option<&mut u64>) = match name {
            "in" => (&mut tokens.input, None),
            "cached" => (&mut tokens.cached_input, None),
            "write" => (&mut tokens.cache_write, None),
            "write1h" => (&mut tokens.cache_write, Some(&mut details.cache_write_1h)),
            "audio" => (&mut tokens.input, Some(&mut details.input_audio)),
            "image" => (&mut tokens.input, Some(&mut details.input_image)),
            "video" => (&mut tokens.input, Some(&mut details.input_video)),
            "tool_in" => (&mut tokens.input, Some(&mut details.tool_input)),
            "embed" => (&mut tokens.input, Some(&mut details.embeddings)),
            "cached_audio" => {
                details.input_audio += count;
                (
                    &mut tokens.cached_input,
                    Some(&mut details.cached_input_audio),
                )
            }
            "cached_image" => {
                details.input_image += count;
                (
                    &mut tokens.cached_input,
                    Some(&mut details.cached_input_image),
                )
            }
            "out" => (&mut tokens.output, None),
            "reason" => (&mut tokens.reasoning, None),
            "out_audio" => (&mut tokens.output, Some(&mut details.output_audio)),
            "out_image" => (&mut tokens.output, Some(&mut details.output_image)),
            "out_video" => (&mut tokens.output, Some(&mut details.output_video)),
            "tool_out" => (&mut tokens.output, Some(&mut details.tool_output)),
            kind => (self.pieces.entry(kind.to_owned()).or_default(), None),
        };
        *side += count;
        if let Some(part) = part {
            *part += count;
        }
    }

    fn billed(&self) -> Billed<'_> {
        Billed {
            tokens: &self.tokens,
            details: &self.details,
            units: None,
            pieces: &self.pieces,
            service_tier: self.tier,
        }
    }
}

#[test]
fn units_of_a_record_cost_as_its_other_pieces_do() {
    let (_, text) = PRICES.iter().find(|(name, _)| *name == "units").unwrap();
    let pricing: Pricing = serde_json::from_str(text).unwrap();
    let units = Units {
        count: 17,
        kind: "pages".to_owned(),
    };
    let tokens = TokenUsage::default();
    let billed = Billed {
        units: Some(&units),
        ..Billed::text(&tokens)
    };
    // 17 pages at 0.001 USD, and the fee of 0.005.
    assert_eq!(cost(&pricing, billed).unwrap().total, NanoUsd(22_000_000));
    assert_eq!(
        cost(&pricing, billed).unwrap().breakdown.units,
        NanoUsd(17_000_000)
    );
}
