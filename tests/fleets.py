"""A small fleet for tests: three rungs, one tier beside the ladder, two providers, round prices."""

import json

from routing.fleet import Fleet, LlmRouter, Model, Protocol, Provider, RouterPolicy, Tier
from routing.price import Price
from routing.price_list import PriceList

LADDER = ("small", "medium", "large")


def small_fleet(router: RouterPolicy | None = None) -> Fleet:
    """`small`, `medium` and `large` cost as 1 to 5 to 25; `special` has the longest context."""
    models = (
        _model("mini", "acme", "small", usd=0.2, context_tokens=8_000),
        _model("midi", "acme", "medium", usd=1.0, context_tokens=16_000),
        _model("midi-code", "blue", "medium", usd=1.0, context_tokens=32_000, categories=frozenset({"code"})),
        _model("maxi", "acme", "large", usd=5.0, context_tokens=64_000),
        _model("maxi-maths", "blue", "large", usd=5.0, context_tokens=64_000, categories=frozenset({"maths"})),
        _model("giant", "blue", "special", usd=4.0, context_tokens=500_000),
    )
    return Fleet(
        name="test",
        simulated=True,
        providers={
            "acme": Provider("acme", Protocol.OPENAI, "http://127.0.0.1:1/acme"),
            "blue": Provider("blue", Protocol.ANTHROPIC, "http://127.0.0.1:1/blue"),
        },
        models={model.name: model for model in models},
        tiers={
            "small": _tier("small", models, escalates_to="medium"),
            "medium": _tier("medium", models, escalates_to="large"),
            "large": _tier("large", models, escalates_to=None),
            "special": _tier("special", models, escalates_to="large"),
        },
        router=router or RouterPolicy(),
        digest="test",
    )


def price_list_row(fleet: Fleet, digest: str = "p") -> str:
    """The statement that stores the price list of ``fleet`` under ``digest``."""
    content = json.dumps(PriceList.of(fleet).as_json()).replace("'", "''")
    return f"INSERT INTO price_lists (digest, content) VALUES ('{digest}', '{content}') ON CONFLICT DO NOTHING;"


def llm_policy() -> RouterPolicy:
    """All three routers, with the small model as the one that is asked."""
    return RouterPolicy(stages=("gate", "classifier", "llm"), llm=LlmRouter(model="mini"))


def _model(
    name: str,
    provider: str,
    tier: str,
    *,
    usd: float,
    context_tokens: int,
    categories: frozenset[str] = frozenset(),
) -> Model:
    return Model(
        name=name,
        provider=provider,
        model=f"{name}-2026",
        tier=tier,
        price=Price(usd, 4 * usd, usd / 2, version="test"),
        context_tokens=context_tokens,
        max_output_tokens=2_000,
        categories=categories,
    )


def _tier(name: str, models: tuple[Model, ...], *, escalates_to: str | None) -> Tier:
    names = tuple(model.name for model in models if model.tier == name)
    return Tier(name=name, queue=name, concurrency=4, models=names, escalates_to=escalates_to)
