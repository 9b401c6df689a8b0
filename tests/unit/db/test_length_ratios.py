"""How far the lengths of few pairs are believed: on recorded answers, by what the other files say."""

import json
import math
import os
import random
import statistics
from pathlib import Path

import pytest

from db.reports.length_ratios import CLIMB_LONGER, PAIR_SPREAD, RATIO_SPREAD, shrunk_ratio
from settings import ROOT

DATA = Path(os.environ.get("POINTSMAN_DATA") or ROOT.parent / "shared" / "data")
Pairs = list[tuple[int, int]]


def test_few_pairs_are_drawn_to_equal_lengths_and_what_is_far_away_and_well_seen_is_not() -> None:
    assert shrunk_ratio(7.0, 12) == pytest.approx(6.1, abs=0.1)
    assert shrunk_ratio(1 / 7, 12) == pytest.approx(1 / shrunk_ratio(7.0, 12))
    assert shrunk_ratio(1.8, 1) == pytest.approx(1.08, abs=0.01)
    assert shrunk_ratio(1.4, 500) == pytest.approx(1.4, abs=0.01)
    assert shrunk_ratio(100.0, 40) == pytest.approx(98.0, abs=1.0)  # labels of one token against reasoning
    for pairs in (1, 8, 50):
        by_ratio = [shrunk_ratio(ratio, pairs) for ratio in (0.1, 0.5, 0.9, 1.0, 1.1, 2.0, 10.0)]
        assert by_ratio == sorted(by_ratio)
        assert by_ratio[0] >= 0.1
        assert by_ratio[-1] <= 10.0


def recorded_pairs() -> dict[tuple[str, str], Pairs]:
    """By file and tier: characters of its answers and of the top tier's to the same questions."""
    found: dict[tuple[str, str], Pairs] = {}
    for path in sorted(DATA.glob("*_outcomes.jsonl")):
        for line in path.read_bytes().splitlines():
            outcomes = json.loads(line)["outcomes"]
            for tier in outcomes.keys() - {"large"}:
                here, there = (outcomes[name].get("answer") for name in (tier, "large"))
                if here and there:
                    found.setdefault((path.stem, tier), []).append((len(here), len(there)))
    return found


def ratio_of(pairs: Pairs) -> float:
    return sum(there for _, there in pairs) / sum(here for here, _ in pairs)


@pytest.mark.skipif(not list(DATA.glob("*_outcomes.jsonl")), reason="set POINTSMAN_DATA to the recorded outcomes")
def test_on_recorded_answers_it_errs_less_than_equal_lengths_and_than_the_pairs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the spreads of the other files; also where every answer of the top tier is six times as long or short."""
    recorded = recorded_pairs()
    logs = {key: math.log(ratio_of(pairs)) for key, pairs in recorded.items()}
    draw = random.Random(1)
    errors: dict[tuple[str, float], list[float]] = {}
    for key, pairs in recorded.items():
        others = [log for other, log in logs.items() if other[0] != key[0]]
        spread = math.sqrt(statistics.mean(log**2 for log in others))
        for times in (1.0, 6.0, 1 / 6):
            for _ in range(30):
                some = [(here, there * times) for here, there in draw.sample(pairs, 12)]
                seen = ratio_of(some)
                truth = logs[key] + math.log(times)
                counted = {"equal": 1.0, "pairs": seen, "shrunk": shrunk_ratio(seen, 12, spread=spread)}
                for name, ratio in counted.items():
                    errors.setdefault((name, times), []).append((math.log(ratio) - truth) ** 2)
    error = {key: math.sqrt(statistics.mean(some)) for key, some in errors.items()}
    assert error["shrunk", 1.0] < error["pairs", 1.0] < error["equal", 1.0]
    for times in (6.0, 1 / 6):
        assert error["shrunk", times] < 0.3 * error["equal", times]
    assert math.sqrt(statistics.mean(log**2 for log in logs.values())) == pytest.approx(RATIO_SPREAD, abs=0.03)
    assert PAIR_SPREAD > RATIO_SPREAD


@pytest.mark.skipif(not list(DATA.glob("*_outcomes.jsonl")), reason="set POINTSMAN_DATA to the recorded outcomes")
def test_doubtful_queries_have_longer_answers_and_the_same_ratio_of_texts() -> None:
    """Wrong answers stand for doubted ones, with chance among them; each file is told by the others."""
    draw, found = random.Random(1), dict[str, list[tuple[float, float]]]()
    for path in sorted(DATA.glob("*_outcomes.jsonl")):
        rows = [json.loads(line)["outcomes"] for line in path.read_bytes().splitlines()]
        for tier in rows[0].keys() - {"large"}:
            both = [row for row in rows if row[tier].get("answer") and row["large"].get("answer")]
            both.sort(key=lambda row: float(row[tier]["correct"]) + 0.8 * draw.random())
            halves = [both[: len(both) // 10], both[len(both) // 10 :]] if both else []
            if not halves:
                continue
            here, there = (
                [statistics.mean(len(row[name]["answer"]) for row in half) for half in halves]
                for name in (tier, "large")
            )
            found.setdefault(path.stem, []).append((math.log(there[0] / there[1]), math.log(here[0] / here[1])))
    pairs = [pair for some in found.values() for pair in some]
    assert statistics.mean(there for there, _ in pairs) == pytest.approx(CLIMB_LONGER, abs=0.05)
    assert statistics.mean(there - here for there, here in pairs) == pytest.approx(0.0, abs=0.05)
    kept, cut = 0.0, 0.0
    for name, some in found.items():
        others = statistics.mean(there for other, pairs in found.items() for there, _ in pairs if other != name)
        kept += sum(there**2 for there, _ in some)
        cut += sum((there - others) ** 2 for there, _ in some)
    assert cut < 0.6 * kept
