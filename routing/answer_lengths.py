"""Expected lengths of answers, by earlier answers to queries of the same workload and shape, else by the query's words.

The tokens that each tier took for the answers of a workload are an observation of the logarithm of their mean length.
The guess from a query's words is another one. They are averaged, weighted by their precision, which is lower for less
similar groups: a normal model with known variances (Gelman et al., Bayesian Data Analysis, 2.5). All other tiers
together are one observation, and so are all other workloads, because all of them differ from the group in the same way.
None of these figures is a bound.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import pvariance
from typing import Any, Final, NamedTuple

from routing.fleet import USUAL_REASONING_TOKENS, Model
from routing.heuristics.heuristic_router import expected_completion_tokens
from routing.policy.routing_case import RoutingCase
from routing.query import Query

GUESS_SPREAD: Final = 0.9
"""Standard deviation of the logarithm of a mean length around the guess from the words. On the recorded answers of
eight public data sets (GSM8K, MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT, QA-Eval, WMT 23) it is 0.85."""

WORKLOAD_SPREAD: Final = 1.0
"""The same between workloads whose answers have the same shape, on these sets."""

TIER_SPREAD: Final = 0.45
"""The same between tiers for the same queries, on these sets. It is larger if the tiers of a workload differ more."""

BATCH_SPREAD: Final = 0.2
"""The same between batches of a workload, until several batches are known."""

UNNAMED_SPREAD: Final = 0.7
"""The same for queries without a workload, if some of them are of the same kind as earlier ones."""

OTHER_KIND_SPREAD: Final = 0.9
"""The same if the next batch may be of another kind, as for unrelated workloads. With it, 90 of 100 intervals contain
the mean of one of these data sets after batches of others; with `UNNAMED_SPREAD`, 77 do. Predictors from the prompts'
length, lines, digits, capitals and question marks, each fitted on seven sets, predicted the eighth worse than the mean
of the seven."""

REASONING_SPREAD: Final = 0.5
"""Standard deviation of the logarithm of a tier's mean reasoning between workloads, until several are known."""

LEAST_REASONING: Final = 10.0
"""Fewer tokens count as none."""

SHAPE_SPREAD: Final = 0.3
"""The same between shapes of a workload: the questions are of one kind."""

ANSWER_SPREAD: Final = 1.0
"""Standard deviation of one answer's length around the mean, relative to the mean: 0.99 on 784 questions of GSM8K."""

COLD_CAP: Final = 2_048
"""Most answers have fewer tokens than this. Used while no answers are known."""

LEAST_CAP: Final = 64

LEAST_ANSWERS: Final = 8
"""Of a tier, for its lengths to be known: the texts of other tiers do not say how much it reasons."""

UNKNOWN_REASONING: Final = USUAL_REASONING_TOKENS["medium"]
"""Tokens that an answer may reason, as long as the model gave none and its effort is not in the fleet: medium is the
default of most APIs."""

GROUPS_EACH: Final = 100
"""Maximum number of groups per shape. A forecast is stored with its batch, and is made while the batch is submitted."""

KEPT_EVIDENCE: Final = 1000
"""Maximum number of groups. A batch may have one for each query, if system prompts and `max_tokens` differ."""

CAP_TIMES: Final = 8
UNNAMED_CAP_TIMES: Final = 16
"""In a lognormal distribution with this spread, 99 of 100 values are below six times the mean. The mean itself is
uncertain, in particular for queries without a workload."""


class LengthGroup(NamedTuple):
    """A group of answers of similar length: those of one tier to queries of one workload ("" without one) and one
    shape."""

    tier: str
    workload: str
    shape: str


class LengthRecord(NamedTuple):
    """The mean tokens of the answers of a group in one batch. ``tokens`` counts the text alone, without reasoning."""

    tokens: float
    reasoning_tokens: float
    answers: int


class ExpectedLength(NamedTuple):
    """The expected tokens of an answer. ``spread`` is the relative standard deviation of their mean in a batch."""

    tokens: float
    reasoning_tokens: float
    spread: float
    known: bool
    """Whether the tier answered queries of this named workload and shape before. Other answers may differ."""

    @property
    def completion_tokens(self) -> int:
        """The tokens that are billed."""
        return round(self.tokens + self.reasoning_tokens)


NO_TOKENS: Final = ExpectedLength(0.0, 0.0, 0.0, known=False)


class _Known(NamedTuple):
    """The logarithm of a group's mean length, its variance, and the variance of the next batch around it."""

    group: LengthGroup
    mean: float
    variance: float
    next_variance: float
    reasoning_tokens: float
    answers: int


class _Evidence(NamedTuple):
    """The evidence on a group: the sum of precisions, the sum of logarithms times precision, and the next batch's
    variance."""

    weight: float
    total: float
    next_variance: float


class AnswerLengths:
    """Lengths by group, with a record for each batch that has any. Only the best known groups of each shape are kept.

    The records in `repeated` come from queries of the next batch's kind, although no workload names it.
    """

    def __init__(
        self,
        records: Mapping[LengthGroup, Sequence[LengthRecord]] | None = None,
        *,
        repeated: Collection[LengthGroup] = (),
    ) -> None:
        self._by_shape: dict[str, list[_Known]] = {}
        self._by_group: dict[LengthGroup, _Known] = {}
        self._by_workload: dict[str, list[_Known]] = {}
        self._evidence = lru_cache(maxsize=KEPT_EVIDENCE)(self._weigh)
        reasoned: dict[str, list[LengthRecord]] = {}
        self._answers: Counter[str] = Counter()
        pooled = (_pooled(group, some, group in repeated) for group, some in (records or {}).items())
        for known in sorted(pooled, key=lambda known: -known.answers):
            alike = self._by_shape.setdefault(known.group.shape, [])
            if len(alike) < GROUPS_EACH:
                alike.append(known)
                self._by_group[known.group] = known
                self._by_workload.setdefault(known.group.workload, []).append(known)
                self._answers[known.group.tier] += known.answers
                reasoned.setdefault(known.group.tier, []).extend((records or {})[known.group])
        self._repeated = frozenset(repeated)
        self._reasoning = {tier: _mean_reasoning(some) for tier, some in reasoned.items()}
        self._reasoning_spread = {tier: self._between_workloads(tier) for tier in reasoned}

    def expected(self, case: RoutingCase, model: Model) -> ExpectedLength:
        """Return the expected length of an answer of ``model``. An embedding has no completion tokens."""
        query = case.query
        if model.embeds:
            return NO_TOKENS
        own = LengthGroup(model.tier, query.workload_or_template, query.shape)
        evidence = self._evidence(own)
        guess = math.log(expected_completion_tokens(case.features, query))
        weight, total = evidence.weight + GUESS_SPREAD**-2, evidence.total + GUESS_SPREAD**-2 * guess
        usual = 0.0 if query.effort is not None else model.usual_reasoning_tokens
        return self._length(own, _Evidence(weight, total, evidence.next_variance), usual, query.max_tokens)

    def of_group(self, group: LengthGroup) -> ExpectedLength | None:
        """Return the expected length of an answer of ``group`` by earlier answers alone. None if there are none."""
        evidence = self._evidence(group)
        return self._length(group, evidence, 0.0, None) if evidence.weight else None

    def _length(self, own: LengthGroup, evidence: _Evidence, usual: float, max_tokens: int | None) -> ExpectedLength:
        tokens = math.exp(evidence.total / evidence.weight)
        if max_tokens:
            tokens = min(tokens, max_tokens)
        text_spread = math.sqrt(math.expm1(1.0 / evidence.weight + evidence.next_variance))
        known = bool(own.workload) and own in self._by_group
        reasoning, reasoning_spread = self._reasons(own, usual)
        spread = math.hypot(tokens * text_spread, reasoning * reasoning_spread) / (tokens + reasoning)
        return ExpectedLength(tokens, reasoning, spread, known)

    def _weigh(self, own: LengthGroup) -> _Evidence:
        alike = list(self._by_shape.get(own.shape, ()))
        if own.workload and not any(known.group.workload == own.workload for known in alike):
            alike += self._by_workload.get(own.workload, ())  # in other shapes: as near as other workloads in its own
        of_workload = [self._by_group.get(own._replace(tier=tier)) for tier in self._reasoning]
        means = [known.mean for known in of_workload if known is not None]
        tier_variance = max(TIER_SPREAD**2, pvariance(means) if len(means) > 1 else 0.0)
        other_tiers, others = len(means) - (own in self._by_group), len(alike) - len(means)
        weight = total = 0.0
        next_variance = _b0(own) ** 2
        for known in alike:
            tier, workload, shape = known.group
            apart, groups = (0.0, 1) if tier == own.tier else (tier_variance, other_tiers)
            if shape == own.shape and workload == own.workload:
                if tier == own.tier or own not in self._by_group:
                    next_variance = known.next_variance
            else:
                apart, groups = apart + WORKLOAD_SPREAD**2, others
            weight += (precision := 1.0 / ((known.variance + apart) * groups))
            total += precision * known.mean
        return _Evidence(weight, total, next_variance)

    @property
    def basis(self) -> str:
        """The source of the estimate, in words for people."""
        answers = self._answers.total()
        return f"{answers:,} earlier answers, by workload and shape" if answers else "estimated from the words"

    def is_measured(self, tier: str) -> bool:
        """Whether the tier gave `LEAST_ANSWERS` before: else not even whether it reasons is known."""
        return self._answers[tier] >= LEAST_ANSWERS

    def cold_cap(self, query: Query, tier: str) -> int:
        """Return a number of tokens that 99 of 100 answers stay below, as far as earlier answers show."""
        known = self._by_group.get(LengthGroup(tier, query.workload_or_template, query.shape))
        if known is None:
            return COLD_CAP
        times = CAP_TIMES if known.group.workload else UNNAMED_CAP_TIMES
        return max(LEAST_CAP, min(COLD_CAP, round(times * (math.exp(known.mean) + known.reasoning_tokens))))

    def of_shapes(self, shapes: Iterable[str]) -> list[list[Any]]:
        """Return the evidence on answers of ``shapes``, as a JSON array for `from_json`."""
        return [
            [*known.group, round(math.exp(known.mean), 1), round(known.reasoning_tokens, 1), known.answers]
            for shape in sorted(set(shapes))
            for known in self._by_shape.get(shape, ())
        ]

    @classmethod
    def from_json(
        cls, rows: Iterable[Sequence[Any]], newer: Mapping[LengthGroup, LengthRecord] | None = None
    ) -> "AnswerLengths":
        """Return the lengths stored by `of_shapes`, with those of a ``newer`` batch."""
        records = {LengthGroup(*row[:3]): [LengthRecord(*row[3:])] for row in rows}
        for group, record in (newer or {}).items():
            records.setdefault(group, []).append(record)
        return cls(records)

    def _reasons(self, own: LengthGroup, usual: float) -> tuple[float, float]:
        """Return the reasoning tokens, and the standard deviation of their logarithm in the next batch.

        They are those of the tier's earlier answers of the group, else of its workload in other shapes, else of all, or
        ``usual``, the number at the model's effort.
        """
        between = self._reasoning_spread.get(own.tier, REASONING_SPREAD)
        if (known := self._by_group.get(own)) is not None:
            is_alike = bool(own.workload) or own in self._repeated
            return known.reasoning_tokens, BATCH_SPREAD if is_alike else between
        others = [other for other in self._by_workload.get(own.workload, ()) if other.group.tier == own.tier]
        if own.workload and others:
            answers = sum(other.answers for other in others)
            return sum(other.answers * other.reasoning_tokens for other in others) / answers, SHAPE_SPREAD
        return self._reasoning.get(own.tier, usual), between

    def _between_workloads(self, tier: str) -> float:
        known = [group.reasoning_tokens for group in self._by_group.values() if group.group.tier == tier]
        logs = [math.log(max(tokens, LEAST_REASONING)) for tokens in known]
        return math.sqrt((2 * REASONING_SPREAD**2 + len(logs) * pvariance(logs)) / (2 + len(logs)))


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
