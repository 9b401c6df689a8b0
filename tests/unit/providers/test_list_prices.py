"""Prices by name. The figures are those of the pinned release of genai-prices: a new release may change them."""

from datetime import date

import genai_prices
import pytest

from providers.list_prices import look_up
from providers.provider_errors import UnknownPrice
from routing.fleet import Protocol
from routing.outcome import Usage

DAY = date(2026, 11, 1)
GROQ = "https://api.groq.com/openai/v1"


def test_a_price_names_its_source_its_release_and_the_model() -> None:
    price = look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY)
    assert price.version == f"genai-prices {genai_prices.__version__} gpt-5-nano"
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (0.05, 0.4)
    assert price.cached_input_usd_per_mtok == 0.005


def test_a_dated_name_has_the_price_of_its_model() -> None:
    assert look_up(Protocol.OPENAI, "gpt-5-nano-2025-08-07", on=DAY) == look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY)


def test_a_call_costs_what_its_tokens_cost() -> None:
    price = look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY)
    usage = Usage(prompt_tokens=1000, completion_tokens=100, cached_tokens=400, reasoning_tokens=50)
    assert price.cost_usd(usage) == pytest.approx((600 * 0.05 + 400 * 0.005 + 100 * 0.4) / 1e6)


def test_the_providers_batch_api_has_a_price_of_its_own() -> None:
    later = date(2026, 11, 1)
    for kind, model in (
        (Protocol.OPENAI, "gpt-5-nano"),
        (Protocol.ANTHROPIC, "claude-opus-4-5"),
        (Protocol.GOOGLE, "gemini-2.5-flash"),
    ):
        price = look_up(kind, model, on=later)
        batch = price.at_service_tier("batch")
        assert batch.input_usd_per_mtok == price.input_usd_per_mtok / 2
        assert batch.output_usd_per_mtok == price.output_usd_per_mtok / 2
        assert price.cost_usd(Usage(1000, 100, service_tier="batch")) == batch.cost_usd(Usage(1000, 100))


def test_a_multiplier_makes_everything_cheaper() -> None:
    full = look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY)
    half = look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY, multiplier=0.5)
    assert half.cost_usd(Usage(10_000, 10_000)) == pytest.approx(full.cost_usd(Usage(10_000, 10_000)) / 2)


@pytest.mark.parametrize(
    ("prompt_tokens", "usd"),
    [(200_000, 200_000 * 1.25 / 1e6), (200_001, 200_001 * 2.5 / 1e6)],
)
def test_a_long_prompt_costs_more_for_each_of_its_tokens(prompt_tokens: int, usd: float) -> None:
    price = look_up(Protocol.GOOGLE, "gemini-2.5-pro", on=DAY)
    assert price.cost_usd(Usage(prompt_tokens=prompt_tokens)) == pytest.approx(usd, abs=1e-9)


def test_a_price_that_changed_is_that_of_the_day_and_says_since_when() -> None:
    before = look_up(Protocol.ANTHROPIC, "claude-opus-4-6", on=date(2026, 3, 12))
    after = look_up(Protocol.ANTHROPIC, "claude-opus-4-6", on=date(2026, 3, 13))
    assert [tier.above_prompt_tokens for tier in before.tiers] == [200_000]
    assert after.tiers == ()
    assert after.version.endswith(" claude-opus-4-6 since 2026-03-13")


def test_the_address_says_whose_price_it_is() -> None:
    price = look_up(Protocol.OPENAI, "llama-3.3-70b-versatile", on=DAY, base_url=GROQ)
    assert price.input_usd_per_mtok > 0
    with pytest.raises(UnknownPrice):
        look_up(Protocol.OPENAI, "llama-3.3-70b-versatile", on=DAY)


def test_an_address_of_ones_own_has_the_price_of_its_protocols_maker() -> None:
    there = look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY, base_url="http://127.0.0.1:9/openai/v1")
    assert there == look_up(Protocol.OPENAI, "gpt-5-nano", on=DAY)


def test_an_unknown_model_says_what_to_add() -> None:
    with pytest.raises(UnknownPrice, match="input_usd_per_mtok"):
        look_up(Protocol.OPENAI, "our-own-model", on=DAY)
