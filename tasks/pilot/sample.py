"""A pilot's sample for the certification: each query with every tier's answer, in ladder order."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import orjson
from sqlalchemy import Row

from evaluation.quality_floor.text_features import excerpt
from routing.pilot import GOLD_KEY, TierAnswer
from routing.query import NO_EXPECTATION, Expectation, read_line


@dataclass(frozen=True, slots=True)
class SampledQuery:
    """One query of the sample, answered at least by the top tier."""

    query_id: int
    custom_id: str
    text: str = field(repr=False)
    """The user's text, cut to what policies and judges read. ``system`` is the system message's text."""
    expects: Expectation
    """The allowed forms of the answer."""
    answers: tuple[TierAnswer, ...] = field(repr=False)
    """The answers in ladder order. A tier without a usable answer has an empty text."""
    costs_usd: tuple[float, ...]
    """The cost of each tier's call, accepted or rejected. 0 without a call."""
    system: str = field(default="", repr=False)
    gold: str | None = field(default=None, repr=False)
    """The expected answer, if the line's metadata has one."""
    workload: str = ""
    """The name in the metadata, or that of the prompt's template. "" without either."""

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return len(self.text) + len(self.system) + sum(len(answer.text) for answer in self.answers)

    @property
    def reference(self) -> str:
        """The answer that others are compared with."""
        return self.answers[-1].text if self.gold is None else self.gold


def read_sample(rows: Iterable[Row[Any]], ladder: Sequence[str]) -> list[SampledQuery]:
    """Return the sampled queries with a usable answer of the top tier."""
    sample: list[SampledQuery] = []
    for _, group in groupby(rows, key=lambda row: row.query_id):
        by_tier = {row.tier: row for row in group}
        top = by_tier.get(ladder[-1])
        # No policy decides a query that its attachments or tools send off the ladder.
        if top is None or top.response is None or not is_usable(top) or not by_tier.keys() <= set(ladder):
            continue
        sample.append(_sampled(by_tier, ladder))
    return sample


def _sampled(by_tier: Mapping[str, Row[Any]], ladder: Sequence[str]) -> SampledQuery:
    any_row = by_tier[ladder[-1]]
    options = orjson.loads(any_row.options) if any_row.options else {}
    query = read_line(orjson.loads(any_row.body), options)
    answers = []
    for tier in ladder:
        row = by_tier.get(tier)
        answers.append(
            tier_answer(row, row.response) if row is not None and is_usable(row) else TierAnswer(tier, "", {})
        )
    return SampledQuery(
        query_id=any_row.query_id,
        custom_id=any_row.custom_id,
        text=excerpt(query.text),
        expects=_form(query.expects),
        answers=tuple(answers),
        costs_usd=tuple(float(by_tier[tier].cost_usd or 0) if tier in by_tier else 0.0 for tier in ladder),
        system=excerpt(query.system),
        gold=gold_of(options.get("metadata")),
        workload=query.workload_or_template,
    )


def _form(expects: Expectation) -> Expectation:
    """Return the forms that ``expects`` requires, without their content, because a schema or a context may have
    megabytes."""
    if expects is NO_EXPECTATION:
        return expects
    schema: Mapping[str, Any] | None = None if expects.json_schema is None else {}
    return Expectation(json_schema=schema, json_object=expects.json_object, choices=expects.choices[:1])


def gold_of(metadata: Any) -> str | None:
    """Return the expected answer in a line's metadata, or None."""
    gold = metadata.get(GOLD_KEY) if isinstance(metadata, Mapping) else None
    return gold if isinstance(gold, str) and gold.strip() else None


def is_usable(row: Row[Any]) -> bool:
    """Whether its answer can be delivered if there is none better."""
    return bool((row.detail or {}).get("usable", True))


def tier_answer(row: Row[Any], response: str | None) -> TierAnswer:
    """Return an answer of the ledger in the form that policies read."""
    text = "" if response is None else text_of(orjson.loads(response))
    return TierAnswer(row.tier, text, confidences(row.confidence, row.source, row.mean_logprob))


def text_of(response: Mapping[str, Any]) -> str:
    """Return the text of a stored chat.completion, or ""."""
    choices = response.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")


def confidences(confidence: float | None, source: str | None, mean_logprob: float | None) -> dict[str, float]:
    """Return an answer's confidence by source, with the mean probability of its tokens if it is known."""
    found: dict[str, float] = {}
    if mean_logprob is not None and math.isfinite(mean_logprob):
        found["logprob"] = math.exp(min(mean_logprob, 0.0))
    if confidence is not None and source not in (None, "none"):
        found[str(source)] = confidence
    return found
