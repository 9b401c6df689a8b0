"""``pointsman reconcile``: compares the ledger with a provider's export, by model and day."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import ExitCode, UsageError
from cli.console import emit, out, plain, plural, table
from cli.open_services import read_settings, with_database
from cli.param_types import JsonOption
from cli.usage_export import BilledUsage, read_usage_export
from db.reports import run_report
from providers.billing import DIFFERENCE
from routing.model_name import plain_name

app = typer.Typer()

FIGURES: Final = ("input_tokens", "output_tokens", "cost_usd")
_LEAST_USD: Final = Decimal("0.000001")


@dataclass(slots=True)
class UsageLine:
    """One model on one UTC day, in the ledger and in the export. Figures that the export lacks are left out."""

    day: date
    model: str
    ledger: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(FIGURES, Decimal(0)))
    export: dict[str, Decimal] = field(default_factory=dict)
    precision: dict[str, Decimal] = field(default_factory=dict)
    """The maximum rounding of a figure in the export."""
    calls: int = 0
    uncertain: int = 0
    """The number of calls without a confirmed cost."""
    uncertain_usd: Decimal = Decimal(0)
    """Their reservations, which the ledger counts."""

    def share(self, figure: str) -> float | None:
        """Return the ledger's deviation from the export as a share, or None if the export has no such figure."""
        if figure not in self.export:
            return None
        ours, theirs = self.ledger[figure], self.export[figure]
        return float((ours - theirs) / max(ours, theirs)) if max(ours, theirs) else 0.0

    @property
    def differs(self) -> list[str]:
        """Return the figures that differ by more than `DIFFERENCE`, beyond rounding."""
        return [
            figure
            for figure in self.export
            if abs(self.share(figure) or 0.0) > DIFFERENCE
            and abs(self.ledger[figure] - self.export[figure]) > self.precision[figure]
        ]

    def add(self, billed: BilledUsage) -> None:
        """Add a row of the export."""
        for figure in FIGURES:
            if (value := getattr(billed, figure)) is not None:
                self.export[figure] = self.export.get(figure, Decimal(0)) + value
                exponent = value.as_tuple().exponent
                rounding = Decimal(5).scaleb(exponent - 1) if figure == "cost_usd" and isinstance(exponent, int) else 0
                self.precision[figure] = max(self.precision.get(figure, Decimal(0)) + rounding, _least(figure))


@app.command()
def reconcile(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A usage or cost export of OpenAI (JSON, CSV), or a CSV file with day, model, tokens and cost.",
        ),
    ],
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The provider in the ledger. Default: those that serve the export's models."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the ledger with a provider's export.

    Shows the differences per model and UTC day. Exits with 1 if a figure differs by more than 1 %.
    """
    export = read_usage_export(file)

    async def work(engine: AsyncEngine) -> Sequence[Row[Any]]:
        days = [billed.day for billed in export]
        return await run_report(engine, "billed_by_day", first=min(days), last=max(days))

    ledger = with_database(read_settings(), work)
    providers = {provider} if provider is not None else _providers(export, ledger)
    lines = compare(export, [row for row in ledger if row.provider in providers])
    if as_json:
        emit({"file": str(file), "providers": sorted(providers), "lines": [_as_json(line) for line in lines]})
    else:
        _show(lines, providers)
    if any(line.differs for line in lines):
        raise typer.Exit(ExitCode.FAILURE)


def compare(export: Sequence[BilledUsage], ledger: Iterable[Row[Any]]) -> list[UsageLine]:
    """Return a line for each day and model of either side, by day and model.

    Snapshots of a model count as one model. Days that the export has without models are compared as a whole. Entries of
    the ledger on days of the export count as missing in the export if it lacks them.
    """
    whole = {billed.day for billed in export if billed.model is None}
    days = {billed.day for billed in export}
    lines: dict[tuple[date, str], UsageLine] = {}

    def line(day: date, model: str | None) -> UsageLine:
        name = "all models" if day in whole else model or ""
        return lines.setdefault((day, plain_name(name)), UsageLine(day, name))

    for billed in export:
        line(billed.day, billed.model).add(billed)
    said = {figure for each in lines.values() for figure in each.export}
    for row in ledger:
        if row.day in days:
            found = line(row.day, row.model)
            for figure in FIGURES:
                found.ledger[figure] += Decimal(getattr(row, figure))
            found.calls += row.calls
            found.uncertain += row.uncertain
            found.uncertain_usd += Decimal(row.uncertain_usd)
    for each in lines.values():
        for figure in said - each.export.keys():
            each.export[figure] = Decimal(0)
            each.precision[figure] = _least(figure)
    return [lines[key] for key in sorted(lines)]


def _least(figure: str) -> Decimal:
    return _LEAST_USD if figure == "cost_usd" else Decimal(0)


def _providers(export: Sequence[BilledUsage], ledger: Sequence[Row[Any]]) -> set[str]:
    """Return the ledger's providers that serve a model in the export. Raises UsageError if the export names none."""
    named = {plain_name(billed.model) for billed in export if billed.model is not None}
    if named:
        return {row.provider for row in ledger if plain_name(row.model) in named}
    known = {row.provider for row in ledger}
    if len(known) > 1:
        raise UsageError(
            "The export names no model, and the ledger has several providers.",
            hint=f"Name one: --provider {' | '.join(sorted(known))}.",
        )
    return known


def _as_json(line: UsageLine) -> dict[str, Any]:
    def figures(given: Mapping[str, Decimal]) -> dict[str, int | float]:
        return {name: float(value) if name == "cost_usd" else int(value) for name, value in given.items()}

    return {
        "day": line.day.isoformat(),
        "model": line.model,
        "calls": line.calls,
        "uncertain_calls": line.uncertain,
        "uncertain_usd": float(line.uncertain_usd),
        "ledger": figures(line.ledger),
        "export": figures(line.export),
        "difference": {name: round(line.share(name) or 0.0, 6) for name in line.export},
        "differs": line.differs,
    }


def _show(lines: Sequence[UsageLine], providers: set[str]) -> None:
    grid = table(("day", "model"), ("calls", "ledger", "export", "difference"))
    counts: defaultdict[bool, int] = defaultdict(int)
    for line in lines:
        counts[bool(line.differs)] += 1
        for figure in FIGURES:
            if figure not in line.export:
                continue
            ours, theirs = line.ledger[figure], line.export[figure]
            is_usd = figure == "cost_usd"
            share = 100 * (line.share(figure) or 0.0)
            grid.add_row(
                line.day.isoformat() if figure == next(iter(sorted(line.export, key=FIGURES.index))) else "",
                f"{plain(line.model)} {figure.removesuffix('_usd').replace('_', ' ')}",
                f"{line.calls:,}",
                f"${ours:.6f}" if is_usd else f"{ours:,.0f}",
                f"${theirs:.6f}" if is_usd else f"{theirs:,.0f}",
                Text(f"{share:+.2f} %", style="red" if figure in line.differs else ""),
            )
    out.print(grid)
    for line in lines:
        if line.uncertain:
            said = (
                f"calls without a confirmed cost (unknown outcome, broken answer): {line.uncertain:,}. The ledger "
                f"counts them at their maximum cost, ${line.uncertain_usd:.6f}."
            )
            out.print(f"{line.day} {plain(line.model)}: {said}", style="dim")
    whose = ", ".join(sorted(map(plain, providers))) or "no provider of the ledger has these models"
    found = f"{counts[True]:,} of {plural(len(lines), 'line')}"
    out.print(f"Differences of more than {100 * DIFFERENCE:.0f} %: {found} ({whose}).")
