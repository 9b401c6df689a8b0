"""``pointsman check-fleet``."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.console import emit, out, plain, table, warn
from cli.param_types import JsonOption
from cli.resources import fleet_label, read_settings
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
    for warning in checked.warnings:
        warn(str(warning))
