"""``pointsman check-fleet``."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.command_errors import ExitCode, UsageError
from cli.console import emit, out, plain, plural, table, warn
from cli.open_services import fleet_label, read_settings
from cli.param_types import JsonOption
from fleet_config import SIMULATOR, check_fleet
from routing.answer_checks.threshold_action import extra_calls, threshold_action
from routing.fleet import Fleet, Model
from routing.policy.decision import decide
from routing.query import Query
from settings import EnvironWithFiles

if TYPE_CHECKING:  # cli.fleet_calls is imported late: an HTTP client would cost every other command a third of a second
    from cli.fleet_calls import DeploymentCheck, FeatureCheck

app = typer.Typer()


@app.command("check-fleet")
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: POINTSMAN_FLEET, or fleet.toml.")
    ] = None,
    as_json: JsonOption = False,
    calls: Annotated[
        bool,
        typer.Option(
            "--call", help="Also make a few calls to each deployment, and show which features work. This costs cents."
        ),
    ] = False,
    is_confirmed: Annotated[
        bool, typer.Option("--yes", "-y", help="Make the paid calls of --call without asking first.")
    ] = False,
) -> None:
    """Check a fleet file.

    Prints each problem with its key and the fix. Exits with 2 if there is a problem. With --call, exits with 1 if
    something that the fleet relies on does not work.
    """
    settings = read_settings(file)
    path = settings.fleet_path
    simulator = {} if settings.simulator_url is None else {"POINTSMAN_SIMULATOR_URL": settings.simulator_url}
    environ = EnvironWithFiles(simulator | os.environ)
    checked = check_fleet(path, environ)
    fleet = checked.fleet
    if calls:
        _call(fleet, environ, is_confirmed=is_confirmed, as_json=as_json)
        return
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
                    for tier in map(fleet.tiers.__getitem__, fleet.chat_tiers)
                    for model in fleet.deployments(tier.name)
                    for action in [threshold_action(model, fleet)]
                ],
                "lanes": {name: _lane_prices(model) for name, model in fleet.models.items()},
                "embeddings": fleet.embedding_tier,
                "aliases": fleet.aliases,
                "baseline": None if fleet.baseline is None else fleet.baseline.model,
                "begins": _begins(fleet),
                "warnings": [asdict(warning) for warning in checked.warnings],
            }
        )
        return
    out.print(f"{path} is valid: {fleet_label(fleet)}, {' → '.join(fleet.ladder)}")
    grid = table(("tier", "model", "provider", "lanes"), ("$ in / Mtok", "$ out / Mtok", "context"))
    for tier in fleet.tiers:
        for model in fleet.deployments(tier):
            price = model.price
            grid.add_row(
                plain(tier),
                plain(model.name),
                plain(model.provider),
                " ".join(model.lanes),
                f"{price.input_usd_per_mtok * price.multiplier:,.3f}",
                f"{price.output_usd_per_mtok * price.multiplier:,.3f}",
                f"{model.context_tokens:,}",
            )
    out.print(grid)
    out.print(f"Embeddings: {_embeddings(fleet)}")
    if fleet.aliases:
        shown = ", ".join(f"{name} → {meaning}" for name, meaning in fleet.aliases.items())
        out.print(f"Aliases: {plain(shown)}")
    if fleet.baseline is not None:
        out.print(f"Second baseline, in addition to {plain(fleet.top)}: {plain(fleet.baseline.model)}")
    out.print(_confidence_table(fleet))
    if not fleet.simulated:
        begins = _begins(fleet)
        others = plain(begins.pop(""))
        named = "".join(f"those of workload {plain(name)} start at {plain(tier)}, " for name, tier in begins.items())
        out.print(f"Queries without evidence for a tier: {named}{'all others' if named else 'all'} start at {others}.")
    if not all(
        threshold_action(model, fleet).is_calibrated
        for model in fleet.models.values()
        if fleet.tiers[model.tier].escalates_to is not None
    ):
        out.print(
            "An uncalibrated confidence is a score, not a probability. The threshold escalates answers with a "
            "low score, but the score does not say how good the others are. Fix: grade answers, and put the "
            "output of `pointsman calibrate-confidence` into the fleet.",
            style="dim",
        )
    for warning in checked.warnings:
        warn(str(warning))


def _embeddings(fleet: Fleet) -> str:
    """Return the deployment for lines of /v1/embeddings."""
    if (tier := fleet.embedding_tier) is None:
        return 'refused, because no tier has endpoint = "embeddings"'
    return f"{plain(fleet.deployments(tier)[0].model)} in tier {plain(tier)}; not judged, never escalated"


def _lane_prices(model: Model) -> dict[str, dict[str, float]]:
    """Return the prices per million tokens in each lane of a deployment, in US dollars."""
    prices = {lane: model.price.at_service_tier(lane) for lane in model.lanes}
    return {
        lane.value: {
            "input_usd_per_mtok": price.input_usd_per_mtok * price.multiplier,
            "output_usd_per_mtok": price.output_usd_per_mtok * price.multiplier,
        }
        for lane, price in prices.items()
    }


def _begins(fleet: Fleet) -> dict[str, str]:
    """Return the tier at which queries of a workload start without a pin, a floor, a vote or a sign of difficulty.

    By workload. "" stands for queries without one, and for all that the fleet does not name.
    """
    workloads = sorted({"", *fleet.workloads, *(one.workload for one in fleet.calibrations)})
    unknown = replace(fleet, simulated=False, router=replace(fleet.router, stages=()))
    decisions = decide([Query("", workload=workload) for workload in workloads], fleet=unknown, predictor=None)
    return {workload: decision.tier for workload, decision in zip(workloads, decisions, strict=True)}


def _call(fleet: Fleet, environ: Mapping[str, str], *, is_confirmed: bool, as_json: bool) -> None:
    """Call each deployment and print what works. Raises UsageError, typer.Exit."""
    from cli.fleet_calls import call_fleet, most_usd

    if any(provider.base_url.startswith(SIMULATOR) for provider in fleet.providers.values()):
        raise UsageError("The simulator is not running.", hint="`pointsman up` starts it.")
    most = most_usd(fleet)
    deployments = plural(len(fleet.models), "deployment")
    offer = f"A few calls to each of {deployments} cost at most ${most:.4f}, usually a tenth of that"
    if not is_confirmed:
        if as_json or not sys.stdin.isatty():
            raise UsageError(f"{offer}.", hint="Add --yes to pay for it.")
        typer.confirm(f"{offer}. Call them now?", abort=True, err=True)
    found = asyncio.run(call_fleet(fleet, environ))
    broken = {check.model.name: check.broken for check in found if check.broken}
    if as_json:
        emit(
            {
                "name": fleet.name,
                "simulated": fleet.simulated,
                "cost_usd": round(sum(check.cost_usd for check in found), 9),
                "deployments": [
                    {
                        "deployment": check.model.name,
                        "model": check.model.model,
                        "provider": check.model.provider,
                        "tier": check.model.tier,
                        "latency_ms": check.latency_ms and round(check.latency_ms, 1),
                        "repeated": check.repeated,
                        "refused": check.refused,
                        "features": {name: asdict(feature) for name, feature in check.features.items()},
                    }
                    for check in found
                ],
                "broken": broken,
            }
        )
    else:
        _show_calls(found)
    if broken:
        raise typer.Exit(ExitCode.FAILURE)


def _show_calls(found: "Sequence[DeploymentCheck]") -> None:
    from cli.fleet_calls import FEATURES

    grid = table(("tier", "model", "provider", *FEATURES), ("latency",))
    for check in found:
        marks = [_mark(check.features.get(name)) for name in FEATURES]
        latency = "–" if check.latency_ms is None else f"{check.latency_ms:,.0f} ms"
        names = (check.model.tier, check.model.name, check.model.provider)
        grid.add_row(*map(plain, names), *marks, latency)
    out.print(grid)
    for check in found:
        for name, feature in check.features.items():
            if not feature.works:
                relied = " (the fleet relies on it)" if feature.relied_on else ""
                fault = f"{feature.fault}: " if feature.fault else ""
                cause = plain(feature.cause or "")
                out.print(f"{plain(check.model.name)}: {name}{relied}: {fault}{cause}. {feature.fix}")
        for param, fix in check.refused.items():
            out.print(f"{plain(check.model.name)}: refuses {plain(param)}; fix: {plain(fix)}.")
        if check.repeated:
            repeated = f"{plural(check.repeated, 'failed call')} retried, as in a batch"
            out.print(f"{plain(check.model.name)}: {repeated}.")
    out.print(f"Cost: ${sum(check.cost_usd for check in found):.6f}, not recorded in the ledger.")


def _mark(feature: "FeatureCheck | None") -> Text:
    if feature is None:
        return Text("–", style="dim")
    if feature.works:
        return Text("yes", style="green")
    fault = f": {feature.fault}" if feature.fault else ""
    return Text(f"{'NO' if feature.relied_on else 'no'}{fault}", style="red")


def _confidence_table(fleet: Fleet) -> Table:
    grid = table(("tier", "model"), ("threshold",))
    for name in ("acts on", "calibrated", "extra calls"):
        grid.add_column(name)
    for tier in map(fleet.tiers.__getitem__, fleet.chat_tiers):
        for model in fleet.deployments(tier.name):
            action = threshold_action(model, fleet)
            if tier.escalates_to is None:
                grid.add_row(plain(tier.name), plain(model.name), "none", "there is no higher tier", "", "")
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
