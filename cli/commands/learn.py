"""``pointsman off-policy`` and ``pointsman retrain``: what the labelled log teaches."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.routers import RouterOption, SeedOption
from cli.commands.run import FleetOption, JsonOption

app = typer.Typer()

BatchesOption = Annotated[
    list[str] | None,
    typer.Option("--batch", metavar="BATCH", help="Of this batch only; may be given several times (default: all)."),
]

AllLabelsOption = Annotated[
    bool,
    typer.Option("--all-labels", help="Also those of answers that were shown because they were doubtful."),
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
    """Estimate from labels what another router had come to.

    Its quality, cost and loss, by the labelled log. The router and the controls are given with 95 % intervals by
    three estimators. Needs a fleet that explored (router.exploration) when the log was written: what was never
    tried cannot be estimated.
    """
    from cli.training import learn_from_log

    learn_from_log.estimate(
        router=router, batches=batch, all_labels=all_labels, fleet_path=fleet, seed=seed, as_json=as_json
    )


@app.command()
def retrain(
    name: Annotated[str, typer.Option(metavar="NAME", help="What to register the new router as.")],
    batch: BatchesOption = None,
    all_labels: AllLabelsOption = False,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Examine it on these outcomes of every tier, instead of on a third of the log.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say the verdict; register and promote nothing.")] = False,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a router on labels, and promote it if it is better.

    It must lose less than the incumbent and every control, beyond doubt, on queries that it had not
    seen; else nothing changes, and the exit code is 1.
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
