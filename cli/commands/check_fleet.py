"""``pointsman check-fleet``."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.commands.run import JsonOption
from cli.console import emit, err, out, plain
from cli.resources import read_settings
from routing.answer_checks.threshold_action import extra_calls, threshold_action
from routing.fleet import Fleet
from settings import check_fleet

app = typer.Typer()


@app.command("check-fleet")
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="POINTSMAN_FLEET or fleet.toml, if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a fleet file: each problem with its key and the mend. Exits with 2 where there is any."""
    path = read_settings(file).fleet_path
    checked = check_fleet(path, os.environ)
    fleet = checked.fleet
    if as_json:
        emit(
            {
                "file": str(path),
                "name": fleet.name,
                "simulated": fleet.simulated,
                "ladder": fleet.ladder,
                "tiers": {name: list(tier.models) for name, tier in fleet.tiers.items()},
                "confidence": [
                    {
                        "tier": tier.name,
                        "model": model.name,
                        "threshold": None if tier.escalates_to is None else tier.confidence_threshold,
                        "source": action.source,
                        "acts_on": action.acts_on,
                        "calibrated_for": list(action.workloads),
                        "calibrated": action.is_calibrated,
                        "extra_calls": extra_calls(model, fleet),
                    }
                    for tier in fleet.tiers.values()
                    for model in fleet.deployments(tier.name)
                    for action in [threshold_action(model, fleet)]
                ],
                "warnings": [{"key": w.key, "wrong": w.wrong, "fix": w.fix} for w in checked.warnings],
            }
        )
        return
    out.print(f"{path} is sound: {fleet_words(fleet)}, {' → '.join(fleet.ladder)}")
    out.print(_table(fleet))
    out.print(_confidence_table(fleet))
    if not all(
        threshold_action(model, fleet).is_calibrated
        for model in fleet.models.values()
        if fleet.tiers[model.tier].escalates_to is not None
    ):
        out.print(
            "An uncalibrated confidence is a score, not a probability: an answer below the threshold climbs, and one "
            "above it stands because the router chose its tier too. fix: grade answers, and "
            "put what `pointsman calibrate-confidence` prints into the fleet.",
            style="dim",
        )
    for warning in checked.warnings:
        err.print(f"{warning}", style="yellow")


def fleet_words(fleet: Fleet) -> str:
    """Its name, and that it is simulated where the name does not say so."""
    return fleet.name if not fleet.simulated or "simulated" in fleet.name.lower() else f"{fleet.name}, simulated"


def _table(fleet: Fleet) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("tier", "model", "provider"):
        table.add_column(name)
    for name in ("$ in / Mtok", "$ out / Mtok", "context"):
        table.add_column(name, justify="right")
    for tier in fleet.tiers:
        for model in fleet.deployments(tier):
            price = model.price
            table.add_row(
                plain(tier),
                plain(model.name),
                plain(model.provider),
                f"{price.input_usd_per_mtok * price.multiplier:,.3f}",
                f"{price.output_usd_per_mtok * price.multiplier:,.3f}",
                f"{model.context_tokens:,}",
            )
    return table


def _confidence_table(fleet: Fleet) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("tier", "model"):
        table.add_column(name)
    table.add_column("threshold", justify="right")
    for name in ("acts on", "calibrated", "extra calls"):
        table.add_column(name)
    for tier in fleet.tiers.values():
        for model in fleet.deployments(tier.name):
            action = threshold_action(model, fleet)
            if tier.escalates_to is None:
                table.add_row(plain(tier.name), plain(model.name), "none", "no tier is above", "", "")
                continue
            workloads = ", ".join(name or "queries without a workload" for name in action.workloads)
            table.add_row(
                plain(tier.name),
                plain(model.name),
                f"{tier.confidence_threshold:.2f}",
                plain(action.acts_on if action.wrong is None else f"{action.acts_on}: {action.wrong}"),
                plain(workloads or ("by its training" if action.is_calibrated else "no")),
                str(extra_calls(model, fleet) or ""),
            )
    return table
