"""``pointsman off-policy`` and ``pointsman retrain``: estimation and training on the labelled log."""

from pathlib import Path
from typing import Annotated

import typer

from cli.param_types import FleetOption, JsonOption, RouterOption, SeedOption

app = typer.Typer()

BatchesOption = Annotated[
    list[str] | None,
    typer.Option("--batch", metavar="BATCH", help="Use only this batch. May be repeated. Default: all batches."),
]
AllLabelsOption = Annotated[
    bool, typer.Option("--all-labels", help="Include labels of answers that were selected for low confidence.")
]


@app.command(name="off-policy")
def off_policy(
    router: RouterOption = None,
    batch: BatchesOption = None,
    all_labels: AllLabelsOption = False,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Estimate from the log how another router would do.

    Estimates quality, cost and loss of the router and of controls, with 95 % intervals by three estimators. It needs a
    log with exploration (router.exploration of the fleet), because choices that were never tried cannot be estimated.
    """
    from cli.training import learn_from_log

    learn_from_log.estimate(
        router=router, batches=batch, all_labels=all_labels, fleet_path=fleet, seed=seed, as_json=as_json
    )


@app.command()
def retrain(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name to register the new router under.")],
    batch: BatchesOption = None,
    all_labels: AllLabelsOption = False,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Test the new router on these outcomes of every tier, instead of on a third of the log.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the verdict, and promote nothing.")] = False,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a router on labels; promote it if better.

    The new router must have a significantly lower loss than the incumbent and every control on held-out queries.
    Otherwise nothing changes, and the exit code is 1.
    """
    from cli.training import learn_from_log

    learn_from_log.retrain(
        name=name,
        batches=batch,
        all_labels=all_labels,
        held_out=held_out,
        dry_run=dry_run,
        fleet_path=fleet,
        seed=seed,
        as_json=as_json,
    )
