"""``pointsman submit --dry-run``: what a file would cost and how long it would take. Writes nothing, calls nobody."""

import asyncio
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.command_errors import CommandError, ExitCode
from cli.console import emit, err, out, plain, queries
from cli.progress import duration
from cli.query_source import Source
from cli.resources import open_database
from cli.worker_stack import UNDEFINED_TABLE
from db.batch_writer import BatchSpec
from routing.fleet import Fleet
from routing.forecast.forecast_types import Forecast
from routing.forecast.rounding import round_to_sum
from settings import Settings
from submission.forecast_json import forecast_as_json
from submission.forecaster import Forecaster
from submission.input_line import RejectedLine
from workers.embedded.services import services_running, services_up


def tell(
    source: Source, settings: Settings, fleet: Fleet, *, skip_invalid: bool, order: BatchSpec, as_json: bool
) -> None:
    """Prints the prediction. Raises BadInput for invalid lines, unless they are to be skipped."""
    if not skip_invalid:
        source.check(fleet)
    planner = Forecaster(settings, fleet, None, cap_usd=order.cap_usd, policy=order.budget_policy)
    rejected = sum(isinstance(line, RejectedLine) for line in planner.sample.watching(source.lines(fleet)))
    if not planner.sample.seen:
        raise CommandError(
            "None of the lines is a valid query.", hint="Without --skip-invalid each is shown.", code=ExitCode.USAGE
        )
    plan = forecast_as_json(_forecast(planner, settings))
    if _is_asleep(settings) and (settings.home / "postgres").exists():
        known = [words for words in plan["basis"] if not words.startswith("queue:")]
        plan["basis"] = [*known, "earlier batches: not looked at, as our own Postgres does not run (`pointsman up`)"]
    cap = fleet.budgets.batch_usd if order.cap_usd is None else order.cap_usd
    told = {
        "dry_run": True,
        "source": source.name,
        "total": plan["total"],
        "rejected": rejected,
        "simulated": fleet.simulated,
        "cap_usd": cap,
        "plan": plan,
    }
    _show(told, plan, as_json=as_json)
    if as_json:
        emit(told)


def _forecast(planner: Forecaster, settings: Settings) -> Forecast:
    """With what the database knows, where there is one: a dry run starts and makes none."""
    if _is_asleep(settings):
        return asyncio.run(planner.forecast())

    async def work(here: Settings) -> Forecast:
        async with open_database(here) as engine:
            planner.engine = engine
            try:
                return await planner.forecast()
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != UNDEFINED_TABLE:
                    raise
                planner.engine = None  # it was never migrated: nothing was before
                return await planner.forecast()

    with services_up(settings) as services:
        return asyncio.run(work(services.settings))


def _is_asleep(settings: Settings) -> bool:
    """Whether Postgres is ours and does not run."""
    return settings.embeds_postgres and not services_running(settings)


def _show(told: dict[str, Any], plan: dict[str, Any], *, as_json: bool) -> None:
    console = err if as_json else out
    cost, wall = plan["cost_usd"], plan["wall_s"]
    words = f" · {queries(plan['total'])}, {plan['sampled']:,} of them looked at"
    console.print(Text.assemble(("Dry run", "bold"), f" · {plain(told['source'])}{words}"))
    console.print(_table(plan))
    within = f"{100 * plan['interval']:.0f} % within"
    saving = 1 - cost["expected"] / plan["baseline_cost_usd"] if plan["baseline_cost_usd"] else 0.0
    lines = [
        ("Cost", f"${cost['expected']:.6f}, {within} ${cost['low']:.6f} to ${cost['high']:.6f}"),
        ("All top", f"${plan['baseline_cost_usd']:.6f} from the top tier alone: {100 * saving:.1f} % saved"),
        (
            "Time",
            f"{duration(wall['expected'])}, {within} {duration(wall['low'])} to {duration(wall['high'])};"
            f" bound by {plan['bound_by']}",
        ),
        ("Escalated", f"{plan['escalated']:,.0f} queries"),
        ("Known", "; ".join(plan["basis"])),
    ]
    if plan["too_dear"]:
        lines.append(("Too dear", f"{plan['too_dear']:,} for their max_cost_usd, would fail unasked"))
    if told["rejected"]:
        lines.append(("Rejected", f"{told['rejected']:,}, as they are no valid queries"))
    if (cap := told["cap_usd"]) is not None:
        short = cap < cost["expected"]
        lines.append(("Budget", f"${cap:.6f} {'is not enough' if short else 'is enough'} by this"))
    for label, said in lines:
        console.print(Text.assemble((f"{label:<10} ", "bold"), said))
    if told["simulated"]:
        console.print("The fleet is simulated: no money would be spent.", style="yellow")


def _table(plan: Mapping[str, Any]) -> Table:
    """The tiers, rounded so that each column adds up to its last row."""
    tiers = plan["tiers"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tier")
    for name in ("routed", "answers", "share", "calls", "doubted", "cost", "takes"):
        table.add_column(name, justify="right", no_wrap=True)
    routed, answers, calls = (_rounded(tiers, name) for name in ("routed", "answers", "calls"))
    costs = _rounded(tiers, "cost_usd", digits=6)
    answered = sum(answers.values()) or 1.0
    shares = round_to_sum({name: 100 * count / answered for name, count in answers.items()}, digits=1)
    for name, tier in tiers.items():
        table.add_row(
            plain(name),
            f"{routed[name]:,.0f}",
            f"{answers[name]:,.0f}",
            f"{shares[name]:.1f} %",
            f"{calls[name]:,.0f}",
            f"{100 * tier['doubted_share']:.1f} %",
            f"${costs[name]:.6f}",
            duration(tier["takes_s"]),
        )
    if len(tiers) > 1:
        table.add_row(
            "all",
            *(f"{sum(column.values()):,.0f}" for column in (routed, answers)),
            f"{sum(shares.values()):.1f} %",
            f"{sum(calls.values()):,.0f}",
            "",
            f"${sum(costs.values()):.6f}",
            "",
            style="dim",
        )
    return table


def _rounded(tiers: Mapping[str, Mapping[str, float]], figure: str, *, digits: int = 0) -> dict[str, float]:
    return round_to_sum({name: tier[figure] for name, tier in tiers.items()}, digits=digits)
