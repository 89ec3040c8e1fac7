//! What has a price of its own: media, tiers, searches, longer caches.

use odock_events::pricing::ServiceTier;

use super::*;

#[test]
fn media_is_counted_by_what_a_part_carries() {
    for (content, audios, videos, files) in [
        (
            r#"{"type":"input_audio","input_audio":{"data":"AAAA"}}"#,
            1,
            0,
            0,
        ),
        (
            r#"{"type":"text","text":"x","input_audio":{"data":"AAAA"}}"#,
            1,
            0,
            0,
        ),
        (r#"{"type":"file","file":{"file_id":"x"}}"#, 0, 0, 1),
        (r#"{"type":"video_url","video_url":{"url":"x"}}"#, 0, 1, 0),
        (
            r#"{"file":{"file_id":"x"},"audio_url":{"url":"x"}}"#,
            1,
            0,
            1,
        ),
    ] {
        let request = message(&format!(r#"{{"role":"user","content":[{content}]}}"#)).unwrap();
        let media = request.input.media;
        assert_eq!(request.unbounded, None, "{content}");
        assert_eq!(
            (media.audios, media.videos, media.files),
            (audios, videos, files),
            "{content}"
        );
    }
    let earlier = message(r#"{"role":"assistant","audio":{"id":"x"}}"#).unwrap();
    assert_eq!(earlier.input.media.audios, 1);
    // Its bytes are no text.
    let data = "A".repeat(1_000);
    let audio = format!(r#"{{"type":"input_audio","input_audio":{{"data":"{data}"}}}}"#);
    let request = message(&format!(r#"{{"role":"user","content":[{audio}]}}"#)).unwrap();
    assert!(request.input.text_upper < 500, "{:?}", request.input);
}

#[test]
fn what_has_a_price_of_its_own_is_read() {
    let asked = |members: &str| with(members).unwrap();
    assert_eq!(asked("").tier, AskedTier::Any);
    for (tier, wanted) in [
        ("auto", AskedTier::Any),
        ("default", AskedTier::Tier(ServiceTier::Standard)),
        ("flex", AskedTier::Tier(ServiceTier::Flex)),
        ("priority", AskedTier::Tier(ServiceTier::Priority)),
        ("scale", AskedTier::Unknown),
    ] {
        assert_eq!(asked(&format!(r#","service_tier":"{tier}""#)).tier, wanted);
    }
    let both = asked(r#","modalities":["text","audio","image"]"#).output_media;
    assert!(both.audio && both.image);
    for (options, wanted) in [
        ("null", None),
        ("false", None),
        ("{}", Some(SearchSize::Medium)),
        (r#"{"search_context_size":"low"}"#, Some(SearchSize::Low)),
        (r#"{"search_context_size":"huge"}"#, Some(SearchSize::High)),
    ] {
        let members = format!(r#","web_search_options":{options}"#);
        assert_eq!(asked(&members).web_search, wanted, "{options}");
    }
    assert!(
        with(r#","web_search_options":{"search_context_size":"low","search_context_size":"high"}"#)
            .is_err()
    );
    assert!(asked(r#","prompt_cache_retention":"24h""#).long_cache);
    assert!(!asked(r#","prompt_cache_retention":"in_memory""#).long_cache);
    assert!(asked(r#","metadata":{"ttl":"1h"}"#).may_set_cache_ttl());
    assert!(asked(r#","metadata":{"a":"\u0074tl"}"#).may_set_cache_ttl());
    assert!(!asked("").may_set_cache_ttl());
}

#[test]
fn the_detail_of_an_image_is_the_images_own_or_the_parts() {
    let low = |part: &str| {
        let request = message(&format!(r#"{{"content":[{part}]}}"#)).unwrap();
        let media = request.input.media;
        (media.images, media.low_detail_images)
    };
    assert_eq!(
        low(r#"{"type":"image_url","image_url":{"url":"x","detail":"low"}}"#),
        (1, 1)
    );
    assert_eq!(
        low(r#"{"type":"image_url","image_url":{"url":"x","detail":"high"},"detail":"low"}"#),
        (1, 0)
    );
    assert_eq!(
        low(r#"{"type":"image_url","image_url":{"url":"x"}}"#),
        (1, 0)
    );
    assert_eq!(
        low(r#"{"type":"image_url","detail":"low","image_url":"x"}"#),
        (1, 1)
    );
    assert_eq!(low(r#"{"type":"text","text":"x","detail":"low"}"#), (0, 0));
}
