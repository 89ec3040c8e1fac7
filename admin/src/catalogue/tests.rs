//! The catalogue as it is shipped: every line is read here.

use std::collections::BTreeSet;

use odock_events::{
    pricing::{Billed, LongContext, Rates, TokenUsage, Unpriced, UsageBound, cost, upper_bound},
    units::NanoUsd,
};

use super::*;

fn all() -> Vec<Entry> {
    search(&Search::default()).collect()
}

/// USD per 1,000,000 tokens, from cents.
fn usd(cents: i64) -> i64 {
    cents * 10_000_000
}

#[test]
fn line_156_two_thousand_models_have_valid_prices_of_every_kind() {
    let entries = all();
    assert_eq!(entries.len(), FILE.lines().count() - 1, "each line is read");
    assert_eq!(entries.len(), head().models);
    assert!(entries.len() >= 2_000, "{}", entries.len());
    let mut before = String::new();
    for entry in &entries {
        assert!(before < entry.id, "{} after {before}", entry.id);
        assert_eq!(entry.id, format!("{}/{}", entry.vendor, entry.slug));
        before.clone_from(&entry.id);
        if let Err(error) = entry.pricing.validate() {
            panic!("{}: {error}", entry.id);
        }
        assert_eq!(get(&entry.id).as_ref(), Some(entry));
    }
    let count =
        |has: &dyn Fn(&Pricing) -> bool| entries.iter().filter(|entry| has(&entry.pricing)).count();
    let unit = |kind: &'static str| {
        move |pricing: &Pricing| pricing.units_per_million_nanos.contains_key(kind)
    };
    for (what, least, found) in [
        (
            "cached reads",
            1_000,
            count(&|p| p.cached_input_per_million_nanos.is_some()),
        ),
        (
            "cache writes",
            300,
            count(&|p| p.cache_write_per_million_nanos.is_some()),
        ),
        (
            "1 h cache writes",
            150,
            count(&|p| p.cache_write_1h_per_million_nanos.is_some()),
        ),
        ("long inputs", 200, count(&|p| !p.long_context.is_empty())),
        (
            "several thresholds",
            5,
            count(&|p| p.long_context.len() > 1),
        ),
        ("batch", 300, count(&|p| p.service_tiers.batch.is_some())),
        ("flex", 150, count(&|p| p.service_tiers.flex.is_some())),
        (
            "priority",
            200,
            count(&|p| p.service_tiers.priority.is_some()),
        ),
        (
            "audio in",
            80,
            count(&|p| p.input_audio_per_million_nanos.is_some()),
        ),
        (
            "audio out",
            50,
            count(&|p| p.output_audio_per_million_nanos.is_some()),
        ),
        (
            "cached audio",
            20,
            count(&|p| p.cached_input_audio_per_million_nanos.is_some()),
        ),
        (
            "images in",
            60,
            count(&|p| p.input_image_per_million_nanos.is_some()),
        ),
        (
            "images out",
            30,
            count(&|p| p.output_image_per_million_nanos.is_some()),
        ),
        (
            "video",
            5,
            count(&|p| p.input_video_per_million_nanos.is_some()),
        ),
        (
            "reasoning",
            5,
            count(&|p| p.reasoning_per_million_nanos.is_some()),
        ),
        ("searches", 300, count(&unit("web_search_medium"))),
        ("fees", 2, count(&|p| p.per_request_nanos > 0)),
        ("pages", 10, count(&unit("pages"))),
        ("seconds", 80, count(&unit("seconds"))),
        ("characters", 30, count(&unit("characters"))),
        ("images", 150, count(&unit("images"))),
    ] {
        assert!(found >= least, "{what}: {found}");
    }
}

#[test]
fn every_provider_type_that_names_a_vendor_is_there() {
    for (provider, least) in [
        (ProviderType::OpenAi, 100),
        (ProviderType::Anthropic, 15),
        (ProviderType::Google, 50),
        (ProviderType::Mistral, 50),
        (ProviderType::AzureOpenAi, 100),
    ] {
        let wanted = Search {
            provider_type: Some(provider.name().to_owned()),
            vendor: Some(provider.name().to_owned()),
            ..Search::default()
        };
        let found: Vec<Entry> = search(&wanted).collect();
        assert!(found.len() >= least, "{provider:?} has {}", found.len());
        for entry in found {
            let by_slug = find(provider, &entry.slug).unwrap();
            assert_eq!(by_slug.id, entry.id);
        }
    }
}

#[test]
fn no_price_of_text_is_a_slip_of_the_point() {
    let talking = all()
        .into_iter()
        .filter(|entry| matches!(entry.kind, ModelType::Chat | ModelType::Reasoning));
    for entry in talking {
        let bound = upper_bound(&entry.pricing, &UsageBound::text(1_000, 1_000)).unwrap();
        let by_the_image = entry
            .pricing
            .units_per_million_nanos
            .contains_key("input_images");
        let refused = by_the_image || entry.pricing.leaves_unpriced(Unpriced::EveryCall);
        // Above 2 USD for a thousand tokens in and out, or nothing at all, is no price of text.
        assert!(
            refused || (1..=2_000_000_000).contains(&bound.0),
            "{}: {bound}",
            entry.id
        );
    }
}

#[test]
fn known_prices_are_right() {
    let gpt_4o = find(ProviderType::OpenAi, "gpt-4o").unwrap().pricing;
    assert_eq!(
        (
            gpt_4o.input_per_million_nanos,
            gpt_4o.output_per_million_nanos
        ),
        (usd(250), usd(1_000))
    );
    assert_eq!(gpt_4o.cached_input_per_million_nanos, Some(usd(125)));
    let haiku = find(ProviderType::Anthropic, "claude-haiku-4-5")
        .unwrap()
        .pricing;
    assert_eq!(
        (
            haiku.cached_input_per_million_nanos,
            haiku.cache_write_per_million_nanos,
            haiku.cache_write_1h_per_million_nanos
        ),
        (Some(usd(10)), Some(usd(125)), Some(usd(200)))
    );
    let gemini = find(ProviderType::Google, "gemini-2.5-pro")
        .unwrap()
        .pricing;
    let dearer = LongContext {
        above_input_tokens: 200_000,
        rates: Rates {
            input_per_million_nanos: Some(usd(250)),
            output_per_million_nanos: Some(usd(1_500)),
            cached_input_per_million_nanos: Some(usd(25)),
            ..Rates::default()
        },
    };
    assert_eq!(gemini.long_context, [dearer]);
    let ocr = find(ProviderType::Mistral, "mistral-ocr-latest")
        .unwrap()
        .pricing;
    assert_eq!(ocr.units_per_million_nanos["pages"], usd(400_000));
    let mini = find(ProviderType::OpenAi, "gpt-4o-mini").unwrap().pricing;
    let usage = TokenUsage {
        input: 1_000,
        output: 100,
        ..TokenUsage::default()
    };
    // 1,000 at 0.15 USD and 100 at 0.60 USD a million.
    assert_eq!(
        cost(&mini, Billed::text(&usage)).unwrap().total,
        NanoUsd(210_000)
    );
}

#[test]
fn what_is_not_listed_is_not_found() {
    assert!(find(ProviderType::OpenAi, "claude-haiku-4-5").is_none());
    assert!(find(ProviderType::Custom, "gpt-4o").is_none());
    for id in [
        "",
        "a",
        "openai/",
        "openai/gpt-4o\t",
        "openai/gpt-4",
        "zzz",
        "openai/gpt-4o-nought",
    ] {
        assert!(get(id).is_none_or(|entry| entry.id == id), "{id}");
    }
    assert!(get("zzz/none").is_none());
}

#[test]
fn a_search_finds_by_all_it_is_given_and_goes_on_where_it_ended() {
    let wanted = Search {
        text: Some("mini".to_owned()),
        provider_type: Some("openai".to_owned()),
        kind: Some("chat".to_owned()),
        ..Search::default()
    };
    let found: Vec<Entry> = search(&wanted).collect();
    assert!(found.len() > 3, "{}", found.len());
    assert!(found.iter().all(|entry| {
        entry.id.to_lowercase().contains("mini")
            && entry.provider_type == ProviderType::OpenAi
            && entry.kind == ModelType::Chat
    }));
    let rest = Search {
        after: Some(found[1].id.clone()),
        ..wanted
    };
    let rest: Vec<String> = search(&rest).map(|entry| entry.id).collect();
    let ids: Vec<String> = found[2..].iter().map(|entry| entry.id.clone()).collect();
    assert_eq!(rest, ids);
}

#[test]
fn gaps_that_any_call_may_fall_into_are_refused_under_a_hard_budget() {
    let mut named = BTreeSet::new();
    for entry in all() {
        let for_all = [
            "citations",
            "messages",
            "long_media",
            "no_price",
            "search_fee",
            "pieces",
        ];
        let falls = entry.gaps.iter().any(|gap| for_all.contains(&gap.as_str()));
        assert_eq!(
            falls,
            entry.pricing.leaves_unpriced(Unpriced::EveryCall),
            "{}",
            entry.id
        );
        named.extend(entry.gaps);
    }
    assert!(
        named.contains("regional_uplift") && named.contains("no_price"),
        "{named:?}"
    );
}

#[test]
fn the_head_says_when_and_from_what() {
    let parts: Vec<_> = head().version.split('-').map(str::len).collect();
    assert_eq!(parts, [4, 2, 2]);
    assert!(head().source.contains("litellm"));
}
