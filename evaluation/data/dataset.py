"""Data files: JSON lines with outcomes of models, or with the tier that was expected.

Two kinds, distinct by their fields::

    {"id", "query", "domain"?, "outcomes": {"small": {"model"?, "correct", "answer"?}, "large": {…}}}
    {"id"?, "query", "expected_tier", "category"?}

``correct`` is true or false, or a grade from 0 to 1. All lines of a file are of one kind and know
the same tiers. A labelled line says the same as outcomes in which the expected tier and every
more expensive one answer well, and that is how a router learns from it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.data.array_types import Floats, Places
from evaluation.data.dataset_errors import BrokenLine, DataError, DataFault, json_object

LADDER: Final = ("small", "medium", "large", "special")
"""The default order of the tiers, from the cheapest up. ``special`` is not on the ladder."""

ASIDE: Final = "special"


class Kind(StrEnum):
    """The lines of a file."""

    OUTCOMES = "outcomes"
    LABELLED = "labelled"


@dataclass(frozen=True, slots=True)
class Example:
    """One line. ``ok`` is how well each tier did, 0 to 1; ``answers`` holds those that were recorded."""

    id: str
    line: int
    query: str = field(repr=False)
    ok: Mapping[str, float]
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    domain: str | None = None
    """The subject or category that the data name; never shown to a router."""
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file's examples. ``tiers`` run from the cheapest to the most expensive."""

    name: str
    kind: Kind
    tiers: tuple[str, ...]
    examples: tuple[Example, ...] = field(repr=False)
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def queries(self) -> list[str]:
        """The texts, in order."""
        return [example.query for example in self.examples]

    @property
    def cheapest(self) -> str:
        """Return the smaller model of the compared pair."""
        return self.tiers[0]

    @property
    def most_expensive(self) -> str:
        """Return the larger model of the compared pair."""
        return self.tiers[-1]

    def ok(self, tier: str) -> Floats:
        """How well ``tier`` did on each example, shape (n,)."""
        return np.array([example.ok[tier] for example in self.examples], dtype=np.float64)

    @property
    def labels(self) -> Floats:
        """How well each tier did, shape (n, tiers)."""
        return np.column_stack([self.ok(tier) for tier in self.tiers])

    @property
    def has_answers(self) -> bool:
        """Whether the cheapest tier's answers are recorded for every example."""
        return all(self.cheapest in example.answers for example in self.examples)

    @property
    def answers(self) -> list[str]:
        """The cheapest tier's answers. Raises KeyError where one is not recorded."""
        return [example.answers[self.cheapest] for example in self.examples]

    @property
    def domains(self) -> list[str] | None:
        """The domain of each example, or None unless all have one."""
        named = [example.domain for example in self.examples if example.domain is not None]
        return named if len(named) == len(self.examples) and len(set(named)) > 1 else None

    def pick(self, places: Sequence[int] | Places) -> "Dataset":
        """The same data with the examples at ``places`` only."""
        return Dataset(self.name, self.kind, self.tiers, tuple(self.examples[int(p)] for p in places), self.sha256)


def read_dataset(path: Path, *, ladder: Sequence[str] = LADDER) -> Dataset:
    """The data in ``path``. Raises DataError with every fault found, OSError where it cannot be read."""
    raw = path.read_bytes()
    reader = _DatasetReader(str(path), ladder)
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            reader.take(number, line)
    return reader.finish(path.stem, hashlib.sha256(raw).hexdigest())


class _DatasetReader:
    """Takes lines one by one, gathers what is wrong with them, and what they have in common."""

    def __init__(self, path: str, ladder: Sequence[str]) -> None:
        self.path = path
        self.ladder = tuple(ladder)
        self.kind: Kind | None = None
        self.tiers: tuple[str, ...] = ()
        self.examples: list[Example] = []
        self.faults: list[DataFault] = []
        self.seen: dict[str, int] = {}

    def take(self, number: int, line: bytes) -> None:
        try:
            body = json_object(number, line)
        except BrokenLine as broken:
            self.faults.append(broken.fault)
            return
        faults = list(self._check(number, body))
        self.faults += faults
        if not faults:
            self.examples.append(self._example(number, body))

    def finish(self, name: str, sha256: str) -> Dataset:
        if not self.examples and not self.faults:
            fix = "give a file of JSON lines with 'query' and 'outcomes'"
            self.faults.append(DataFault(0, "", "contains no lines", fix))
        if self.faults or self.kind is None:
            raise DataError(self.path, tuple(self.faults))
        return Dataset(name, self.kind, self.tiers, tuple(self.examples), sha256)

    def _check(self, number: int, body: Mapping[str, Any]) -> Iterator[DataFault]:
        query = body.get("query")
        if not isinstance(query, str) or not query.strip():
            yield DataFault(number, "query", "is missing or empty", "give the user's text as a string")
        identity = body.get("id")
        if isinstance(identity, str):
            first = self.seen.setdefault(identity, number)
            if first != number:
                yield DataFault(number, "id", f"was already used on line {first}", "give each line a unique id")
        elif identity is not None:
            yield DataFault(number, "id", "is not a string", "quote it")
        for name in ("domain", "category"):
            if body.get(name) is not None and not isinstance(body[name], str):
                yield DataFault(number, name, "is not a string", "quote it, or leave it out")
        kind = self._kind(body)
        if kind is None:
            yield DataFault(
                number,
                "outcomes",
                "is missing, and so is 'expected_tier'",
                'add "outcomes": {"small": {"correct": …}, "large": {"correct": …}} or "expected_tier": "small"',
            )
            return
        if self.kind is not None and kind != self.kind:
            yield DataFault(
                number,
                kind,
                f"the lines before have '{'outcomes' if self.kind == Kind.OUTCOMES else 'expected_tier'}'",
                "put the two kinds in two files",
            )
            return
        yield from self._check_outcomes(number, body) if kind == Kind.OUTCOMES else self._check_label(number, body)
        self.kind = self.kind or kind

    def _kind(self, body: Mapping[str, Any]) -> Kind | None:
        if "outcomes" in body:
            return Kind.OUTCOMES
        return Kind.LABELLED if "expected_tier" in body else None

    def _check_label(self, number: int, body: Mapping[str, Any]) -> Iterator[DataFault]:
        self.tiers = self.tiers or tuple(tier for tier in self.ladder if tier != ASIDE)
        if body["expected_tier"] not in self.ladder:
            yield DataFault(number, "expected_tier", "names no tier", f"use one of {', '.join(self.ladder)}")

    def _check_outcomes(self, number: int, body: Mapping[str, Any]) -> Iterator[DataFault]:
        outcomes = body["outcomes"]
        if not isinstance(outcomes, dict) or not outcomes or not all(isinstance(o, dict) for o in outcomes.values()):
            yield DataFault(
                number, "outcomes", "is not an object of tiers", '{"small": {"correct": true}, "large": {…}}'
            )
            return
        faults = list(_check_grades(number, outcomes))
        yield from faults
        if len(outcomes) < 2:
            yield DataFault(number, "outcomes", "has only one tier", "give at least two, to choose between")
        elif not self.tiers and not faults:
            self.tiers = self._in_order(tuple(outcomes))
        elif self.tiers and set(outcomes) != set(self.tiers):
            yield DataFault(
                number, "outcomes", f"has tiers other than {', '.join(self.tiers)}", "give each line the same"
            )

    def _in_order(self, tiers: tuple[str, ...]) -> tuple[str, ...]:
        known = all(tier in self.ladder for tier in tiers)
        return tuple(sorted(tiers, key=self.ladder.index)) if known else tiers

    def _example(self, number: int, body: Mapping[str, Any]) -> Example:
        identity = body.get("id") or f"line-{number}"
        if self.kind == Kind.LABELLED:
            expected = body["expected_tier"]
            ok = {tier: float(self.ladder.index(tier) >= self.ladder.index(expected)) for tier in self.tiers}
            return Example(identity, number, body["query"], ok, domain=body.get("category"), expected=expected)
        outcomes = body["outcomes"]
        return Example(
            identity,
            number,
            body["query"],
            {tier: float(outcomes[tier]["correct"]) for tier in self.tiers},
            {tier: outcome["answer"] for tier, outcome in outcomes.items() if isinstance(outcome.get("answer"), str)},
            domain=body.get("domain"),
        )


def _check_grades(number: int, outcomes: Mapping[str, Mapping[str, Any]]) -> Iterator[DataFault]:
    for tier, outcome in outcomes.items():
        grade = outcome.get("correct")
        if not isinstance(grade, bool | int | float) or not 0 <= grade <= 1:
            yield DataFault(
                number, f"outcomes.{tier}.correct", "must be true, false or a number from 0 to 1", "grade the answer"
            )
        if outcome.get("answer") is not None and not isinstance(outcome["answer"], str):
            yield DataFault(number, f"outcomes.{tier}.answer", "is not a string", "quote it, or leave it out")
