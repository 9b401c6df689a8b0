"""How long an answer is expected to be: by the guess where nothing is known, else by what is most alike."""

import json
import math
import os
import tracemalloc
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from routing.answer_lengths import (
    CAP_TIMES,
    COLD_CAP,
    LEAST_CAP,
    UNNAMED_CAP_TIMES,
    AnswerLengths,
    ExpectedLength,
    LengthGroup,
    LengthRecord,
)
from routing.forecast.forecast_types import interval
from routing.heuristics.heuristic_router import TEXT_TOKENS
from routing.policy.routing_case import RoutingContext
from routing.query import Expectation, Query
from settings import ROOT
from tests.fleets import small_fleet

DATA = Path(os.environ.get("POINTSMAN_DATA") or ROOT.parent / "shared" / "data")
FLEET = small_fleet()
CONTEXT = RoutingContext(FLEET)
TEXT = Query("Explain how tides come about.")
NAMED = Query(TEXT.text, workload="tides")
LABEL = Query("Is it spam?", expects=Expectation(choices=("spam", "fine")))


def tokens(lengths: AnswerLengths, query: Query, tier: str = "small") -> float:
    return lengths.expected(CONTEXT.analyze(query), FLEET.deployments(tier)[0]).tokens


def of(query: Query, *means: float, tier: str = "small", answers: int = 100) -> AnswerLengths:
    group = LengthGroup(tier, query.workload, query.shape)
    records = [LengthRecord(mean, 0.0, answers) for mean in means]
    return AnswerLengths({group: records} if records else {})


def test_without_a_record_it_is_the_guess() -> None:
    assert tokens(AnswerLengths(), TEXT) == pytest.approx(TEXT_TOKENS)
    assert tokens(AnswerLengths(), LABEL) == pytest.approx(3)


def test_batches_of_free_text_say_nothing_of_labels_nor_labels_of_free_text() -> None:
    assert tokens(of(TEXT, *[400.0] * 20), LABEL) == pytest.approx(3)
    assert tokens(of(LABEL, *[1.0] * 20), TEXT) == pytest.approx(TEXT_TOKENS)


def test_earlier_batches_outweigh_the_guess_as_they_grow() -> None:
    told = [tokens(of(TEXT, *[10.0] * batches), TEXT) for batches in (0, 1, 2, 10)]
    assert told == sorted(told, reverse=True)
    assert told[1] < 20
    assert told[-1] == pytest.approx(10, rel=0.1)
    assert tokens(of(TEXT, 10.0, answers=1), TEXT) > 1.5 * told[1], "one answer is no batch"


def test_another_tier_counts_for_more_than_another_workload() -> None:
    other_tier = tokens(of(NAMED, 10.0, tier="large"), NAMED)
    other_workload = tokens(of(Query("x", workload="tickets"), 10.0), NAMED)
    assert 10 < tokens(of(NAMED, 10.0), NAMED) < other_tier < other_workload < TEXT_TOKENS


def test_tiers_that_differ_much_do_not_move_the_length_that_a_tiers_own_answers_have() -> None:
    taken = {"arith": (1.2, 7.0, 50.5), "free": (1.1, 6.0, 49.0), "capital": (1.1, 2.0, 6.1), "tone": (1.0, 1.1, 1.8)}
    queries = {name: (LABEL if name == "tone" else TEXT)._replace(workload=name) for name in taken}
    lengths = AnswerLengths(
        {
            LengthGroup(tier, name, queries[name].shape): [LengthRecord(mean, 0.0, 55)]
            for name, means in taken.items()
            for tier, mean in zip(("small", "medium", "large"), means, strict=True)
        }
    )
    for tier, true in (("large", 26.85), ("medium", 4.03), ("small", 1.1)):
        told = [tokens(lengths, query, tier) for query in queries.values()]
        assert sum(told) / len(told) == pytest.approx(true, rel=0.1, abs=0.6), tier


def test_a_tier_counts_no_more_for_another_one_where_several_say_the_same() -> None:
    def with_tiers(*tiers: str) -> float:
        groups = [LengthGroup(tier, NAMED.workload, NAMED.shape) for tier in tiers]
        return tokens(AnswerLengths({group: [LengthRecord(2.0, 0.0, 100)] for group in groups}), NAMED)

    assert with_tiers("medium", "large", "special") == pytest.approx(with_tiers("medium"))


def test_batches_of_other_lengths_count_by_their_arithmetic_mean() -> None:
    assert tokens(of(NAMED, *[10.0, 90.0] * 10), NAMED) == pytest.approx(50, rel=0.05)


def test_it_is_no_longer_than_the_querys_cap() -> None:
    capped = Query(TEXT.text, max_tokens=20)
    assert tokens(of(capped, 50.0), capped) == 20
    assert capped.shape == "text 20"


def test_batches_that_differ_leave_it_wide() -> None:
    model = FLEET.deployments("small")[0]

    def spread(query: Query, *means: float) -> float:
        return of(query, *means).expected(CONTEXT.analyze(query), model).spread

    assert spread(NAMED, *[100.0] * 8) < 0.5 * spread(NAMED, *[30.0, 300.0] * 4)
    assert spread(NAMED, *[100.0] * 8) < 0.5 * spread(TEXT, *[100.0] * 8), "the next one may be of another workload"


def test_batches_of_the_same_file_narrow_it_although_no_workload_names_them() -> None:
    model, group = FLEET.deployments("small")[0], LengthGroup("small", "", TEXT.shape)

    def spread(*means: float, **kind: Any) -> float:
        records = {group: [LengthRecord(mean, 0.0, 300) for mean in means]}
        return AnswerLengths(records, **kind).expected(CONTEXT.analyze(TEXT), model).spread

    assert spread(*[100.0] * 15, repeated=[group]) < 0.3 < 0.9 < spread(*[100.0] * 15)
    assert spread(*[30.0, 300.0] * 7, repeated=[group]) > 0.9


def test_a_workload_keeps_its_reasoning_in_another_shape() -> None:
    kinds = {"arith": (100.0, 460.0), "ticket": (4.0, 150.0), "tides": (125.0, 220.0)}
    lengths = AnswerLengths(
        {LengthGroup("large", name, ""): [LengthRecord(*means, 200)] for name, means in kinds.items()}
    )
    model = FLEET.deployments("large")[0]

    def expected(workload: str, max_tokens: int | None = None) -> ExpectedLength:
        query = Query("What is 6 times 7?", workload=workload, max_tokens=max_tokens)
        return lengths.expected(CONTEXT.analyze(query), model)

    same, capped, other = expected("arith"), expected("arith", 1500), expected("another")
    assert (same.reasoning_tokens, capped.reasoning_tokens) == (460.0, 460.0)
    assert other.reasoning_tokens == pytest.approx((460 + 150 + 220) / 3), "that of the tier"
    assert same.spread < capped.spread < other.spread < 0.5, (
        "the tier's reasoning is known, the text is short beside it"
    )
    assert TEXT_TOKENS < capped.tokens < same.tokens, "the workload's answers count, as far as shapes are alike"


@pytest.mark.skipif(not list(DATA.glob("*_outcomes.jsonl")), reason="set POINTSMAN_DATA to the recorded outcomes")
@pytest.mark.parametrize("earlier", [1, 2, 3])
def test_nine_of_ten_intervals_hold_a_batch_of_another_kind_than_the_earlier_ones(earlier: int) -> None:
    kinds = recorded_means()
    model, case = FLEET.deployments("large")[0], CONTEXT.analyze(Query("?"))
    held = []
    for kind, mean in kinds.items():
        for others in combinations([known for name, known in kinds.items() if name != kind], earlier):
            found = of(case.query, *others, tier="large").expected(case, model)
            range_ = interval(found.tokens, found.spread)
            held.append(range_.low <= mean <= range_.high)
    assert round(sum(held) / len(held), 2) >= 0.9


def recorded_means() -> dict[str, float]:
    """Mean tokens of the top tier's answers, about, by file."""
    found = {}
    for path in sorted(DATA.glob("*_outcomes.jsonl")):
        outcomes = (json.loads(line)["outcomes"]["large"] for line in path.read_bytes().splitlines())
        if lengths := [len(answer) / 4 for one in outcomes if (answer := one.get("answer"))]:
            found[path.stem] = sum(lengths) / len(lengths)
    return found


def test_only_a_workload_with_a_name_is_known() -> None:
    model = FLEET.deployments("small")[0]
    known = [of(query, 50.0).expected(CONTEXT.analyze(query), model).known for query in (NAMED, TEXT)]
    assert known == [True, False], "other queries without a name may be unlike these"
    assert not of(NAMED, 50.0, tier="large").expected(CONTEXT.analyze(NAMED), model).known


def test_a_cap_of_known_answers_is_tighter_than_the_cold_one() -> None:
    assert AnswerLengths().cold_cap(TEXT, "small") == COLD_CAP
    assert of(NAMED, 50.0).cold_cap(NAMED, "small") == CAP_TIMES * 50
    assert of(TEXT, 50.0).cold_cap(TEXT, "small") == UNNAMED_CAP_TIMES * 50
    assert of(TEXT, 50.0).cold_cap(TEXT, "large") == COLD_CAP
    assert of(LABEL, 1.0).cold_cap(LABEL, "small") == LEAST_CAP
    assert of(TEXT, 3_000.0).cold_cap(TEXT, "small") == COLD_CAP


def test_what_a_batch_stores_of_its_shapes_says_the_same_when_it_is_read() -> None:
    known = of(TEXT, 20.0, 40.0)
    read = AnswerLengths.from_json(known.of_shapes([TEXT.shape]))
    assert known.of_shapes([LABEL.shape]) == []
    assert math.log(tokens(read, TEXT) / tokens(known, TEXT)) == pytest.approx(0, abs=0.2)


def test_a_batch_of_as_many_system_prompts_as_queries_takes_no_memory_for_each() -> None:
    lengths, model = AnswerLengths(), FLEET.deployments("small")[0]
    case = CONTEXT.analyze(TEXT)
    tracemalloc.start()
    for number in range(8000):
        lengths.expected(case._replace(query=TEXT._replace(workload=f"prompt-{number}")), model)
        if number == 5000:  # Python keeps some thousand freed tuples of each length
            before, _ = tracemalloc.get_traced_memory()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 50_000
