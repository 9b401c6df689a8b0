"""``pointsman train``, ``evaluate``, ``calibrate`` and ``routers``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.command_errors import UsageError
from cli.param_types import FleetOption, JsonOption, RouterOption, SeedOption

# cli.training is imported late: numpy and scipy would cost every other command a third of a second.

app = typer.Typer()
routers = typer.Typer(help="List, promote and roll back registered routers.", no_args_is_help=True)
app.add_typer(routers, name="routers")

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="JSON lines with 'query' and either 'outcomes' of each tier or an 'expected_tier'."
    ),
]


@app.command()
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the trained router.")],
    name: Annotated[
        str | None,
        typer.Option(
            help="Register the router under this name. Default: it is not registered, and its name is that of DIR."
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Use the router only for queries whose metadata names this workload (default: all)."
        ),
    ] = None,
    seed: SeedOption = 0,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a router on DATA.

    Trains a classifier of queries, and also a scorer of answers if DATA has answers. The printed figures are for lines
    that each model did not see in training.
    """
    from cli.training import train_router

    train_router.train_router(data, out=out, name=name, workload=workload, seed=seed, fleet_path=fleet, as_json=as_json)


@app.command()
def evaluate(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="JSON lines with outcomes or labels.")] = None,
    router: RouterOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot cost, quality and calibration to a .png or .svg.")
    ] = None,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="Evaluate production from its log instead of DATA.")
    ] = False,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Route logged queries again with --router instead of DATA; no calls are made."),
    ] = False,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Only this batch of the log.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only batches submitted since this time, such as 2026-01-31, 24h or 7d."),
    ] = None,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    draws: Annotated[int, typer.Option(min=100, max=20_000, help="Bootstrap draws for the intervals.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a router on DATA or on the log.

    By default it evaluates the promoted router. Costs use the prices of --fleet. Without --fleet, costs for DATA use
    the prices of the RouteLLM paper.
    """
    from cli.training import log_evaluation, train_router

    if from_log + replay + (data is not None) != 1:
        raise UsageError("Give exactly one of DATA, --from-log and --replay.")
    if data is not None:
        if batch is not None or since is not None:
            raise UsageError(
                "--batch and --since select from the log, but the log is not used.", hint="Add --from-log or --replay."
            )
        options = train_router.TrainOptions(router, fleet, seed, draws)
        train_router.evaluate_router(data, options=options, plot=plot, as_json=as_json)
        return
    if plot is not None:
        raise UsageError("--plot needs DATA: a log has no curve.", hint="Omit --plot.")
    span = log_evaluation.span_of(batch, since, now=datetime.now(UTC))
    if replay:
        log_evaluation.redecide_log(span, router=router, fleet_path=fleet, as_json=as_json)
    elif router is not None:
        raise UsageError(
            "--from-log takes no --router: it evaluates the routers that made the logged decisions.",
            hint="Omit --router, or use --replay instead of --from-log.",
        )
    else:
        log_evaluation.evaluate_log(span, fleet_path=fleet, as_json=as_json)


@app.command()
def calibrate(
    data: DataArgument,
    target_cost: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Maximum cost, as a share of the cost of always using the large model."),
    ] = None,
    target_quality: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.2, help="Minimum quality, as a share of the large model's quality."),
    ] = None,
    router: RouterOption = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fleet with the first proposal to this file.")
    ] = None,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose thresholds for a target cost or quality.

    Without --router, or with one trained on DATA, the command trains a router by cross-validation, so that the model
    for each line did not see it in training.
    """
    from cli.training import train_router

    options = train_router.TrainOptions(router, fleet, seed, 1000)
    train_router.calibrate_router(
        data, cost=target_cost, quality=target_quality, options=options, write=write, as_json=as_json
    )


@routers.command("list")
def list_routers(as_json: JsonOption = False) -> None:
    """List the routers, the serving one, and all promotions."""
    from cli.training import registry
    from cli.training.train_router import usage_errors

    with usage_errors():
        registry.list_routers(as_json=as_json)


@routers.command()
def promote(name: Annotated[str, typer.Argument(metavar="NAME")], as_json: JsonOption = False) -> None:
    """Make NAME the serving router. Running workers load it within seconds.

    It serves every fleet with router.classifier = 'default'.
    """
    from cli.training import registry
    from cli.training.train_router import usage_errors

    with usage_errors():
        registry.promote_router(name, as_json=as_json)


@routers.command()
def rollback(as_json: JsonOption = False) -> None:
    """Return to the previous router. Running workers load it within seconds."""
    from cli.training import registry
    from cli.training.train_router import usage_errors

    with usage_errors():
        registry.roll_back(as_json=as_json)
