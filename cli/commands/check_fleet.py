"""``pointsman check-fleet``."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.console import emit, out, plain, table, warn
from cli.param_types import JsonOption
from cli.resources import fleet_label, read_settings
from routing.answer_checks.threshold_action import extra_calls, threshold_action
from routing.fleet import Fleet
from routing.policy.decision import decide
from routing.query import Query
from settings import check_fleet

app = typer.Typer()


@app.command("check-fleet")
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: POINTSMAN_FLEET, or fleet.toml.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a fleet file.

    Prints each problem with its key and the fix. Exits with 2 if there is any.
    """
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
                "begins": _begins(fleet),
                "warnings": [asdict(warning) for warning in checked.warnings],
            }
        )
        return
    out.print(f"{path} is valid: {fleet_label(fleet)}, {' → '.join(fleet.ladder)}")
    grid = table(("tier", "model", "provider"), ("$ in / Mtok", "$ out / Mtok", "context"))
    for tier in fleet.tiers:
        for model in fleet.deployments(tier):
            price = model.price
            grid.add_row(
                plain(tier),
                plain(model.name),
                plain(model.provider),
                f"{price.input_usd_per_mtok * price.multiplier:,.3f}",
                f"{price.output_usd_per_mtok * price.multiplier:,.3f}",
                f"{model.context_tokens:,}",
            )
    out.print(grid)
    out.print(_confidence_table(fleet))
    if not fleet.simulated:
        begins = _begins(fleet)
        others = plain(begins.pop(""))
        named = "".join(f"those of workload {plain(name)} begin at {plain(tier)}, " for name, tier in begins.items())
        out.print(f"Queries of which nothing is known: {named}{'all others' if named else 'all'} begin at {others}.")
    if not all(
        threshold_action(model, fleet).is_calibrated
        for model in fleet.models.values()
        if fleet.tiers[model.tier].escalates_to is not None
    ):
        out.print(
            "An uncalibrated confidence is a score, not a probability: it sends doubtful answers up and says nothing "
            "of the quality of the others. Fix: grade answers, and put the output of `pointsman calibrate-confidence` "
            "into the fleet.",
            style="dim",
        )
    for warning in checked.warnings:
        warn(str(warning))


def _begins(fleet: Fleet) -> dict[str, str]:
    """The tier that queries of a workload begin at without a pin, a floor, a vote or a sign of difficulty.

    By workload; "" stands for queries without one, and for all that the fleet does not name.
    """
    workloads = sorted({"", *fleet.workloads, *(one.workload for one in fleet.calibrations)})
    unknown = replace(fleet, simulated=False, router=replace(fleet.router, stages=()))
    decisions = decide([Query("", workload=workload) for workload in workloads], fleet=unknown, predictor=None)
    return {workload: decision.tier for workload, decision in zip(workloads, decisions, strict=True)}


def _confidence_table(fleet: Fleet) -> Table:
    grid = table(("tier", "model"), ("threshold",))
    for name in ("acts on", "calibrated", "extra calls"):
        grid.add_column(name)
    for tier in fleet.tiers.values():
        for model in fleet.deployments(tier.name):
            action = threshold_action(model, fleet)
            if tier.escalates_to is None:
                grid.add_row(plain(tier.name), plain(model.name), "none", "no tier is above", "", "")
                continue
            workloads = ", ".join(name or "queries without a workload" for name in action.workloads)
            grid.add_row(
                plain(tier.name),
                plain(model.name),
                f"{tier.confidence_threshold:.2f}",
                plain(action.acts_on if action.wrong is None else f"{action.acts_on}: {action.wrong}"),
                plain(workloads or ("by its training" if action.is_calibrated else "no")),
                str(extra_calls(model, fleet) or ""),
            )
    return grid
