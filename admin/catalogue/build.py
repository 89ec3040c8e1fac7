#!/usr/bin/env python3
"""Builds prices.json, the price catalogue of the admin, from the price file inside the PyPI package `litellm`.

    pip download --no-deps litellm==<version>
    python3 build.py litellm-<version>-*.whl <date of the download, YYYY-MM-DD>

Only facts are taken (slugs, sizes, list prices), for the models named below. Arithmetic is exact: decimal text in,
integer nano-USD for 1,000,000 tokens out; a price that is no whole number of those stops the build. What our six prices
cannot say (dearer tiers for long inputs, audio tokens, fees per search) is named in `gaps`, never left out in silence.
"""

import hashlib
import json
import re
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

PRICE_FILE = "litellm/model_prices_and_context_window_backup.json"

# Our provider type, the source's provider and its prefix of slugs, and the slugs as the provider's API takes them.
PROVIDERS = [
    ("openai", "openai", "", """
        gpt-6-astra gpt-6-sol gpt-6-luna gpt-6.1-sol gpt-6.1-terra gpt-5.6 gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna
        gpt-5.5 gpt-5.5-pro gpt-5.4 gpt-5.4-pro gpt-5.4-mini gpt-5.4-nano gpt-5.3-codex gpt-5.2 gpt-5.2-pro gpt-5.1
        gpt-5 gpt-5-mini gpt-5-nano o3 gpt-4.1 gpt-4.1-mini gpt-4o gpt-4o-mini
        text-embedding-3-large text-embedding-3-small omni-moderation-latest gpt-image-2"""),
    ("anthropic", "anthropic", "", """
        claude-opus-5-5 claude-opus-5 claude-opus-4-8 claude-opus-4-7 claude-opus-4-6 claude-opus-4-5
        claude-sonnet-5-5 claude-sonnet-5 claude-sonnet-4-6 claude-haiku-5-5 claude-haiku-4-5
        claude-fable-5-1 claude-fable-5"""),
    ("google", "gemini", "gemini/", """
        gemini-4-argon gemini-3.8-flash gemini-3.7-flash gemini-3.6-flash gemini-3.5-flash gemini-3.5-flash-lite
        gemini-3.1-pro-preview gemini-3.1-flash-lite gemini-3-flash-preview gemini-2.5-pro gemini-2.5-flash
        gemini-2.5-flash-lite gemini-pro-latest gemini-flash-latest gemini-flash-lite-latest
        gemini-embedding-001 gemini-embedding-2"""),
    ("mistral", "mistral", "mistral/", """
        mistral-large-4 mistral-large-latest mistral-large-2512 mistral-medium-latest mistral-medium-3-5
        mistral-small-latest mistral-small-2603 magistral-medium-latest magistral-small-latest
        codestral-latest codestral-2508 devstral-latest devstral-small-latest
        ministral-14b-latest ministral-8b-latest ministral-3b-latest mistral-embed codestral-embed"""),
]

TYPES = {
    "chat": "chat",
    "responses": "chat",
    "embedding": "embeddings",
    "moderation": "moderation",
    "image_generation": "image",
}
# Models that reason before every answer; others that can reason are of type chat with the capability.
ALWAYS_REASONING = {"o3", "magistral-medium-latest", "magistral-small-latest"}
CAPABILITIES = [
    ("vision", "supports_vision"),
    ("reasoning", "supports_reasoning"),
    ("tool_use", "supports_function_calling"),
]
# Service tiers that a caller must ask for by name; the catalogue holds the standard tier.
OTHER_TIERS = re.compile(r"_(priority|flex|batches|ultrafast|decisions)$")
# The four prices we take as they are, before the classes that fall back to them.
PRICED = {
    "input_cost_per_token": "input_per_million_nanos",
    "output_cost_per_token": "output_per_million_nanos",
    "cache_read_input_token_cost": "cached_input_per_million_nanos",
    "cache_creation_input_token_cost": "cache_write_per_million_nanos",
    "output_cost_per_reasoning_token": "reasoning_per_million_nanos",
}
# What the source prices besides, and the gap that it is for us.
GAPS = [
    (re.compile(r"_above_\d+k_tokens$"), "long_context"),
    (re.compile(r"^cache_creation_input_token_cost_above_(1hr|12hr)$"), "cache_write_long"),
    (re.compile(r"^(input_cost_per_audio_token|cache_read_input_audio_token_cost)$"), "input_audio"),
    (re.compile(r"^(input_cost_per_image_token|cache_read_input_image_token_cost)$"), "input_image"),
    (re.compile(r"^input_cost_per_video_token$"), "input_video"),
    (re.compile(r"^(search_context_cost_per_query|google_maps_grounding_cost_per_query)$"), "search"),
]
# The source prices the same thing twice: by the piece beside by the token.
DOUBLED = {"output_cost_per_image"}


def main():
    wheel, date = Path(sys.argv[1]), sys.argv[2]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        sys.exit("the date is not YYYY-MM-DD")
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(PRICE_FILE)
    source = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    head = {
        "version": date,
        "source": f"PyPI {'-'.join(wheel.name.split('-')[:2])}, {PRICE_FILE}",
        "source_sha256": hashlib.sha256(raw).hexdigest(),
        "unit": "nano-USD for 1,000,000 tokens, list prices of the standard tier",
    }
    models = [
        convert(source[prefix + slug], provider, source_provider, slug)
        for provider, source_provider, prefix, slugs in PROVIDERS
        for slug in slugs.split()
    ]
    write(head, sorted(models, key=lambda model: (model["provider_type"], model["slug"])))


def convert(facts, provider, source_provider, slug):
    if facts["litellm_provider"] != source_provider:
        sys.exit(f"{slug}: is of {facts['litellm_provider']}")
    pricing, used = price(facts, slug)
    gaps, tier = find_gaps(facts, used, slug)
    model = {
        "provider_type": provider,
        "slug": slug,
        "type": "reasoning" if slug in ALWAYS_REASONING else TYPES[facts["mode"]],
        "capabilities": [ours for ours, theirs in CAPABILITIES if facts.get(theirs)],
        "config": sizes(facts),
        "pricing": pricing,
    }
    if gaps:
        model["gaps"] = gaps
    if tier:
        model["long_context_above"] = tier
    return model


def sizes(facts):
    found = {"context_window": facts.get("max_input_tokens"), "max_output_tokens": facts.get("max_output_tokens")}
    return {name: int(value) for name, value in found.items() if value}


def price(facts, slug):
    """Our prices, and the names of the source's that they come from."""
    used = {name: nanos(facts[name], slug) for name in PRICED if name in facts}
    prices = {PRICED[name]: value for name, value in used.items()}
    if "input_per_million_nanos" not in prices:
        sys.exit(f"{slug}: has no price for input tokens")
    used = set(used)
    if facts["mode"] == "image_generation":
        # All output tokens of such a model are image tokens.
        if "output_per_million_nanos" in prices:
            sys.exit(f"{slug}: makes text too, at another price")
        prices["output_per_million_nanos"] = nanos(facts["output_cost_per_image_token"], slug)
        used.add("output_cost_per_image_token")
    if facts["mode"] in ("chat", "responses") and prices["output_per_million_nanos"] == 0:
        sys.exit(f"{slug}: has no price for output tokens")
    prices.setdefault("output_per_million_nanos", 0)
    if prices.get("reasoning_per_million_nanos") == prices["output_per_million_nanos"]:
        del prices["reasoning_per_million_nanos"]
    order = ["input", "output", "cached_input", "cache_write", "reasoning"]
    names = [f"{name}_per_million_nanos" for name in order]
    return {"per_request_nanos": 0} | {name: prices[name] for name in names if name in prices}, used


def nanos(dollars_per_token, slug):
    exact = Decimal(dollars_per_token) * 10**9 * 10**6
    if exact != int(exact) or exact < 0:
        sys.exit(f"{slug}: {dollars_per_token} USD a token is no whole number of nanos for a million tokens")
    return int(exact)


def find_gaps(facts, used, slug):
    """What the source prices and we cannot; and from how many input tokens on another price list holds."""
    gaps, tier = set(), None
    for name, value in facts.items():
        if "cost" not in name or name in used or name in DOUBLED or OTHER_TIERS.search(name):
            continue
        gap = next((gap for pattern, gap in GAPS if pattern.search(name)), None)
        if gap is None:
            sys.exit(f"{slug}: what is {name}?")
        if gap.startswith("input_") and value == facts["input_cost_per_token"]:
            continue
        gaps.add(gap)
        if gap == "long_context":
            thousands = int(re.search(r"_above_(\d+)k_tokens$", name).group(1))
            tier = min(tier or thousands * 1000, thousands * 1000)
    return sorted(gaps), tier


def write(head, models):
    """One model a line, so that a change of prices reads as one."""
    lines = [f'  {json.dumps(name)}: {json.dumps(value)},' for name, value in head.items()]
    rows = ",\n".join("    " + json.dumps(model) for model in models)
    text = "{\n" + "\n".join(lines) + '\n  "models": [\n' + rows + "\n  ]\n}\n"
    (Path(__file__).parent / "prices.json").write_text(text)
    print(f"{len(models)} models")


if __name__ == "__main__":
    main()
