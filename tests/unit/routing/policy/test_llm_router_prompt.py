"""What the LLM router is shown, and how its answer is read."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.fleet import LlmRouter, RouterPolicy
from routing.policy.llm_router_prompt import MOST_CONFIDENCE, cache_key, clean, cut, messages, read, system_text
from routing.query import Query
from tests.fleets import llm_policy, small_fleet

FLEET = small_fleet(llm_policy())
TWO = [Query("first"), Query("second")]


def entry(number: object = 0, tier: object = "small", confidence: object = 0.8, **more: object) -> dict[str, object]:
    return {"id": number, "tier": tier, "confidence": confidence, **more}


def tiers(answer: object, queries: list[Query] = TWO) -> list[str | None]:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return [opinion.tier for opinion in read(text, queries, fleet=FLEET)]


def test_the_body_has_the_rules_the_tiers_and_one_block_for_each_query() -> None:
    body = messages([Query("1 < 2 & 3"), Query('say "hi"')], fleet=FLEET)
    assert set(body) == {"messages", "temperature", "max_tokens"}
    system, user = body["messages"]
    assert system["content"].startswith("POINTSMAN-ROUTER")
    assert "\nTIERS: small, medium, large, special\n" in system["content"]
    assert user["content"] == ('<query id="0">1 &lt; 2 &amp; 3</query>\n<query id="1">say &quot;hi&quot;</query>')
    assert body["max_tokens"] >= 2 * 20, "an entry is about twenty tokens"


def test_the_tiers_are_described_by_their_place_where_their_names_say_nothing() -> None:
    named = small_fleet()
    renamed = replace(
        named,
        tiers={
            "bottom": replace(named.tiers["small"], name="bottom", escalates_to="top"),
            "top": replace(named.tiers["large"], name="top"),
            "aside": replace(named.tiers["special"], name="aside", escalates_to=None),
        },
    )
    text = system_text(renamed)
    assert "TIERS: bottom, top, aside" in text
    for name, word in (("bottom", "greetings"), ("top", "proofs"), ("aside", "tools")):
        assert word in next(line for line in text.splitlines() if line.startswith(f"- {name}:"))


def test_each_query_is_cut_in_the_middle_to_what_the_fleet_allows() -> None:
    fleet = small_fleet(RouterPolicy(llm=LlmRouter(model="mini", max_chars_per_query=30)))
    user = messages([Query("head " + "x" * 500 + " tail")], fleet=fleet)["messages"][1]["content"]
    shown = user.removeprefix('<query id="0">').removesuffix("</query>")
    assert len(shown) == 30
    assert shown.startswith("head ")
    assert shown.endswith(" tail")


@given(text=st.text(max_size=80), limit=st.integers(0, 60))
def test_a_cut_is_never_longer_than_its_limit(text: str, limit: int) -> None:
    assert len(cut(text, limit)) <= limit
    assert cut(text, len(text)) == text


@given(text=st.text(alphabet=st.characters(), max_size=200))
def test_whatever_the_text_there_is_one_block_and_it_can_be_sent(text: str) -> None:
    user = messages([Query(text)], fleet=FLEET)["messages"][1]["content"]
    assert user.count("<") == user.count(">") == 2
    user.encode()


def test_hidden_characters_and_half_surrogates_are_not_shown() -> None:
    assert clean("a\u200bb\x00c\ud800d\te\n") == "abc\ufffdd\te\n"


def test_a_clear_answer_is_read_in_any_order() -> None:
    answer = [entry(1, "large", 0.75), entry(0, "small", 1)]
    small, large = read(json.dumps(answer), TWO, fleet=FLEET)
    assert (small.tier, small.confidence, small.router) == ("small", MOST_CONFIDENCE, "llm")
    assert (large.tier, large.confidence) == ("large", 0.75)
    assert small.score < large.score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "small",
        "null",
        "{}",
        "[",
        '{"id": 0, "tier": "small", "confidence": 0.8}',
        'Here you are: [{"id": 0, "tier": "small", "confidence": 0.8}]',
        '```json\n[{"id": 0, "tier": "small", "confidence": 0.8}]\n```',
        '[{"id": 0, "tier": "small", "confidence": NaN}]',
        '[{"id": 0, "tier": "small", "confidence": Infinity}]',
        '[{"id": 0, "tier": "small", "confidence": 0.8}] and so on',
        '[{"id": 0, "id": 1, "tier": "small", "confidence": 0.8}]',
        "[" * 100_000,
        '[{"id": 0, "tier": "small", "confidence": ' + "9" * 5000 + "}]",
        "[[]]",
        "[1, 2]",
    ],
)
def test_an_answer_that_is_not_wholly_an_array_of_json_makes_all_abstain(text: str) -> None:
    assert tiers(text) == [None, None]


@pytest.mark.parametrize(
    "broken",
    [
        entry(1, "huge"),
        entry(1, None),
        entry(1, ["small"]),
        entry(1, "Small"),
        entry(1, "small", "0.8"),
        entry(1, "small", None),
        entry(1, "small", True),
        entry(1, "small", -0.1),
        entry(1, "small", 1.1),
        entry(1, "small", 0.8, why="it is easy"),
        entry("1"),
        entry(1.0),
        entry(True),
        entry(7),
        {"id": 1, "tier": "small"},
        "small",
    ],
)
def test_a_broken_entry_makes_only_its_query_abstain(broken: object) -> None:
    assert tiers([entry(0, "medium"), broken]) == ["medium", None]


def test_an_id_that_comes_twice_counts_for_nothing() -> None:
    assert tiers([entry(0), entry(1), entry(1, "large")]) == ["small", None]


@given(answer=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x), max_leaves=9))
def test_no_answer_makes_the_reader_fail(answer: object) -> None:
    assert tiers(json.dumps(answer)) == [None, None]


@given(text=st.text())
def test_no_text_makes_the_reader_fail(text: str) -> None:
    assert tiers(text) == [None, None]


def test_the_cache_knows_a_query_by_all_that_its_opinion_depends_on() -> None:
    key = cache_key(Query("What is dark matter?"), fleet=FLEET)
    assert len(key) == 64
    assert cache_key(Query("  What\tis dark  matter?\u200b\n"), fleet=FLEET) == key
    assert cache_key(Query("What is dark matter?", turns=3, max_tokens=9), fleet=FLEET) == key
    others = [
        cache_key(Query("What is Dark matter?"), fleet=FLEET),
        cache_key(Query("What is dark matter?"), fleet=FLEET.only(frozenset({"small", "large"}))),
        cache_key(Query("What is dark matter?"), fleet=small_fleet(RouterPolicy(llm=LlmRouter(model="midi")))),
    ]
    assert len({key, *others}) == 4


def test_half_a_surrogate_pair_has_a_cache_key() -> None:
    assert cache_key(Query("\ud800"), fleet=FLEET)
