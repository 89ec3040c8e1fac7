#!/usr/bin/env python3
"""Builds models.tsv, the price catalogue of the admin, from the price file inside the PyPI package `litellm`.

    pip download --no-deps litellm==<version>
    python3 build.py litellm-<version>-*.whl <date of the download, YYYY-MM-DD>

Only facts are taken (names, sizes, list prices). Arithmetic is exact: decimal text in, integer nano-USD for 1,000,000 tokens
or pieces out; the few prices that are no whole number of those are rounded up and counted. What our prices cannot say is
named in `gaps`, never left out in silence; where a call could bring it about, `pricing.unpriced` has it refused under a
hard budget. The build stops at a price whose name it does not know.

The file: a first line with the head as JSON, then one line a model, `<id>\\t<JSON>`, sorted by the bytes of the id, so that
one is found without reading the rest. The id is `<vendor>/<slug>`.
"""

import hashlib
import json
import re
import sys
import zipfile
from collections import Counter
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

PRICE_FILE = "litellm/model_prices_and_context_window_backup.json"

# The source's providers that our provider types name: vendor and type. All others speak OpenAI's dialect to us, if any.
VENDORS = {
    "openai": ("openai", "openai"),
    "anthropic": ("anthropic", "anthropic"),
    "gemini": ("google", "google"),
    "mistral": ("mistral", "mistral"),
    "azure": ("azure_openai", "azure_openai"),
    "azure_text": ("azure_openai", "azure_openai"),
    "text-completion-openai": ("openai", "openai"),
    "huggingface": ("huggingface", "huggingface"),
    "hosted_vllm": ("vllm", "vllm"),
    "vertex_ai-language-models": ("vertex_ai", "google"),
    "vertex_ai-embedding-models": ("vertex_ai", "google"),
    "vertex_ai-image-models": ("vertex_ai", "google"),
}
# Prefixes of the source's names that are no part of the slug.
PREFIXES = {"gemini": "gemini/", "azure": "azure/", "azure_text": "azure/"}

TYPES = {
    "chat": "chat",
    "responses": "chat",
    "completion": "chat",
    "embedding": "embeddings",
    "moderation": "moderation",
    "image_generation": "image",
    "image_edit": "image",
    "audio_transcription": "transcription",
    "audio_speech": "tts",
    "realtime": "audio",
    "ocr": "ocr",
}
# Models that reason before every answer; others that can reason are of type chat with the capability.
ALWAYS_REASONING = re.compile(r"^(o1|o3|o4-mini|magistral|deepseek-reasoner|deepseek-r1)(-|$)")
CAPABILITIES = [
    ("vision", "supports_vision"),
    ("reasoning", "supports_reasoning"),
    ("tool_use", "supports_function_calling"),
]

TOKENS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "input_cost_per_token_cache_hit": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost_above_12hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "input_audio",
    "cache_read_input_audio_token_cost": "cached_input_audio",
    "input_cost_per_image_token": "input_image",
    "cache_read_input_image_token_cost": "cached_input_image",
    "input_cost_per_video_token": "input_video",
    "output_cost_per_audio_token": "output_audio",
    "output_cost_per_image_token": "output_image",
    "output_cost_per_video_token": "output_video",
}
UNITS = {
    "input_cost_per_character": "characters",
    "output_cost_per_character": "output_characters",
    "input_cost_per_second": "seconds",
    "output_cost_per_second": "output_seconds",
    "output_cost_per_image": "images",
    "input_cost_per_image": "input_images",
    "input_cost_per_pixel": "pixels",
    "output_cost_per_pixel": "output_pixels",
    "input_cost_per_query": "queries",
    "ocr_cost_per_page": "pages",
    "annotation_cost_per_page": "annotated_pages",
    "ocr_cost_per_credit": "credits",
    "input_cost_per_audio_per_second": "audio_seconds",
    "input_cost_per_video_per_second": "video_seconds",
    "output_cost_per_video_per_second": "output_seconds",
}
SIZED_UNITS = re.compile(r"^output_cost_per_(image|second)_([0-9a-zA-Z.]+)$")
SEARCH_SIZES = {
    "search_context_size_low": "web_search_low",
    "search_context_size_medium": "web_search_medium",
    "search_context_size_high": "web_search_high",
}
# Pieces that are counted in chat calls.
COUNTED = {"web_search_low", "web_search_medium", "web_search_high", "input_images"}
TIERS = {"batches": "batch", "flex": "flex", "priority": "priority"}
TIER = re.compile(r"_(batches|flex|priority|ultrafast|balanced|decisions)$")
THRESHOLD = re.compile(r"_above_(\d+)k_tokens")
# Prices of things that no price of ours names.
GAPS = [
    (re.compile(r"^cache_creation_input_audio_token_cost$"), "cache_write_audio"),
    (re.compile(r"^google_maps_grounding_cost_per_query$"), "maps_grounding"),
    (re.compile(r"^citation_cost_per_token$"), "citations"),
    (re.compile(r"^off_peak_pricing$"), "off_peak"),
    (re.compile(r"^(regional_|fedramp_uplift)"), "regional_uplift"),
    (re.compile(r"^input_cost_per_text_message$"), "messages"),
    (re.compile(r"_interval$"), "long_media"),
    (re.compile(r"^code_interpreter_cost|^file_search_cost|^vector_store_cost|^computer_use_"), "hosted_tools"),
    (re.compile(r"(image|character|video|audio_per_second|video_per_second).*_above_128k_tokens$"), "long_media"),
]
# Multipliers of a request's own choice, in `provider_specific_entry`; its other members are no prices.
MULTIPLIERS = {"us": "regional_uplift", "fast": "fast_mode"}
# Gaps that any call may fall into: the whole model is refused under a hard budget.
EVERY_CALL = {"citations", "messages", "long_media", "provider_specific", "no_price", "search_fee", "pieces"}
# The same price in another currency, a price of hardware that is rented, and what only looks like a price.
IGNORED = re.compile(r"^(input|output)_dbu_cost|^search_free_requests$|^web_search_billing_unit$|^uses_")
RENTED = {"cost_per_second"}

rounded = Counter()


class Skip(Exception):
    """Why a row of the source is no model of ours."""


def main():
    wheel, date = Path(sys.argv[1]), sys.argv[2]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        sys.exit("the date is not YYYY-MM-DD")
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(PRICE_FILE)
    source = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    models, skipped = {}, Counter()
    for name, facts in source.items():
        try:
            model = convert(name, facts)
        except Skip as why:
            skipped[str(why)] += 1
            continue
        kept = models.setdefault(f"{model['vendor']}/{model['slug']}", model)
        if kept is not model:
            skipped["the same model again"] += 1
    head = {
        "version": date,
        "source": f"PyPI {'-'.join(wheel.name.split('-')[:2])}, {PRICE_FILE}",
        "source_sha256": hashlib.sha256(raw).hexdigest(),
        "unit": "nano-USD for 1,000,000 tokens or pieces",
        "models": len(models),
    }
    write(head, models)
    print(f"{len(models)} models; prices rounded up: {sum(rounded.values())} in {len(rounded)} models")
    for why, count in skipped.most_common():
        print(f"  left out {count}: {why}")


def convert(name, facts):
    provider = facts.get("litellm_provider")
    if name == "sample_spec" or provider is None:
        raise Skip("names no provider")
    if RENTED & facts.keys():
        raise Skip("is rented by the second")
    kind = TYPES.get(facts.get("mode"))
    if kind is None:
        raise Skip(f"is of no type of ours: {facts.get('mode')}")
    vendor, provider_type = VENDORS.get(provider, (provider, "custom"))
    slug = name.removeprefix(PREFIXES.get(provider, f"{provider}/"))
    if not 1 <= len(slug) <= 200 or re.search(r"\s", slug) or not slug.isascii():
        raise Skip("has no slug that goes upstream")
    if kind == "chat" and ALWAYS_REASONING.match(slug):
        kind = "reasoning"
    pricing, gaps = price(facts, name, provider)
    model = {
        "vendor": vendor,
        "provider_type": provider_type,
        "slug": slug,
        "type": kind,
        "capabilities": [ours for ours, theirs in CAPABILITIES if facts.get(theirs)],
        "config": sizes(facts),
        "pricing": pricing,
    }
    if gaps:
        model["gaps"] = sorted(gaps)
    return model


def sizes(facts):
    found = {"context_window": facts.get("max_input_tokens"), "max_output_tokens": facts.get("max_output_tokens")}
    return {name: int(value) for name, value in found.items() if isinstance(value, Decimal) and 1 <= value <= 10**9}


def price(facts, name, provider):
    """Our prices, and what the source prices besides."""
    book = Book(name)
    for key, value in facts.items():
        if not looks_like_a_price(key) or IGNORED.search(key):
            continue
        book.take(key, value)
    if provider == "perplexity" and "search_context_cost_per_query" in facts:
        # A fee for every request, by a size that the request need not name.
        book.gaps.add("search_fee")
    return book.finish(facts)


def looks_like_a_price(key):
    return "cost" in key or "pric" in key or "uplift" in key or key == "provider_specific_entry"


class Book:
    """The prices of one model while they come in, by tier and threshold."""

    def __init__(self, name):
        self.name = name
        self.rates = {}
        self.units = {}
        self.per_request = None
        self.gaps = set()

    def take(self, key, value):
        if key == "search_context_cost_per_query":
            for size, cost in value.items():
                if size in SEARCH_SIZES:
                    self.set_unit("standard", SEARCH_SIZES[size], cost)
            return
        if key == "provider_specific_entry":
            self.gaps |= {MULTIPLIERS[choice] for choice in value if choice in MULTIPLIERS}
            return
        if key == "tiered_pricing":
            return self.take_ranges(value)
        gap = next((gap for pattern, gap in GAPS if pattern.search(key)), None)
        if gap is not None:
            if value not in (None, {}, 0):
                self.gaps.add(gap)
            return
        if value is None:
            return
        if key == "input_cost_per_request":
            self.per_request = self.nanos(value, 10**9)
            return
        plain, tier, threshold = take_apart(key)
        if tier in ("ultrafast", "balanced", "decisions"):
            self.gaps.add(f"service_tier_{tier}")
        elif plain in TOKENS:
            self.rates.setdefault((tier, threshold), {})[TOKENS[plain]] = self.nanos(value)
        elif plain in UNITS and threshold == 0:
            self.set_unit(tier, UNITS[plain], value)
        elif (sized := SIZED_UNITS.match(plain)) and threshold == 0:
            kind = {"image": "images", "second": "output_seconds"}[sized.group(1)]
            self.set_unit(tier, f"{kind}_{sized.group(2).lower().replace('.', '_')}", value)
        elif key == "explicit_cache_read_input_token_cost":
            # Dearer than the implicit one, or absent: the dearer of the two is what a cached token may cost.
            rates = self.rates.setdefault(("standard", 0), {})
            rates["cached_input"] = max(rates.get("cached_input", 0), self.nanos(value))
        else:
            sys.exit(f"{self.name}: what is {key}?")

    def take_ranges(self, ranges):
        """A list a range of input lengths; the first begins at 0."""
        for entry in ranges:
            if "range" not in entry:
                self.gaps.add("no_price")
                continue
            threshold = int(entry["range"][0])
            for key, value in entry.items():
                if key == "range" or value is None:
                    continue
                if key not in TOKENS:
                    self.gaps.add("provider_specific")
                    continue
                self.rates.setdefault(("standard", threshold), {})[TOKENS[key]] = self.nanos(value)

    def set_unit(self, tier, kind, value):
        if value:
            self.units.setdefault(tier, {})[kind] = self.nanos(value)

    def nanos(self, dollars, factor=10**15):
        """USD for one to nano-USD for 1,000,000; exact, or rounded up and counted."""
        exact = Decimal(dollars) * factor
        if exact < 0:
            sys.exit(f"{self.name}: {dollars} is negative")
        whole = int(exact.to_integral_value(rounding=ROUND_CEILING))
        if exact != whole:
            rounded[self.name] += 1
        return whole

    def finish(self, facts):
        units = self.units.get("standard", {})
        base = self.rates.get(("standard", 0), {})
        # The source prices media twice, by the token and by the piece.
        if "output_image" in base:
            units.pop("images", None)
        if "input_image" in base:
            units.pop("input_images", None)
        # What comes out is the unit of such a model.
        for kind in [kind for kind in units if kind.startswith("output_")]:
            plain = kind.removeprefix("output_")
            if plain not in units:
                units[plain] = units.pop(kind)
        if facts["mode"] in ("chat", "responses", "completion") and set(units) - COUNTED:
            # Chat answers do not say how many of these they are.
            self.gaps.add("pieces")
        has_price = any(base.values()) or any(units.values()) or self.per_request
        if not has_price:
            self.gaps.add("no_price")
        pricing = {}
        if self.per_request:
            pricing["per_request_nanos"] = self.per_request
        pricing |= members({"input": 0, "output": 0} | base)
        if units:
            pricing["units_per_million_nanos"] = dict(sorted(units.items()))
        if lists := self.long_context("standard"):
            pricing["long_context"] = lists
        tiers = {}
        for theirs, ours in TIERS.items():
            rates = members(self.rates.get((ours, 0), {}), base)
            tier = {}
            if rates:
                tier["rates"] = rates
            if own := self.units.get(ours):
                tier["units_per_million_nanos"] = dict(sorted(own.items()))
            if lists := self.long_context(ours):
                tier["long_context"] = lists
            if tier:
                tiers[ours] = tier
        if tiers:
            pricing["service_tiers"] = tiers
        if unpriced := self.unpriced(facts, base):
            pricing["unpriced"] = unpriced
        return pricing, self.gaps

    def long_context(self, tier):
        found = sorted((above, rates) for (of, above), rates in self.rates.items() if of == tier and above)
        return [{"above_input_tokens": above, "rates": members(rates)} for above, rates in found]

    def unpriced(self, facts, base):
        found = set()
        if self.gaps & EVERY_CALL:
            found.add("every_call")
        if facts.get("supports_audio_input") and "input_audio" not in base:
            found.add("input_audio")
        if facts.get("supports_video_input") and "input_video" not in base:
            found.add("input_video")
        if facts.get("supports_audio_output") and "output_audio" not in base:
            found.add("output_audio")
        return sorted(found)


def take_apart(key):
    """The price's plain name, its tier and its threshold, whichever stands first."""
    threshold, tier = 0, "standard"
    if found := TIER.search(key):
        tier = TIERS.get(found.group(1), found.group(1))
        key = key[: found.start()]
    if found := THRESHOLD.search(key):
        threshold = int(found.group(1)) * 1000
        key = key[: found.start()] + key[found.end() :]
    return key, tier, threshold


def members(rates, base=None):
    """In one order; what a tier has in common with the standard one is left out, and a class that costs as its side."""
    order = [
        "input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "input_audio",
        "cached_input_audio", "input_image", "cached_input_image", "input_video", "output_audio", "output_image",
        "output_video",
    ]
    kept = {name: rates[name] for name in order if name in rates and (base is None or base.get(name) != rates[name])}
    if base is None and kept.get("reasoning") == kept.get("output", -1):
        del kept["reasoning"]
    return {f"{name}_per_million_nanos": value for name, value in kept.items()}


def write(head, models):
    lines = [json.dumps(head)]
    for name in sorted(models, key=lambda name: name.encode()):
        lines.append(f"{name}\t{json.dumps(models[name], separators=(',', ':'))}")
    (Path(__file__).parent / "models.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
