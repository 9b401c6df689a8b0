"""Small made-up data from which something can be learned: words tell how hard a question is."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.production.labelled_log import LabelledLog
from routing.query import Query

EASY = ("name", "list", "what", "colour", "city", "greet", "count")
HARD = ("prove", "derive", "theorem", "integral", "manifold", "lemma", "axiom")
FILLER = ("the", "of", "a", "and", "in", "for", "with", "about")


def outcome_lines(n: int, *, seed: int = 0, shuffled: bool = False) -> list[dict[str, Any]]:
    """Easy questions are answered by both models, hard ones mostly by the large one only."""
    random_ = random.Random(seed)
    lines = []
    for place in range(n):
        hard = random_.random() < 0.5
        words = random_.choices(HARD if hard else EASY, k=4) + random_.choices(FILLER, k=random_.randrange(3, 14))
        random_.shuffle(words)
        small = random_.random() < (0.2 if hard else 0.95)
        total = random_.randrange(3, 90)
        lines.append(
            {
                "id": f"q-{place}",
                "query": " ".join(words) + "?",
                "domain": "maths" if hard else "chat",
                "outcomes": {
                    "small": {"correct": small, "answer": _answer(total, right=small)},
                    "large": {"correct": random_.random() < 0.95, "answer": _answer(total, right=True)},
                },
            }
        )
    if shuffled:
        outcomes = [line["outcomes"] for line in lines]
        random_.shuffle(outcomes)
        for line, own in zip(lines, outcomes, strict=True):
            line["outcomes"] = own
    return lines


def _answer(total: int, *, right: bool) -> str:
    said = total * 3 if right else total * 3 + 7
    return f"It is 3 x {total} = <<3*{total}={said}>>{said}.\n#### {said}"


def logged(n: int, *, large: float = 0.5) -> LabelledLog:
    """Of each query one tier by chance was asked, the large one with that probability."""
    tiers = ("small", "large")
    lines = outcome_lines(n, seed=3)
    chosen = (np.random.default_rng(4).random(n) < large).astype(np.int64)
    right = np.array([[float(line["outcomes"][tier]["correct"]) for tier in tiers] for line in lines])
    own = right[np.arange(n), chosen]
    queries = tuple(Query(text=line["query"]) for line in lines)
    propensity = np.where(chosen == 1, large, 1.0 - large)
    return LabelledLog(tiers, queries, chosen, propensity, own, own, np.full(n, 1e-3), np.zeros(n, dtype=np.bool_))


def label_lines(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Easy questions are expected at small, hard ones at large."""
    return [
        {
            "id": line["id"],
            "query": line["query"],
            "expected_tier": "large" if line["domain"] == "maths" else "small",
            "category": line["domain"],
        }
        for line in outcome_lines(n, seed=seed)
    ]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
