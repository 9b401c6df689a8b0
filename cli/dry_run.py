"""``--dry-run`` of `run`, `try` and `submit`: a forecast of a file's tiers, cost and time. It writes and calls
nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.batch_summary import expected_cost, pilot_cost, saving
from cli.command_errors import ExitCode, UsageError
from cli.console import emit, err, out, plain, plural, queries, table, warn
from cli.input_files import SqlInput
from cli.open_services import open_database
from cli.progress import duration
from cli.query_source import Source, open_source
from cli.worker_stack import UNDEFINED_TABLE
from db.batch_writer import BatchSpec
from db.provider_batches import ProviderBatches
from routing.fleet import Fleet
from routing.forecast.forecast_types import Forecast
from routing.forecast.rounding import round_to_sum
from routing.lanes.lane import BatchAge
from settings import Settings
from submission.dry_run import dry_run_report, is_covered, read_sample
from submission.forecast_json import forecast_as_json
from submission.forecaster import Forecaster
from submission.request_key import RequestKeys
from submission.row_query import RowMapping
from workers.embedded.postgres import is_initialized
from workers.embedded.services import ServicesError, services_up

_UNKNOWN = "not known"


def show_forecast(
    file: str | SqlInput,
    mapping: RowMapping,
    settings: Settings,
    fleet: Fleet,
    *,
    skip_invalid: bool,
    spec: BatchSpec,
    as_json: bool,
) -> None:
    """Print the forecast.

    Raises InvalidInput for invalid lines, unless they are skipped, and typer.Exit if the budget does not cover the
    expected cost.
    """
    with open_source(file, mapping) as source:
        _show_forecast(source, settings, fleet, skip_invalid=skip_invalid, spec=spec, as_json=as_json)


def _show_forecast(
    source: Source, settings: Settings, fleet: Fleet, *, skip_invalid: bool, spec: BatchSpec, as_json: bool
) -> None:
    if not skip_invalid:
        source.check(fleet)
    forecaster = Forecaster(settings, fleet, None, spec)
    read = read_sample(source.lines(fleet), RequestKeys(fleet, dedup=spec.dedup), forecaster.sample)
    if not forecaster.sample.seen:
        raise UsageError("None of the lines is a valid query.", hint="Run it without --skip-invalid to see each error.")
    found, ages, has_history = _forecast(forecaster, settings)
    forecast = forecast_as_json(found)
    if not has_history:
        del forecast["basis"]["queue"]
        forecast["basis"]["earlier batches"] = (
            "not used, because the embedded Postgres does not start (see `pointsman doctor`)"
        )
    warnings = forecaster.warnings(forecast)
    report = dry_run_report(
        forecast, source=source.name, spec=spec, fleet=fleet, read=read, ages=ages, warnings=warnings
    )
    _show(report, as_json=as_json)
    for warning in warnings:
        warn(warning)
    if read.followers:
        err.print(f"{queries(read.followers)} not counted, because each gets the answer of an identical query")
    if as_json:
        emit(report)
    if not is_covered(report):
        raise typer.Exit(ExitCode.OVER_BUDGET)


def _forecast(forecaster: Forecaster, settings: Settings) -> tuple[Forecast, Mapping[str, Sequence[BatchAge]], bool]:
    """Return the forecast, the durations of earlier provider batches, and whether an existing history was read.

    The embedded Postgres is started if it is down and an earlier command has created it.
    """
    if settings.embeds_postgres and not is_initialized(settings.home):
        return asyncio.run(forecaster.forecast()), {}, True

    async def work(running: Settings) -> tuple[Forecast, Mapping[str, Sequence[BatchAge]]]:
        async with open_database(running) as engine:
            forecaster.engine = engine
            try:
                ages = await ProviderBatches(engine).ages(simulated=forecaster.fleet.simulated)
                return await forecaster.forecast(), ages
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != UNDEFINED_TABLE:
                    raise
                forecaster.engine = None  # never migrated, so without history
                return await forecaster.forecast(), {}

    try:
        services = services_up(settings)
    except ServicesError:
        return asyncio.run(forecaster.forecast()), {}, False
    with services:
        return *asyncio.run(work(services.settings)), True


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    console, forecast = err if as_json else out, report["plan"]
    cost, wall = forecast["cost_usd"], forecast["wall_s"]
    pilot = forecast["pilot"]
    rest = None if pilot is None else pilot["rest"]
    sample = f"{queries(forecast['total'])}, {forecast['sampled']:,} sampled"
    console.print(Text.assemble(("Dry run", "bold"), f" · {plain(report['source'])} · {sample}"))
    console.print(_tiers(forecast))
    within = f"{100 * forecast['interval']:.0f} % range"
    unmeasured = cost["unmeasured"]
    lines = [
        ("Cost", f"{expected_cost(cost, rest)}, {within} ${cost['low']:.6f} to ${cost['high']:.6f}"),
        ("Baseline", _baseline(report, within)),
        (
            "Time",
            f"{duration(wall['expected'])}, {within} {duration(wall['low'])} to {duration(wall['high'])};"
            f" limited by {forecast['bound_by']}",
        ),
        ("Escalated", queries(round(forecast["escalated"])) if rest is None else "known after the pilot"),
        ("Basis", "; ".join(f"{name}: {text}" for name, text in forecast["basis"].items())),
    ]
    if pilot is not None:
        lines.append(("Pilot", _pilot(report, within)))
    elif forecast["skipped_pilot"] is not None:
        lines.append(("Pilot", "none, because it would cost more than it could save (see the warning)"))
    elif forecast["too_small"] is not None:
        lines.append(("Pilot", "none, because the batch is too small (see the warning)"))
    if forecast["over_cap"]:
        lines.append(
            (
                "Over cap",
                f"{forecast['over_cap']:,} would fail without a call, because each could cost more than its "
                "max_cost_usd",
            )
        )
    if report["rejected"]:
        lines.append(("Invalid", f"{plural(report['rejected'], 'line')} would be skipped"))
    if (cap := report["cap_usd"]) is not None:
        of = (
            "the expected cost of all queries"
            if rest is None
            else f"the cost if {rest['most_tier']} alone answers the rest"
        )
        if unmeasured:
            of = f"a guess of {of}"
        verdict = f"covers {of}" if is_covered(report) else f"does not cover {of}: ${report['uncapped_usd']:.6f}"
        lines.append(("Budget", f"${cap:.6f} {verdict}"))
    for label, text in lines:
        console.print(Text.assemble((f"{label:<10} ", "bold"), text))
    if "deadlines" in report:
        console.print(_deadline_table(report["deadlines"]))
    if report["simulated"]:
        console.print("The fleet is simulated: no money would be spent.", style="yellow")


def _pilot(report: Mapping[str, Any], within: str) -> str:
    forecast = report["plan"]
    pilot = forecast["pilot"]
    grade_usd = pilot["grade_cost_usd"]
    cost = pilot_cost(pilot["cost_usd"] - grade_usd, grade_usd)
    if forecast["cost_usd"]["unmeasured"]:
        cost = f"{_UNKNOWN}{' (with grading)' if grade_usd else ''}"
    spread = f"{within} ${pilot['low_usd']:.6f} to ${pilot['high_usd']:.6f}"
    text = f"every tier answers up to {queries(pilot['queries'])}, {cost}, {spread}"
    if pilot["rest"] is None:
        return text
    return f"{text}; the result decides which tier answers the rest; the table assumes {plain(report['top_tier'])}"


def _baseline(report: Mapping[str, Any], within: str) -> str:
    forecast = report["plan"]
    usd, top, rest = forecast["baseline_cost_usd"], report["top_tier"], (forecast["pilot"] or {}).get("rest")
    if not usd["expected"]:
        return "none, because the top tier would cost nothing or cannot answer these lines"
    text = (
        f"{expected_cost(usd)}, {within} ${usd['low']:.6f} to ${usd['high']:.6f}, if {plain(top)} answered every query"
    )
    if report["saving_share"] is None:
        return text
    text += f"; saving {saving(report['saving_usd'], report['saving_share'])}"
    if rest is None:
        return text
    for bound in ("least", "most"):
        saved_usd = usd["expected"] - rest[f"{bound}_usd"]
        compared = saving(saved_usd, saved_usd / usd["expected"])
        text += f"; if {plain(rest[f'{bound}_tier'])} alone answers the rest: {compared}"
    return text


def _tiers(forecast: Mapping[str, Any]) -> Table:
    """Return the tiers, rounded so that each column adds up to its last row."""
    tiers = forecast["tiers"]
    grid = table(("tier",), ("routed", "answers", "share", "calls", "doubted", "cost", "takes"))
    routed, answers, calls = (_rounded(tiers, name) for name in ("routed", "answers", "calls"))
    costs = _rounded(tiers, "cost_usd", digits=6)
    if forecast["pilot"] is not None and forecast["pilot"]["grade_cost_usd"]:
        costs["grading"] = forecast["pilot"]["grade_cost_usd"]
    answered = sum(answers.values()) or 1.0
    shares = round_to_sum({name: 100 * count / answered for name, count in answers.items()}, digits=1)
    for name, tier in tiers.items():
        grid.add_row(
            plain(name),
            f"{routed[name]:,.0f}",
            f"{answers[name]:,.0f}",
            f"{shares[name]:.1f} %",
            f"{calls[name]:,.0f}",
            f"{100 * tier['doubted_share']:.1f} %",
            _UNKNOWN if name in forecast["cost_usd"]["unmeasured"] else f"${costs[name]:.6f}",
            duration(tier["takes_s"]),
        )
    if "grading" in costs:
        grid.add_row("grading", "", "", "", "", "", f"${costs['grading']:.6f}", "")
    if len(tiers) > 1:
        grid.add_row(
            "all",
            *(f"{sum(column.values()):,.0f}" for column in (routed, answers)),
            f"{sum(shares.values()):.1f} %",
            f"{sum(calls.values()):,.0f}",
            "",
            _UNKNOWN if forecast["cost_usd"]["unmeasured"] else f"${sum(costs.values()):.6f}",
            "",
            style="dim",
        )
    return grid


def _rounded(tiers: Mapping[str, Mapping[str, float]], figure: str, *, digits: int = 0) -> dict[str, float]:
    return round_to_sum({name: tier[figure] for name, tier in tiers.items()}, digits=digits)


def _deadline_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rows of `submission.dry_run.compare_deadlines`: cost, end and probability of lateness, by deadline."""
    grid = table(("within", "first waves"), ("cost", "saving", "ends after", "P(late)"))
    for row in rows:
        lanes = ", ".join(f"{plain(tier)} {lane}" for tier, lane in row["lanes"].items())
        if len(used := set(row["lanes"].values())) == 1:
            lanes = used.pop()
        grid.add_row(
            duration(row["within_s"]),
            lanes,
            f"${row['cost_usd']:.6f}",
            f"{100 * row['saving']:.1f} %",
            duration(row["finish_s"]),
            "< 0.01 %" if row["p_late"] < 1e-4 else f"{100 * row['p_late']:.2g} %",
            style="bold" if row["is_asked_for"] else None,
        )
    return grid
