"""What a call costs: caches, sound, service tiers, and the bound that is reserved for them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.outcome import Usage
from routing.price import NO_EXTRAS, Price, PricedExtras, PriceTier
from routing.query import read_body

OPUS = Price(5, 25, 0.5, "t", cache_write_usd_per_mtok=6.25, cache_write_1h_usd_per_mtok=10)
AUDIO = Price(2.5, 10, 1.25, "t", audio_input_usd_per_mtok=40, audio_output_usd_per_mtok=80)
TIERED = Price(
    2, 8, 0.5, "t", service_tiers=(("priority", Price(3.5, 14, 0.875, "t")), ("flex", Price(1, 4, 0.25, "t")))
)
M = 1_000_000


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (OPUS, Usage(M, 0), 5.0),
        (OPUS, Usage(M, 0, cached_tokens=M), 0.5),
        (OPUS, Usage(M, 0, cache_write_tokens=M), 6.25),
        (OPUS, Usage(M, 0, cache_write_1h_tokens=M), 10.0),
        (OPUS, Usage(M, M, cached_tokens=M // 2, cache_write_tokens=M // 4), 0.25 + 1.5625 + 1.25 + 25),
        (replace(OPUS, cache_write_usd_per_mtok=None), Usage(M, 0, cache_write_tokens=M), 6.25),
        (replace(OPUS, cache_write_1h_usd_per_mtok=None), Usage(M, 0, cache_write_1h_tokens=M), 10.0),
        (AUDIO, Usage(10_000, 10, audio_prompt_tokens=9990), 0.3996 + 0.000025 + 0.0001),
        (AUDIO, Usage(0, M, audio_completion_tokens=M), 80.0),
        (TIERED, Usage(M, 1000, service_tier="priority"), 3.514),
        (TIERED, Usage(M, 1000, service_tier="flex"), 1.004),
        (TIERED, Usage(M, 1000, service_tier="default"), 2.008),
        (OPUS, Usage(M, 0, service_tier="flex"), 5.0),
        (OPUS, Usage(M, 0, service_tier="turbo"), 12.5),
        (replace(TIERED, multiplier=0.5), Usage(M, 1000, service_tier="priority"), 1.757),
    ],
)
def test_each_kind_of_token_has_its_price(price: Price, usage: Usage, usd: float) -> None:
    assert price.cost_usd(usage) == pytest.approx(usd, abs=1e-9)


def test_a_token_of_sound_without_a_price_is_bounded_and_never_cheap() -> None:
    price = Price(2.5, 10, 1.25, "t")
    assert price.cost_usd(Usage(M, 0, audio_prompt_tokens=M)) >= 40.0


shares = st.lists(st.integers(0, 10_000), min_size=5, max_size=5)
prices = st.floats(0.01, 100)


@given(
    shares, st.integers(0, 10_000), st.integers(0, 10_000), prices, prices, st.none() | prices, st.none() | prices,
    st.none() | st.sampled_from(["priority", "flex", "turbo"]), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_is_reserved_bounds_every_mix_of_tokens_that_the_request_allows(
    parts: list[int], text: int, spoken: int, fresh: float, out: float, sound: float | None, write: float | None,
    tier: str | None, caches: bool, hears: bool, speaks: bool,
) -> None:  # fmt: skip
    price = Price(
        fresh, out, fresh / 10, "t", audio_input_usd_per_mtok=sound, audio_output_usd_per_mtok=sound,
        cache_write_usd_per_mtok=write, tiers=(PriceTier(5_000, 2 * fresh, 2 * out, fresh / 5),),
        service_tiers=(("priority", Price(2 * fresh, 2 * out, fresh, "t")),),
    )  # fmt: skip
    plain, cached, minutes, hour, heard = parts
    if not caches:
        minutes = hour = 0
    heard, spoken = heard * hears, spoken * speaks
    usage = Usage(
        plain + cached + minutes + hour + heard, text + spoken, cached, cache_write_tokens=minutes,
        cache_write_1h_tokens=hour, audio_prompt_tokens=heard, audio_completion_tokens=spoken, service_tier=tier,
    )  # fmt: skip
    extras = PricedExtras(tier, writes_cache=caches, has_audio=hears, speaks=speaks)
    bound = price.at_most(extras).cost_usd(Usage(usage.prompt_tokens, usage.completion_tokens))
    assert price.cost_usd(usage) <= bound + 1e-8


def test_a_plain_body_has_no_extras_and_others_have_theirs() -> None:
    hello = {"role": "user", "content": "Hello"}
    mark = {"cache_control": {"type": "ephemeral"}}
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    assert read_body({"messages": [hello], "service_tier": "auto"}).extras is NO_EXTRAS
    assert read_body({"messages": [hello], "service_tier": "priority"}).extras.service_tier == "priority"
    assert read_body({"messages": [hello | mark]}).extras.writes_cache
    assert read_body({"messages": [hello], "tools": [{"function": mark}]}).extras.writes_cache
    assert read_body({"messages": [{"role": "user", "content": [sound]}]}).extras.has_audio
    assert read_body({"messages": [hello], "modalities": ["audio"]}).extras.speaks
