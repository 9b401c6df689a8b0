"""Which beginnings of prompts are shared, and when a cache pays for that."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet import CachedBy, Model, PromptCaching
from routing.outcome import Usage
from routing.price import Price
from routing.prompt_caching import SharedPrefix, pays, shared_prefixes, with_prefix_cached

LONG = "duty " * 1000  # 1,250 tokens by the rule of thumb
PRICE = Price(3.0, 15.0, 0.3, "test", cache_write_usd_per_mtok=3.75)


def model(by: CachedBy | None = CachedBy.CACHE_CONTROL, *, price: Price = PRICE) -> Model:
    caching = None if by is None else PromptCaching(by)
    return Model("m", "p", "m", "large", price, 200_000, prompt_caching=caching)


def body(question: str, *, system: str = LONG, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}], **fields}


def shared(*bodies: dict[str, Any], known: tuple[bytes, ...] = ()) -> dict[int, SharedPrefix]:
    return shared_prefixes(dict(enumerate(bodies)), seed=b"1", least_tokens=1024, known=known)


def test_prompts_with_one_long_system_prompt_share_it() -> None:
    found = shared(body("a"), body("b", temperature=1, max_tokens=9, user="x"), body("c", system="Y" + LONG), body("d"))
    assert found.keys() == {0, 1, 3}
    assert len({prefix.key for prefix in found.values()}) == 1
    assert {(prefix.messages, prefix.tokens) for prefix in found.values()} == {(1, 1250)}


@pytest.mark.parametrize(
    "other",
    [
        body("b", tools=[{"type": "function", "function": {"name": "f"}}]),
        body("b", response_format={"type": "json_object"}),
        body("b", system="short"),
        body("b") | {"messages": [*body("b")["messages"], {"role": "system", "content": "Be brief."}]},
        {"messages": [{"role": "system", "content": LONG, "cache_control": {"type": "ephemeral"}}]},
    ],
)
def test_what_stands_before_the_prompt_or_is_marked_by_its_user_is_not_shared(other: dict[str, Any]) -> None:
    assert shared(body("a"), other) == {}


def test_the_prefix_that_saves_most_is_taken() -> None:
    more = {"role": "user", "content": "An example."}

    def with_example(question: str, *examples: dict[str, str]) -> dict[str, Any]:
        system, user = body(question)["messages"]
        return {"messages": [system, *examples, user]}

    found = shared(*(with_example(str(n)) for n in range(9)), with_example("x", more), with_example("y", more))
    assert {prefix.messages for prefix in found.values()} == {1}


def test_batches_have_keys_of_their_own_and_a_known_prefix_needs_no_other() -> None:
    bodies = {0: body("a"), 1: body("b")}
    one, two = (shared_prefixes(bodies, seed=seed, least_tokens=1024) for seed in (b"1", b"2"))
    assert one[0].key != two[0].key
    assert shared(body("c")) == {}
    assert shared(body("c"), known=(one[0].key,)) == {0: one[0]}


@given(
    tokens=st.integers(1024, 50_000),
    readers=st.integers(1, 100),
    read=st.floats(0.05, 1.2),
    write=st.floats(0.5, 3.0),
)
def test_it_pays_only_where_the_bill_is_lower(tokens: int, readers: int, read: float, write: float) -> None:
    price = replace(PRICE, cached_input_usd_per_mtok=3 * read, cache_write_usd_per_mtok=3 * write)
    with_cache = price.cost_usd(Usage(tokens, 0, cache_write_tokens=tokens))
    with_cache += readers * price.cost_usd(Usage(tokens, 0, cached_tokens=tokens))
    without = (1 + readers) * price.cost_usd(Usage(tokens, 0))
    assert pays(model(price=price), tokens=tokens, readers=readers) == (with_cache < without)


def test_it_never_pays_below_the_minimum_or_where_the_fleet_does_not_allow_it() -> None:
    assert not pays(model(), tokens=1023, readers=1000)
    assert not pays(model(None), tokens=9000, readers=1000)
    assert pays(model(CachedBy.PROMPT_CACHE_KEY), tokens=1024, readers=1)


def test_what_is_sent_differs_from_the_users_body_by_the_mark_alone() -> None:
    asked = body("a")
    prefix = SharedPrefix(b"\x01\x02", 1, 1250)
    system, user = asked["messages"]
    marked = {"messages": [{**system, "cache_control": {"type": "ephemeral"}}, user]}
    assert with_prefix_cached(asked, prefix, model(), marks=True) == marked
    assert with_prefix_cached(asked, prefix, model(), marks=False) == asked
    keyed = model(CachedBy.PROMPT_CACHE_KEY)
    assert with_prefix_cached(asked, prefix, keyed, marks=False) == asked | {"prompt_cache_key": "0102"}
    own = asked | {"prompt_cache_key": "mine"}
    assert with_prefix_cached(own, prefix, keyed, marks=True) == own
    assert with_prefix_cached(asked, prefix, model(CachedBy.ITSELF), marks=True) == asked
    assert asked == body("a")
