"""Cost by model."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final

from db.reports.batch_report import BatchReport
from report import colors
from report.charts.bars import cost_bars
from report.document import Figure, Section, Table
from report.formatting import PURPOSES, ms, percent_of, usd

FIRST: Final = frozenset({"answer", "embed"})
"""Purposes that the drawing does not name."""


def models(report: BatchReport) -> Section:
    """Return a row for each model and purpose, and a bar of its cost."""
    costs: dict[str, float] = {}
    fills: dict[str, str] = {}
    for model in report.models:
        name = model.deployment if model.purpose in FIRST else f"{model.deployment} ({model.purpose})"
        costs[name] = costs.get(name, 0.0) + model.cost_usd
        fills.setdefault(name, colors.tier_color(model.tier, report.tiers))
    rows = [
        [
            model.tier,
            model.deployment,
            model.provider,
            model.purpose,
            f"{model.calls:,}",
            f"{model.prompt_tokens:,}",
            f"{model.completion_tokens:,}",
            usd(model.cost_usd),
            percent_of(model.cost_usd, report.figures.cost_usd),
            ms(model.p95_ms),
        ]
        for model in report.models
    ]
    columns = ["tier", "model", "provider", "purpose", "calls", "tokens in", "tokens out", "cost", "share", "p95 ms"]
    paragraphs = ["Colors mark tiers. A call without an outcome counts at its reservation, the maximum cost."]
    if report.figures.open_calls:
        paragraphs.append(f"Calls without an outcome so far: {report.figures.open_calls:,}.")
    paragraphs += [
        f"{model.deployment}: the provider reports {usd(model.reported_usd)} and the price table gives "
        f"{usd(model.computed_usd)} for the same calls. The ledger uses the provider's figure."
        for model in report.models
        if model.reported_usd is not None
        and model.computed_usd is not None
        and abs(model.reported_usd - model.computed_usd) > 0.01 * max(model.reported_usd, model.computed_usd)
    ]
    purposes = {model.purpose: PURPOSES[model.purpose] for model in report.models if model.purpose in PURPOSES}
    if purposes:
        words = "; ".join(f"{purpose} {what}" for purpose, what in sorted(purposes.items()))
        paragraphs.append(f"Purposes other than answers: {words}.")
    paragraphs += _other_models(report)
    return Section(
        "models",
        "Cost by model",
        paragraphs,
        [Figure(cost_bars(costs, fills), "Cost by model.")] if costs else [],
        [Table("Models", columns, rows, frozenset({"tier", "model", "provider", "purpose"}))] if rows else [],
    )


def _other_models(report: BatchReport) -> Iterator[str]:
    """Return, for each deployment at which other models answered: which, how often, and the consequences."""
    for deployment, found in groupby(report.other_models, attrgetter("deployment")):
        others = list(found)
        count, asked = sum(other.answers for other in others), others[0].model
        named = ", ".join(f"{other.answered_by} ({other.answers:,})" for other in others[:3])
        yield (
            f"Answers of {deployment} that name a model other than {asked}: {count:,} ({named}). Their quality is that "
            f"of the model they name. They are priced as that model if the price table has it, otherwise as {asked}. "
            "Fix: write the name of the model that you mean, or its price, into the fleet file."
        )
