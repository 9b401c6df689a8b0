"""``pointsman train``, ``evaluate``, ``calibrate`` and ``routers``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.command_errors import CommandError, ExitCode
from cli.commands.run import FleetOption, JsonOption

# The work is imported where it is done: numpy and scipy cost every other command a third of a second.

app = typer.Typer()
routers = typer.Typer(help="The registered routers: list them, promote one, go back.", no_args_is_help=True)
app.add_typer(routers, name="routers")

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="JSON lines with 'query' and either 'outcomes' of each tier or an 'expected_tier'."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="The same data and seed give the same result.")]
RouterOption = Annotated[
    str | None,
    typer.Option("--router", metavar="DIR|NAME", help="A trained folder, a registered name, or 'default'."),
]


@app.command()
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the trained router goes.")],
    name: Annotated[
        str | None, typer.Option(help="Register it under this name (default: not registered, named after DIR).")
    ] = None,
    seed: SeedOption = 0,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a router on DATA.

    It is a classifier of queries, and a scorer of answers where DATA holds answers. The figures it prints are for
    lines that each model had not seen.
    """
    from cli.training import train_router

    train_router.train_router(data, out=out, name=name, seed=seed, fleet_path=fleet, as_json=as_json)


@app.command()
def evaluate(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="JSON lines with outcomes or labels; or see --from-log.")
    ] = None,
    router: RouterOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curve and the reliability there, as .png or .svg.")
    ] = None,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="No DATA: evaluate what production did, from its log.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="No DATA: decide the logged queries anew with --router. Spends nothing.")
    ] = False,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Of the log: this batch alone.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Of the log: batches since then, as 2026-01-31, 24h or 7d.")
    ] = None,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    draws: Annotated[int, typer.Option(min=100, max=20_000, help="Bootstrap draws for the intervals.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Hold a router against DATA and controls; or evaluate the log.

    By default it is the promoted router. With --fleet its prices count; else, for DATA, those of the RouteLLM
    paper do.
    """
    from cli.training import log_evaluation, train_router

    if from_log + replay + (data is not None) != 1:
        raise CommandError("Give one of DATA, --from-log and --replay.", code=ExitCode.USAGE)
    if data is not None:
        if batch is not None or since is not None:
            raise CommandError(
                "--batch and --since are of the log.", hint="Add --from-log or --replay.", code=ExitCode.USAGE
            )
        asked = train_router.TrainOptions(router, fleet, seed, draws)
        train_router.evaluate_router(data, asked=asked, plot=plot, as_json=as_json)
        return
    if plot is not None:
        raise CommandError("There is no curve to draw of a log.", hint="Leave --plot out.", code=ExitCode.USAGE)
    span = log_evaluation.span_of(batch, since, now=datetime.now(UTC))
    if replay:
        log_evaluation.redecide_log(span, router=router, fleet_path=fleet, as_json=as_json)
    elif router is not None:
        raise CommandError("--from-log evaluates the routers that decided.", hint="Use --replay.", code=ExitCode.USAGE)
    else:
        log_evaluation.evaluate_log(span, fleet_path=fleet, as_json=as_json)


@app.command()
def calibrate(
    data: DataArgument,
    target_cost: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Spend at most this share of what always-large costs.")
    ] = None,
    target_quality: Annotated[
        float | None, typer.Option(min=0.0, max=1.2, help="Reach at least this share of always-large's right answers.")
    ] = None,
    router: RouterOption = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fleet with the first proposal to this file.")
    ] = None,
    fleet: FleetOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose thresholds for a cost or a quality, and what they do.

    Without --router, or with one that was trained on DATA, a router is trained by cross-validation,
    so that every line is judged by a model that had not seen it.
    """
    from cli.training import train_router

    asked = train_router.TrainOptions(router, fleet, seed, 1000)
    train_router.calibrate_router(
        data, cost=target_cost, quality=target_quality, asked=asked, write=write, as_json=as_json
    )


@routers.command("list")
def list_routers(as_json: JsonOption = False) -> None:
    """The routers, which one serves, and who promoted what when."""
    from cli.training import registry
    from cli.training.train_router import in_words

    with in_words():
        registry.list_routers(as_json=as_json)


@routers.command()
def promote(name: Annotated[str, typer.Argument(metavar="NAME")], as_json: JsonOption = False) -> None:
    """Make NAME the router that serves. Workers that run take it up within seconds.

    It serves wherever the fleet's router.classifier is 'default'.
    """
    from cli.training import registry
    from cli.training.train_router import in_words

    with in_words():
        registry.promote_router(name, as_json=as_json)


@routers.command()
def rollback(as_json: JsonOption = False) -> None:
    """Back to the router that served before. Workers that run take it up within seconds."""
    from cli.training import registry
    from cli.training.train_router import in_words

    with in_words():
        registry.roll_back(as_json=as_json)
