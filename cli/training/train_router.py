"""The work of `train`, `evaluate` and `calibrate`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.command_errors import UsageError
from cli.console import emit, err, out
from cli.open_services import read_settings
from cli.output_files import open_atomically
from cli.training import registry, report_tables
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
from fleet_config import FleetError, check_fleet
from routing.fleet import Fleet
from routing.policy.decision import decide
from routing.query import Query

GATE: Final = "gate"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options that the commands share."""

    router: str | None
    fleet_path: Path | None
    seed: int
    draws: int


def train_router(
    data_path: Path,
    *,
    out: Path,
    name: str | None,
    workload: str | None,
    seed: int,
    fleet_path: Path | None,
    as_json: bool,
) -> None:
    """See `cli.commands.routers.train`."""
    with usage_errors():
        if name is not None:
            registry.check_free(name)
        data = read_dataset(data_path, ladder=_ladder(_fleet(fleet_path)))
        _check_writable(out)
        trained = _trained(data, name=name or out.resolve().name or "router", seed=seed)
        trained.artifact.manifest["workload"] = workload
        save(trained.artifact, out)
        if name is not None:
            registry.register(out)
    report = {"out": str(out), "registered": name, **trained.artifact.manifest}
    if as_json:
        emit(report)
    else:
        report_tables.show_training(report)


def evaluate_router(data_path: Path, *, options: TrainOptions, plot: Path | None, as_json: bool) -> None:
    """See `cli.commands.routers.evaluate`."""
    with usage_errors():
        fleet = _fleet(options.fleet_path)
        data = read_dataset(data_path, ladder=_ladder(fleet))
        artifact = None if options.router == GATE else open_router(options.router)
        if data.kind == Kind.LABELLED:
            if plot is not None:
                raise UsageError("There is no curve for expected tiers.", hint="Omit --plot.")
            report = _evaluate_labels(data, artifact, fleet, options)
        else:
            if artifact is None:
                raise UsageError("The gate alone has no probabilities to rank by.", hint="Give labels as DATA.")
            report, ways = _evaluate_outcomes(data, artifact, fleet, options)
            if plot is not None:
                _draw(ways, data, plot)
    if as_json:
        emit(report)
    else:
        report_tables.show_report(report)
        if plot is not None:
            out.print(f"Plot written to {plot}")


def calibrate_router(
    data_path: Path,
    *,
    cost: float | None,
    quality: float | None,
    options: TrainOptions,
    write: Path | None,
    as_json: bool,
) -> None:
    """See `cli.commands.routers.calibrate`."""
    if (cost is None) == (quality is None):
        raise UsageError("Give either --target-cost or --target-quality.", hint="--target-cost 0.4")
    with usage_errors():
        fleet = _fleet(options.fleet_path)
        data = read_dataset(data_path, ladder=_ladder(fleet))
        if data.kind == Kind.LABELLED:
            raise UsageError("Expected tiers have neither cost nor quality.", hint="Give outcomes as DATA.")
        p_ok, p_right, source = _unseen_predictions(data, options)
        tariff = call_costs_for(data, fleet if options.fleet_path else None)
        proposals = propose(
            data, p_ok=p_ok, p_right=p_right, tariff=tariff, target=ThresholdTarget(cost, quality), seed=options.seed
        )
        if write is not None:
            _write_fleet(proposals[0], options, write)
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
    report_tables.show_proposals(proposals, source=source, tariff=tariff, n=len(data))
    if write is not None:
        out.print(f"Fleet written to {write}. Use it with --fleet {write}")


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn errors of data, artifacts and targets into usage errors."""
    try:
        yield
    except EvaluationError as error:
        raise UsageError(str(error)) from error


def _fleet(path: Path | None) -> Fleet | None:
    """Return the fleet at ``path``. For None, return the default one, or None if that is invalid."""
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
    return (*fleet.ladder, *(tier for tier in fleet.chat_tiers if tier not in fleet.ladder))


@contextmanager
def training_bar(title: str) -> Iterator[Steps]:
    """Return a callback for the steps of a training that shows a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(step: str, done: int, total: int) -> None:
            bar.update(task, description=f"{title} · {step}", completed=done, total=total)

        yield update


def _trained(data: Dataset, *, name: str, seed: int) -> TrainedRouter:
    with training_bar(f"{len(data):,} lines") as progress:
        return train(data, name=name, seed=seed, now=datetime.now(UTC), progress=progress)


def _evaluate_outcomes(
    data: Dataset, artifact: Artifact, fleet: Fleet | None, options: TrainOptions
) -> tuple[dict[str, Any], list[Way]]:
    tariff = call_costs_for(data, fleet if options.fleet_path else None)
    p_ok = _predict(data, artifact)
    way = weigh_router(data, p_ok, tariff, seed=options.seed, draws=options.draws)
    cascade = None
    if artifact.scorer is not None and data.has_answers:
        threshold = fleet.tiers[data.cheapest].confidence_threshold if fleet and data.cheapest in fleet.tiers else 0.7
        p_right = artifact.scorer(data.queries, data.answers)
        cascade = weigh_cascade(data, p_right, tariff, threshold=threshold, seed=options.seed, draws=options.draws)
    report = outcome_report(
        data, way, cascade, router=_identity(artifact), tariff=tariff, pipeline=_replayed(data, artifact, fleet, tariff)
    )
    return report, [way] if cascade is None else [way, cascade]


def _replayed(data: Dataset, artifact: Artifact, fleet: Fleet | None, tariff: CallCosts) -> ReplayFigures | None:
    if fleet is None or not tiers_known(data, fleet):
        return None
    return replay(data, fleet=fleet, predictor=predictor_of(artifact), scorer=scorer_of(artifact), tariff=tariff)


def _evaluate_labels(
    data: Dataset, artifact: Artifact | None, fleet: Fleet | None, options: TrainOptions
) -> dict[str, Any]:
    if fleet is None:
        raise UsageError("Expected tiers need a fleet, and the default one is invalid.", hint="--fleet FILE")
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
    report = weigh_choices(data, chosen, tiers=_ladder(fleet), weight=weight, seed=options.seed, draws=options.draws)
    return label_report(data, report, router=identity, weight=weight)


def _predict(data: Dataset, artifact: Artifact) -> Floats:
    """Return P(tier answers well) for the data's tiers, shape (n, tiers)."""
    known = artifact.classifier.tiers
    if missing := [tier for tier in data.tiers if tier not in known]:
        raise EvaluationError(
            f"router {artifact.name} has the tiers {', '.join(known)}, but the data also has {', '.join(missing)}. "
            "fix: train a router on data of the same tiers"
        )
    # In chunks, as workers do: memory holds the features of a chunk only.
    chunks = [artifact.classifier(data.queries[at : at + 1000]) for at in range(0, len(data), 1000)]
    return np.concatenate(chunks)[:, [known.index(tier) for tier in data.tiers]]


def _unseen_predictions(data: Dataset, options: TrainOptions) -> tuple[Floats, Floats | None, str]:
    """Return P(ok) and P(right) by a model that did not see the line in training, and the model's origin."""
    if options.router is not None:
        artifact = open_router(options.router)
        if artifact.manifest["data"]["sha256"] != data.sha256:
            p_right = artifact.scorer(data.queries, data.answers) if artifact.scorer and data.has_answers else None
            return _predict(data, artifact), p_right, f"router {artifact.name}"
    trained = _trained(data, name="calibration", seed=options.seed)
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
        raise UsageError(f"{path}: unknown image format.", hint="Use the name of a .png or .svg file.") from error


def _write_fleet(proposal: Proposal, options: TrainOptions, target: Path) -> None:
    """Write the fleet file with the proposed value and its router, once the new text is valid."""
    source = read_settings(options.fleet_path).fleet_path
    table = f"tiers.{proposal.tier}" if proposal.knob == Knob.CONFIDENCE else "router"
    text = with_setting(source.read_text(encoding="utf-8"), table=table, key=str(proposal.knob), value=proposal.value)
    if options.router is not None:
        router = str(Path(options.router).resolve()) if Path(options.router).is_dir() else options.router
        text = with_setting(text, table="router", key="classifier", value=router)
        if proposal.knob == Knob.CONFIDENCE:
            text = with_setting(text, table="router", key="scorer", value=router)
    with open_atomically(target) as file:
        file.write(text.encode())
        file.flush()
        check_fleet(Path(file.name), os.environ)


def _check_writable(folder: Path) -> None:
    """Create the folder and check that it is writable, before minutes of work. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.touch()
    probe.unlink()
