"""What the commands on routers do."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.command_errors import CommandError, ExitCode
from cli.console import emit, err, out
from cli.resources import read_settings
from cli.training import registry, tables
from cli.training.registry import open_router
from evaluation.data.array_types import Floats
from evaluation.data.call_costs import CallCosts, call_costs_for
from evaluation.data.dataset import LADDER, Dataset, Kind, read_dataset
from evaluation.data.dataset_errors import EvaluationError
from evaluation.metrics.label_evaluation import weigh_choices
from evaluation.metrics.outcome_evaluation import Way, weigh_cascade, weigh_router
from evaluation.metrics.recorded_pipeline import ReplayFigures, replay, tiers_known
from evaluation.metrics.router_report import label_report, outcome_report
from evaluation.models.artifact import Artifact, save
from evaluation.models.predictors import predictor_of, scorer_of
from evaluation.training.fit import Progress as Steps
from evaluation.training.threshold_tuning import Knob, Proposal, ThresholdTarget, as_dict, propose
from evaluation.training.toml_edit import with_setting
from evaluation.training.train import TrainedRouter, train
from routing.fleet import Fleet
from routing.policy.decision import decide
from routing.query import Query
from settings import FleetError, check_fleet

GATE: Final = "gate"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the commands share."""

    router: str | None
    fleet_path: Path | None
    seed: int
    draws: int


def train_router(
    data_path: Path, *, out: Path, name: str | None, seed: int, fleet_path: Path | None, as_json: bool
) -> None:
    """See `cli.commands.routers.train`."""
    with in_words():
        if name is not None:
            registry.check_free(name)
        data = read_dataset(data_path, ladder=_ladder(_fleet(fleet_path)))
        _check_writable(out)
        trained = _trained(data, name=name or out.resolve().name or "router", seed=seed)
        save(trained.artifact, out)
        if name is not None:
            registry.register(out)
    told = {"out": str(out), "registered": name, **trained.artifact.manifest}
    if as_json:
        emit(told)
    else:
        tables.show_training(told)


def evaluate_router(data_path: Path, *, asked: TrainOptions, plot: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    with in_words():
        fleet = _fleet(asked.fleet_path)
        data = read_dataset(data_path, ladder=_ladder(fleet))
        artifact = None if asked.router == GATE else open_router(asked.router)
        if data.kind == Kind.LABELLED:
            if plot is not None:
                raise CommandError(
                    "There is no curve to draw of expected tiers.", hint="Leave --plot out.", code=ExitCode.USAGE
                )
            report = _evaluate_labels(data, artifact, fleet, asked)
        else:
            if artifact is None:
                raise CommandError(
                    "The gate alone tells no probabilities to rank by.", hint="Give labels.", code=ExitCode.USAGE
                )
            report, ways = _evaluate_outcomes(data, artifact, fleet, asked)
            if plot is not None:
                _draw(ways, data, plot)
    if as_json:
        emit(report)
    else:
        tables.show_report(report)
        if plot is not None:
            out.print(f"Drawn to {plot}")


def calibrate_router(
    data_path: Path,
    *,
    cost: float | None,
    quality: float | None,
    asked: TrainOptions,
    write: Path | None,
    as_json: bool,
) -> None:
    """See `cli.commands.routers.calibrate`."""
    if (cost is None) == (quality is None):
        raise CommandError(
            "Give either --target-cost or --target-quality.", hint="--target-cost 0.4", code=ExitCode.USAGE
        )
    with in_words():
        fleet = _fleet(asked.fleet_path)
        data = read_dataset(data_path, ladder=_ladder(fleet))
        if data.kind == Kind.LABELLED:
            raise CommandError(
                "Expected tiers tell nothing of cost and quality.", hint="Give outcomes.", code=ExitCode.USAGE
            )
        p_ok, p_right, source = _honest(data, asked)
        tariff = call_costs_for(data, fleet if asked.fleet_path else None)
        proposals = propose(
            data, p_ok=p_ok, p_right=p_right, tariff=tariff, target=ThresholdTarget(cost, quality), seed=asked.seed
        )
        if write is not None:
            _write_fleet(proposals[0], asked, write)
    if as_json:
        emit(
            {
                "target": {"cost": cost, "quality": quality},
                "n": len(data),
                "predictions": source,
                "tariff": tariff.source,
                "proposals": [as_dict(proposal) for proposal in proposals],
                "written": None if write is None else str(write),
            }
        )
        return
    tables.show_proposals(proposals, source=source, tariff=tariff, n=len(data))
    if write is not None:
        out.print(f"Written to {write}. Use it: --fleet {write}")


@contextmanager
def in_words() -> Iterator[None]:
    """What is wrong with data, artifacts and targets ends the command with a sentence and 2."""
    try:
        yield
    except EvaluationError as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error


def _fleet(path: Path | None) -> Fleet | None:
    """The fleet that is asked for; without asking, the one that stands, or None where it is not sound."""
    settings = read_settings(path)
    if path is not None:
        return settings.fleet()
    try:
        return settings.fleet()
    except FleetError:
        return None


def _ladder(fleet: Fleet | None) -> tuple[str, ...]:
    if fleet is None:
        return LADDER
    return (*fleet.ladder, *(tier for tier in fleet.tiers if tier not in fleet.ladder))


@contextmanager
def training_bar(words: str) -> Iterator[Steps]:
    """A progress bar of a training on ``words``, and what tells it of each step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(words, total=None)

        def tell(what: str, done: int, of: int) -> None:
            bar.update(task, description=f"{words} · {what}", completed=done, total=of)

        yield tell


def _trained(data: Dataset, *, name: str, seed: int) -> TrainedRouter:
    with training_bar(f"{len(data):,} lines") as tell:
        return train(data, name=name, seed=seed, now=datetime.now(UTC), progress=tell)


def _evaluate_outcomes(
    data: Dataset, artifact: Artifact, fleet: Fleet | None, asked: TrainOptions
) -> tuple[dict[str, Any], list[Way]]:
    tariff = call_costs_for(data, fleet if asked.fleet_path else None)
    p_ok = _predict(data, artifact)
    way = weigh_router(data, p_ok, tariff, seed=asked.seed, draws=asked.draws)
    cascade = None
    if artifact.scorer is not None and data.has_answers:
        threshold = fleet.tiers[data.cheapest].confidence_threshold if fleet and data.cheapest in fleet.tiers else 0.7
        p_right = artifact.scorer(data.queries, data.answers)
        cascade = weigh_cascade(data, p_right, tariff, threshold=threshold, seed=asked.seed, draws=asked.draws)
    report = outcome_report(
        data, way, cascade, router=_identity(artifact), tariff=tariff, pipeline=_replayed(data, artifact, fleet, tariff)
    )
    return report, [way] if cascade is None else [way, cascade]


def _replayed(data: Dataset, artifact: Artifact, fleet: Fleet | None, tariff: CallCosts) -> ReplayFigures | None:
    if fleet is None or not tiers_known(data, fleet):
        return None
    return replay(data, fleet=fleet, predictor=predictor_of(artifact), scorer=scorer_of(artifact), tariff=tariff)


def _evaluate_labels(
    data: Dataset, artifact: Artifact | None, fleet: Fleet | None, asked: TrainOptions
) -> dict[str, Any]:
    if fleet is None:
        raise CommandError(
            "Expected tiers are tiers of a fleet, and there is no sound one.", hint="--fleet FILE", code=ExitCode.USAGE
        )
    queries = [Query(text=text) for text in data.queries]

    def tiers(stages: tuple[str, ...], artifact: Artifact | None) -> list[str]:
        own = replace(fleet, router=replace(fleet.router, stages=stages, exploration=0.0))
        predictor = None if artifact is None else predictor_of(artifact)
        return [decision.tier for decision in decide(queries, fleet=own, predictor=predictor)]

    if artifact is None:
        chosen = {"gate": tiers(("gate",), None)}
        identity: Mapping[str, Any] = {"name": GATE}
    else:
        identity = _identity(artifact)
        chosen = {
            "router": tiers(("gate", "classifier"), artifact),
            "gate alone": tiers(("gate",), None),
            "classifier alone": tiers(("classifier",), artifact),
        }
    weight = fleet.router.quality_weight
    report = weigh_choices(data, chosen, tiers=_ladder(fleet), weight=weight, seed=asked.seed, draws=asked.draws)
    return label_report(data, report, router=identity, weight=weight)


def _predict(data: Dataset, artifact: Artifact) -> Floats:
    """P(tier answers well) for the data's tiers, shape (n, tiers)."""
    known = artifact.classifier.tiers
    if missing := [tier for tier in data.tiers if tier not in known]:
        raise EvaluationError(
            f"router {artifact.name} knows the tiers {', '.join(known)}, the data also {', '.join(missing)}; "
            "train one on data of the same tiers"
        )
    # In chunks as at work: all at once would hold every text's words in memory.
    told = [artifact.classifier(data.queries[at : at + 1000]) for at in range(0, len(data), 1000)]
    return np.concatenate(told)[:, [known.index(tier) for tier in data.tiers]]


def _honest(data: Dataset, asked: TrainOptions) -> tuple[Floats, Floats | None, str]:
    """Predictions for lines that the model had not seen, and where they are from."""
    if asked.router is not None:
        artifact = open_router(asked.router)
        if artifact.manifest["data"]["sha256"] != data.sha256:
            p_right = artifact.scorer(data.queries, data.answers) if artifact.scorer and data.has_answers else None
            return _predict(data, artifact), p_right, f"router {artifact.name}"
    trained = _trained(data, name="calibration", seed=asked.seed)
    return trained.p_ok, trained.p_right, "cross-validation on these lines"


def _identity(artifact: Artifact) -> dict[str, Any]:
    trained_on = artifact.manifest["data"]
    return {
        "name": artifact.name,
        "digest": artifact.digest,
        "data_name": trained_on["name"],
        "data_sha256": trained_on["sha256"],
        "lines": trained_on["lines"],
    }


def _draw(ways: Sequence[Way], data: Dataset, path: Path) -> None:
    from evaluation.metrics.plots import draw

    try:
        draw(ways, title=f"{data.name} · {len(data):,} queries", path=path)
    except ValueError as error:
        raise CommandError(
            f"{path}: cannot be drawn to.", hint="Name a .png or .svg file.", code=ExitCode.USAGE
        ) from error


def _write_fleet(proposal: Proposal, asked: TrainOptions, target: Path) -> None:
    """The fleet's text with the proposed number and the router that it holds for, checked before it is written."""
    source = read_settings(asked.fleet_path).fleet_path
    table = f"tiers.{proposal.tier}" if proposal.knob == Knob.CONFIDENCE else "router"
    text = with_setting(source.read_text(encoding="utf-8"), table=table, key=str(proposal.knob), value=proposal.value)
    if asked.router is not None:
        router = str(Path(asked.router).resolve()) if Path(asked.router).is_dir() else asked.router
        text = with_setting(text, table="router", key="classifier", value=router)
        if proposal.knob == Knob.CONFIDENCE:
            text = with_setting(text, table="router", key="scorer", value=router)
    fresh = target.with_name(f".{target.name}.fresh")
    fresh.write_text(text, encoding="utf-8")
    try:
        check_fleet(fresh, os.environ)
    except FleetError:
        fresh.unlink()
        raise
    fresh.replace(target)


def _check_writable(folder: Path) -> None:
    """Before minutes of work: the folder can be made and is not a file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.touch()
    probe.unlink()
