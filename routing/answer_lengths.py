"""How long answers are: by the answers of earlier batches to queries of the same workload and shape, else by words.

What each tier took for the answers of a workload is an observation of the logarithm of their mean length; so is the
guess from the words of a query. They are averaged by their precision, and count the less, the less they are alike: a
normal model with known variances (Gelman et al., Bayesian Data Analysis, 2.5). What other tiers took is one observation
however many they are, and so is what other workloads took: all differ from the own group alike. Nothing is a bound.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import pvariance
from typing import Any, Final, NamedTuple

from routing.fleet import Model
from routing.heuristics.heuristic_router import expected_completion_tokens
from routing.policy.routing_case import RoutingCase
from routing.query import Query

GUESS_SPREAD: Final = 0.9
"""Standard deviation of the logarithm of a mean length about the guess from the words. Measured on the recorded answers
of eight public data sets (GSM8K, MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT, QA-Eval, WMT 23): 0.85."""

WORKLOAD_SPREAD: Final = 1.0
"""The same from one workload to another whose answers have the same shape, on these sets."""

TIER_SPREAD: Final = 0.45
"""The same from one tier to another for the same queries, on these sets; more where those of a workload differ more."""

BATCH_SPREAD: Final = 0.2
"""The same from one batch to the next of a workload, until several are known."""

UNNAMED_SPREAD: Final = 0.7
"""The same of queries that name no workload, some of which are of the same kind as before."""

OTHER_KIND_SPREAD: Final = 0.9
"""The same where the next batch may be of another kind, as of workloads about the guess. With it 90 of 100 intervals
hold the mean of one of these data sets after batches of others, with `UNNAMED_SPREAD` 77. Length, lines, digits,
capitals and question marks of prompts, each fitted on seven sets, foretold the eighth worse than the mean of the seven.
"""

ANSWER_SPREAD: Final = 1.0
"""Standard deviation of one answer's length about the mean, relative to it: 0.99 on 784 questions of GSM8K."""

COLD_CAP: Final = 2_048
"""Tokens that most answers stay below, as long as none are known."""

LEAST_CAP: Final = 64

LEAST_ANSWERS: Final = 8
"""Of a tier, for its lengths to be known: the texts of other tiers do not say how much it reasons."""

GROUPS_EACH: Final = 100
"""Of each shape: a forecast is stored with its batch, and made while the batch is submitted."""

KEPT_EVIDENCE: Final = 1000
"""Groups, of which a batch may have one for each of its queries: by system prompts and `max_tokens` of their own."""

CAP_TIMES: Final = 8
UNNAMED_CAP_TIMES: Final = 16
"""Of a lognormal distribution with that spread, 99 in 100 are below six times the mean; the mean is not known exactly,
and of queries without a workload less so."""


class LengthGroup(NamedTuple):
    """Answers that are about as long: those of a tier to queries of one workload ("" without one) and shape."""

    tier: str
    workload: str
    shape: str


class LengthRecord(NamedTuple):
    """Mean tokens of so many answers of a group in one batch. ``tokens`` are those of the text alone."""

    tokens: float
    reasoning_tokens: float
    answers: int


class ExpectedLength(NamedTuple):
    """Tokens of an answer. ``spread`` is the standard deviation of the text's, of a batch's mean, relative to it."""

    tokens: float
    reasoning_tokens: float
    spread: float
    known: bool
    """By earlier answers of the tier to queries of its workload, which has a name, and shape: others may be unlike."""

    @property
    def completion_tokens(self) -> int:
        """What is billed."""
        return round(self.tokens + self.reasoning_tokens)


NO_TOKENS: Final = ExpectedLength(0.0, 0.0, 0.0, known=False)


class _Known(NamedTuple):
    """The logarithm of a group's mean length, its variance, and that of the next batch about it."""

    group: LengthGroup
    mean: float
    variance: float
    next_variance: float
    reasoning_tokens: float
    answers: int


class _Evidence(NamedTuple):
    """What is known of a group: the sum of precisions, of the logarithms times them, and the next batch's variance."""

    weight: float
    total: float
    next_variance: float


class AnswerLengths:
    """Lengths by group, each with a record for every batch that had any; of each shape the best known groups.

    The records of `repeated` groups are of queries of the next batch's kind, although no workload names it.
    """

    def __init__(
        self,
        records: Mapping[LengthGroup, Sequence[LengthRecord]] | None = None,
        *,
        repeated: Collection[LengthGroup] = (),
    ) -> None:
        self._by_shape: dict[str, list[_Known]] = {}
        self._by_group: dict[LengthGroup, _Known] = {}
        self._evidence = lru_cache(maxsize=KEPT_EVIDENCE)(self._weigh)
        reasoned: dict[str, list[LengthRecord]] = {}
        self._answers: Counter[str] = Counter()
        pooled = (_pooled(group, some, group in repeated) for group, some in (records or {}).items())
        for known in sorted(pooled, key=lambda known: -known.answers):
            alike = self._by_shape.setdefault(known.group.shape, [])
            if len(alike) < GROUPS_EACH:
                alike.append(known)
                self._by_group[known.group] = known
                self._answers[known.group.tier] += known.answers
                reasoned.setdefault(known.group.tier, []).extend((records or {})[known.group])
        self._reasoning = {tier: _mean_reasoning(some) for tier, some in reasoned.items()}

    def expected(self, case: RoutingCase, model: Model) -> ExpectedLength:
        """The length of an answer of ``model``; vectors have no tokens."""
        query = case.query
        if model.embeds:
            return NO_TOKENS
        own = LengthGroup(model.tier, query.workload or query.template, query.shape)
        evidence = self._evidence(own)
        guess = math.log(expected_completion_tokens(case.features, query))
        weight = evidence.weight + GUESS_SPREAD**-2
        tokens = math.exp((evidence.total + GUESS_SPREAD**-2 * guess) / weight)
        if query.max_tokens:
            tokens = min(tokens, query.max_tokens)
        spread = math.sqrt(math.expm1(1.0 / weight + evidence.next_variance))
        known = bool(own.workload) and own in self._by_group
        return ExpectedLength(tokens, self._reasoning_tokens(own, query, model), spread, known)

    def _weigh(self, own: LengthGroup) -> _Evidence:
        alike = self._by_shape.get(own.shape, ())
        of_workload = [self._by_group.get(own._replace(tier=tier)) for tier in self._reasoning]
        means = [known.mean for known in of_workload if known is not None]
        tier_variance = max(TIER_SPREAD**2, pvariance(means) if len(means) > 1 else 0.0)
        other_tiers, others = len(means) - (own in self._by_group), len(alike) - len(means)
        weight = total = 0.0
        next_variance = _b0(own) ** 2
        for known in alike:
            tier, workload, _ = known.group
            apart, groups = (0.0, 1) if tier == own.tier else (tier_variance, other_tiers)
            if workload == own.workload:
                if tier == own.tier or own not in self._by_group:
                    next_variance = known.next_variance
            else:
                apart, groups = apart + WORKLOAD_SPREAD**2, others
            weight += (precision := 1.0 / ((known.variance + apart) * groups))
            total += precision * known.mean
        return _Evidence(weight, total, next_variance)

    @property
    def basis(self) -> str:
        """Where it comes from, for people."""
        answers = self._answers.total()
        return f"{answers:,} earlier answers, by workload and shape" if answers else "estimated from the words"

    def is_measured(self, tier: str) -> bool:
        """Whether the tier gave `LEAST_ANSWERS` before: else not even whether it reasons is known."""
        return self._answers[tier] >= LEAST_ANSWERS

    def cold_cap(self, query: Query, tier: str) -> int:
        """Tokens that 99 of 100 answers stay below, as far as anything is known of them."""
        known = self._by_group.get(LengthGroup(tier, query.workload or query.template, query.shape))
        if known is None:
            return COLD_CAP
        times = CAP_TIMES if known.group.workload else UNNAMED_CAP_TIMES
        return max(LEAST_CAP, min(COLD_CAP, round(times * (math.exp(known.mean) + known.reasoning_tokens))))

    def of_shapes(self, shapes: Iterable[str]) -> list[list[Any]]:
        """What is known of answers of ``shapes``, as a JSON array; `from_json` reads it."""
        return [
            [*known.group, round(math.exp(known.mean), 1), round(known.reasoning_tokens, 1), known.answers]
            for shape in sorted(set(shapes))
            for known in self._by_shape.get(shape, ())
        ]

    @classmethod
    def from_json(cls, rows: Iterable[Sequence[Any]]) -> "AnswerLengths":
        """From `of_shapes`."""
        return cls({LengthGroup(*row[:3]): [LengthRecord(*row[3:])] for row in rows})

    def _reasoning_tokens(self, own: LengthGroup, query: Query, model: Model) -> float:
        """By earlier answers of the group, else of the tier, else what is usual at the model's effort."""
        if (known := self._by_group.get(own)) is not None:
            return known.reasoning_tokens
        return self._reasoning.get(own.tier, 0.0 if query.effort is not None else model.usual_reasoning_tokens)


UNKNOWN_LENGTHS: Final = AnswerLengths()


def _pooled(group: LengthGroup, records: Sequence[LengthRecord], is_repeated: bool) -> _Known:
    logs = [math.log(max(record.tokens, 1.0)) for record in records]
    plain = sum(logs) / len(logs)
    between = (2 * _b0(group) ** 2 + sum((one - plain) ** 2 for one in logs)) / (2 + len(logs))
    weights = [1.0 / (between + ANSWER_SPREAD**2 / record.answers) for record in records]
    tokens = sum(weight * math.exp(one) for weight, one in zip(weights, logs, strict=True)) / sum(weights)
    answers = sum(record.answers for record in records)
    following = between if group.workload or is_repeated else max(between, OTHER_KIND_SPREAD**2)
    return _Known(group, math.log(tokens), 1.0 / sum(weights), following, _mean_reasoning(records), answers)


def _b0(group: LengthGroup) -> float:
    return BATCH_SPREAD if group.workload else UNNAMED_SPREAD


def _mean_reasoning(records: Sequence[LengthRecord]) -> float:
    return sum(one.reasoning_tokens * one.answers for one in records) / sum(one.answers for one in records)
