"""The quality floor on recorded outcomes: is it kept, and what does it save?

    python -m benchmarks.quality_floor FILE... [--floor 0.9] [--confidence 0.95] [--grader outcomes|agreement|judge]
                                       [--judge-error 0.05] [--lines 2000] [--draws 200] [--json]
    python -m benchmarks.quality_floor --validity [FILE...] [--picture FILE.png]
    python -m benchmarks.quality_floor … --checkpoint DRAWS.jsonl     (goes on where it was interrupted)

A draw samples a pilot from a file's questions, fits and certifies on it alone, and measures what the policy loses and
costs on the questions that are not in the pilot. A file stands for a batch of ``--lines`` queries of its kind: the
pilot and a rest like those other questions. At most half of a file's questions are sampled, so that enough are left to
measure on. What the floor promises is the batch's mean loss: that of the rest times the rest's share of the lines, for
the pilot's queries have the top tier's answers.

Columns (and keys of ``--json``; all are means over draws):

- ``violations``: the share of draws in which the batch's mean loss, by the file's ``correct`` (the top tier's minus
  the policy's), exceeds 1 - floor. ``violations_graded`` is the same by the grader's measure; ``violations_rest`` is
  that of the rest alone, for which less is promised.
- ``saving``: the share of what the top tier alone would cost, with the pilot's calls paid. ``saving_hindsight`` is that
  of the cheapest policy of the same family that keeps the floor on the questions outside the pilot, chosen by their own
  outcomes and with no pilot to pay: nothing can reach it. It is measured in the first 60 draws alone.
- ``pilot_cost``: what the pilot's calls cost, as a share of what the top tier alone would cost for the batch.
- ``pilot_queries``: how many questions were graded; ``quality``: 1 - the batch's mean loss, ``quality_rest`` that of
  the rest alone; ``policy``: the usual one.

Prices: the cheapest tier costs 0.06 of the top, tiers between lie on a geometric scale, as in
`evaluation.data.call_costs`.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from benchmarks.quality_picture import draw_savings
from evaluation.data.array_types import Floats, Places
from evaluation.data.dataset import read_dataset
from evaluation.data.dataset_errors import DataError
from evaluation.graders.grader_choice import choose_grader
from evaluation.graders.text_graders import GraderKind, grader
from evaluation.quality_floor.certification import (
    ChosenPolicy,
    PolicyKind,
    QualityTarget,
    chosen_by,
    climbs,
    kind_of,
    rest_share,
    shares_of,
)
from evaluation.quality_floor.ladder_features import LadderFeatures, ladder_features
from evaluation.quality_floor.loss_bound import upper_bounds
from evaluation.quality_floor.pilot_size import gains, plan_pilot
from evaluation.quality_floor.policy_path import FOLDS, PolicyPath, fit_path

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
CHEAPEST_PRICE = 0.06
"""A call to the cheapest tier, in calls to the top tier."""

HINDSIGHT_DRAWS = 60
"""Hindsight tries every policy on the questions outside the pilot: of so many draws its mean is known well enough."""

MOST_MEASURED = 3_000
"""Of a large file, this many questions outside the pilot are enough to measure on."""

FLOORS = (0.85, 0.9, 0.95)
CONFIDENCES = (0.9, 0.95)
GRADERS = (("outcomes", 0.0), ("agreement", 0.0), ("judge", 0.05), ("judge", 0.1))


@dataclass(frozen=True)
class Workload:
    """A file's questions, as arrays."""

    name: str
    tiers: tuple[str, ...]
    costs: Floats
    features: LadderFeatures
    correct: Floats
    """Shape (questions, tiers)."""
    agreement: Floats | None
    """The agreement of each tier's answer with the top tier's. None if answers are missing."""
    agreement_grader: str


@dataclass(frozen=True)
class Setting:
    """What a run measures: for all targets from the same pilots."""

    targets: tuple[QualityTarget, ...]
    grader: str
    judge_error: float
    lines: int
    pilot: int | None = None
    naive: bool = False
    """The empirical threshold instead of the bound."""


@dataclass(frozen=True)
class Draw:
    """What one pilot led to."""

    violated: bool
    violated_graded: bool
    violated_rest: bool
    below_interval: bool
    """The true quality is below the interval that the certificate states."""
    saving: float
    hindsight: float | None
    """None where it was not measured."""
    pilot_cost: float
    pilot_queries: int
    quality: float
    quality_rest: float
    quality_measured: float
    """As the pilot measures it."""
    policy: PolicyKind


def load(path: Path, *, shuffled: int | None = None, by_difficulty: bool = False) -> Workload:
    """Reads a file of outcomes. ``shuffled`` gives every question another one's outcomes, by that seed."""
    data = read_dataset(path)
    examples = list(data.examples)
    if by_difficulty:
        examples.sort(key=lambda example: sum(example.ok.values()))
    tiers = data.tiers
    correct = np.array([[example.ok[tier] for tier in tiers] for example in examples], dtype=np.float64)
    answers = [[example.answers.get(tier, "") for example in examples] for tier in tiers]
    agreement, kind = None, "none"
    if any(any(texts) for texts in answers[:-1]) and any(answers[-1]):
        chosen = choose_grader(answers[-1])
        # Texts alone do not show whether two free texts say the same: here only the same text counts.
        chosen = GraderKind.EXACT if chosen is GraderKind.JUDGE else chosen
        agrees = grader(chosen)
        own = [[agrees(text, top) for text, top in zip(texts, answers[-1], strict=True)] for texts in answers[:-1]]
        agreement, kind = np.array([*own, [1.0] * len(examples)]).T, chosen.value
    if shuffled is not None:
        order = np.random.default_rng(shuffled).permutation(len(examples))
        correct = correct[order]
        agreement = None if agreement is None else agreement[order]
    orders = [word for word, is_so in (("shuffled", shuffled is not None), ("by difficulty", by_difficulty)) if is_so]
    return Workload(
        name=" ".join([path.stem.removesuffix("_outcomes"), *orders]),
        tiers=tiers,
        costs=np.geomspace(CHEAPEST_PRICE, 1.0, len(tiers)) if len(tiers) > 1 else np.ones(1),
        features=ladder_features([example.query for example in examples], answers[:-1]),
        correct=correct,
        agreement=agreement,
        agreement_grader=kind,
    )


def graded(work: Workload, setting: Setting, seed: int) -> tuple[Floats, float] | None:
    """The loss of each tier's answer as the grader sees it, and the share of real losses that it may miss.

    None where the grader has nothing to go by.
    """
    loss = work.correct[:, -1:] - work.correct
    match setting.grader:
        case "outcomes":
            return loss, 0.0
        case "agreement":
            return None if work.agreement is None else (1.0 - work.agreement, 0.0)
        case "judge":
            worse = loss > 0
            wrong = np.random.default_rng([seed, 7]).random(loss.shape) < setting.judge_error
            seen = (worse ^ wrong).astype(np.float64)
            seen[:, -1] = 0.0
            return seen, setting.judge_error
        case _:
            raise ValueError(setting.grader)


def draw(work: Workload, setting: Setting, seed: int) -> list[Draw]:
    """One pilot, and what comes of it for each target."""
    n = len(work.correct)
    nothing = Draw(False, False, False, False, 0.0, 0.0, 0.0, 0, 1.0, 1.0, 1.0, PolicyKind.ALL_TOP)
    grades = graded(work, setting, seed)
    if grades is None or len(work.tiers) < 2:
        return [nothing] * len(setting.targets)
    losses, missed = grades
    order = np.random.default_rng([seed, 1]).permutation(n)
    paths: dict[int, PolicyPath] = {}
    bounds: dict[tuple[int, float], Floats] = {}
    found = []
    for target in setting.targets:
        plan = plan_pilot(target, setting.lines, missed=missed, most=min(n // 2, setting.pilot or n))
        if not plan.size:
            found.append(nothing)
            continue
        most_loss = target.most_rest_loss(pilot=plan.size, batch_size=setting.lines) * (1.0 - missed)
        risk = 1.0 - target.confidence
        place, stated, size = None, (0.0, 0.0), 0
        for size in sorted({plan.first, plan.size}):
            rows = order[:size]
            if size not in paths:
                paths[size] = fit_path(work.features, rows, losses[rows], work.costs, seed=seed)
            if (size, risk) not in bounds:
                # What is promised is kept or broken on the questions that are left to measure on.
                lost, rest_size = paths[size].crossfit.loss(losses[rows]), min(n, setting.lines) - size
                bounds[size, risk] = upper_bounds(lost, risk=risk, rest=rest_size)
            chosen = chosen_by(paths[size], losses[rows], bounds[size, risk], most_loss=most_loss)
            if size == plan.size:
                place = _naive(chosen, most_loss) if setting.naive else chosen.place
                if place is not None:
                    stated = float(chosen.losses[place]), float(chosen.bounds[place]) / (1.0 - missed)
            elif not gains(
                chosen,
                size=size,
                planned=plan.size,
                batch_size=setting.lines,
                query_cost=float(work.costs.sum()),
                most_loss=most_loss,
            ):
                break
        hindsight = seed < HINDSIGHT_DRAWS
        found.append(
            _outcome(work, setting, target, paths[size], losses, order[size:], place, stated, hindsight=hindsight)
        )
    return found


def _naive(chosen: ChosenPolicy, most_loss: float) -> int | None:
    """The cheapest policy that looks right on the pilot."""
    passes = chosen.losses <= most_loss
    end = len(passes) if passes.all() else int(passes.argmin())
    return int(chosen.costs[:end].argmin()) if end else None


def _outcome(
    work: Workload,
    setting: Setting,
    target: QualityTarget,
    path: PolicyPath,
    losses: Floats,
    others: Places,
    place: int | None,
    stated: tuple[float, float],
    *,
    hindsight: bool,
) -> Draw:
    """What the policy at ``place`` of ``path`` does with the questions outside the pilot.

    ``stated`` is the mean loss of the rest that the certificate measures, and its bound.
    """
    size, rest = len(path.rows), others[:MOST_MEASURED]
    fold = np.arange(len(rest)) % FOLDS
    real = work.correct[rest][:, -1:] - work.correct[rest]
    loss, cost, seen, kind = 0.0, 1.0, 0.0, PolicyKind.ALL_TOP
    if place is not None:
        choices = path.choices(work.features, rest, fold, np.array([place]))
        loss, seen = float(choices.loss(real).mean()), float(choices.loss(losses[rest]).mean())
        cost = float(choices.cost.mean())
        starts, accepts = shares_of(choices, 0, len(work.tiers))
        kind = kind_of(starts, accepts, climbs=climbs(choices, 0))
    best = None
    if hindsight:
        every = path.choices(work.features, rest, fold)
        keeps = every.loss(real).mean(axis=0) <= target.most_loss
        best = max(1.0 - float(every.cost.mean(axis=0)[keeps].min()), 0.0) if keeps.any() else 0.0
    pilot_cost = size * float(work.costs.sum()) / setting.lines
    most_rest_loss = target.most_rest_loss(pilot=size, batch_size=setting.lines) + 1e-12
    return Draw(
        violated=loss > most_rest_loss,
        violated_graded=seen > most_rest_loss,
        violated_rest=loss > target.most_loss + 1e-12,
        below_interval=loss > stated[1] + 1e-12,
        saving=1.0 - pilot_cost - (setting.lines - size) / setting.lines * cost,
        hindsight=best,
        pilot_cost=pilot_cost,
        pilot_queries=size,
        quality=1.0 - rest_share(pilot=size, batch_size=setting.lines) * loss,
        quality_rest=1.0 - loss,
        quality_measured=1.0 - rest_share(pilot=size, batch_size=setting.lines) * stated[0],
        policy=kind,
    )


def summary(work: Workload, setting: Setting, target: QualityTarget, draws: Sequence[Draw]) -> dict[str, Any]:
    """The object that is printed for a file."""

    def mean(name: str) -> float:
        known = [getattr(each, name) for each in draws if getattr(each, name) is not None]
        return round(float(np.mean(known)), 4) if known else 0.0

    return {
        "file": work.name,
        "violations": mean("violated"),
        "violations_interval": binomial_interval(sum(each.violated for each in draws), len(draws)),
        "violations_graded": mean("violated_graded"),
        "violations_rest": mean("violated_rest"),
        "interval_violations": mean("below_interval"),
        "saving": mean("saving"),
        "saving_hindsight": mean("hindsight"),
        "pilot_cost": mean("pilot_cost"),
        "pilot_queries": round(float(np.mean([each.pilot_queries for each in draws])), 1),
        "quality": mean("quality"),
        "quality_measured": mean("quality_measured"),
        "quality_rest": mean("quality_rest"),
        "policy": Counter(each.policy.value for each in draws).most_common(1)[0][0],
        "certified": round(float(np.mean([each.policy is not PolicyKind.ALL_TOP for each in draws])), 4),
        "floor": target.floor,
        "confidence": target.confidence,
        "grader": _grader_name(work, setting),
        "lines": setting.lines,
        "draws": len(draws),
        "tiers": list(work.tiers),
        "questions": len(work.correct),
    }


def binomial_interval(found: int, of: int, *, confidence: float = 0.95) -> list[float]:
    """The exact interval of a share (Clopper & Pearson 1934)."""
    half = (1.0 - confidence) / 2.0
    low = beta.ppf(half, found, of - found + 1) if found else 0.0
    high = beta.ppf(1.0 - half, found + 1, of - found) if found < of else 1.0
    return [round(float(low), 4), round(float(high), 4)]


def _grader_name(work: Workload, setting: Setting) -> str:
    match setting.grader:
        case "agreement":
            return f"agreement ({work.agreement_grader})"
        case "judge":
            return f"judge ({setting.judge_error:g})"
        case other:
            return other


_work: Workload | None = None


def _draw_here(setting: Setting, seed: int) -> tuple[int, list[Draw]]:
    assert _work is not None
    return seed, draw(_work, setting, seed)


def measure(
    work: Workload, setting: Setting, draws: int, *, jobs: int, checkpoint: Path | None = None
) -> list[dict[str, Any]]:
    """Runs ``draws`` pilots, over ``jobs`` processes; those that ``checkpoint`` has are not run again."""
    global _work
    _work = work  # forked processes find it here
    key = f"{work.name} {setting} {_version(work)}"
    found = _known(checkpoint, key)
    seeds = [seed for seed in range(draws) if seed not in found]
    with threadpool_limits(1), ExitStack() as stack:  # threads of BLAS would only wait for each other
        file = None if checkpoint is None else stack.enter_context(checkpoint.open("a", encoding="utf-8"))
        if jobs == 1 or len(seeds) < 2 * jobs:
            results: Iterable[tuple[int, list[Draw]]] = ((seed, draw(work, setting, seed)) for seed in seeds)
        else:
            pool = stack.enter_context(multiprocessing.get_context("fork").Pool(jobs))
            results = pool.imap_unordered(partial(_draw_here, setting), seeds, chunksize=4)
        for seed, drawn in results:
            found[seed] = drawn
            if file is not None:
                own = [asdict(each) for each in drawn]
                file.write(json.dumps({"key": key, "seed": seed, "draws": own}) + "\n")
                file.flush()
    return [
        summary(work, setting, target, [found[seed][place] for seed in range(draws)])
        for place, target in enumerate(setting.targets)
    ]


def _version(work: Workload) -> str:
    """A digest of the workload's data and of all code that a draw runs: draws of others do not count."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted((ROOT / "evaluation").rglob("*.py"))):
        digest.update(path.read_bytes())
    for array in (work.costs, work.correct, work.agreement):
        digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()[:16]


def _known(checkpoint: Path | None, key: str) -> dict[int, list[Draw]]:
    """The draws of an interrupted run, by seed. Raises ValueError for a file of something else."""
    found: dict[int, list[Draw]] = {}
    if checkpoint is None or not checkpoint.exists():
        return found
    for number, line in enumerate(checkpoint.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if row["key"] == key:
                kinds = [PolicyKind(own["policy"]) for own in row["draws"]]
                found[row["seed"]] = [
                    Draw(**own | {"policy": kind}) for own, kind in zip(row["draws"], kinds, strict=True)
                ]
        except (ValueError, KeyError, TypeError) as error:
            fault = f"{checkpoint}: line {number} has no draw ({error!r}); fix: delete the line, or the file"
            raise ValueError(fault) from error
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 2 where a file cannot be read, else 0, whatever the figures are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--floor", type=float, default=0.9)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--grader", choices=("outcomes", "agreement", "judge"))
    parser.add_argument("--judge-error", type=float, default=0.05)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--pilot", type=int, help="the most questions that are graded")
    parser.add_argument("--naive", action="store_true", help="the threshold that looks right on the pilot, no bound")
    parser.add_argument("--shuffled", action="store_true", help="every question has another one's outcomes")
    parser.add_argument("--by-difficulty", action="store_true", help="sort the file by how hard its questions are")
    parser.add_argument("--validity", action="store_true", help="1,000 draws of every floor, confidence and grader")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--checkpoint", type=Path, help="where draws are kept, so that an interrupted run goes on")
    parser.add_argument("--picture", type=Path, help="where the picture of --validity goes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    if given.picture is not None and not given.validity:
        parser.error("--picture draws what --validity measures")
    files = given.files or sorted(DATA.glob("*_outcomes.jsonl"))
    if not files:
        print(f"There are no files in {DATA}. fix: name files of outcomes", file=sys.stderr)
        return 2
    try:
        settings = _settings(given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    draws = given.draws or (1_000 if given.validity else 200)
    results = []
    for path in files:
        try:
            work = load(path, shuffled=1 if given.shuffled else None, by_difficulty=given.by_difficulty)
            for setting in settings:
                results.extend(measure(work, setting, draws, jobs=given.jobs, checkpoint=given.checkpoint))
                print(f"{work.name}: {setting.grader} measured", file=sys.stderr)
        except (OSError, DataError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
    if given.picture is not None:
        draw_savings(results, given.picture)
    if given.json:
        print("\n".join(json.dumps(result) for result in results))
    else:
        show(results)
    return 0


def _settings(given: argparse.Namespace) -> list[Setting]:
    floors, confidences = (FLOORS, CONFIDENCES) if given.validity else ((given.floor,), (given.confidence,))
    targets = tuple(QualityTarget(floor, confidence) for floor in floors for confidence in confidences)
    one = ((given.grader or "outcomes", given.judge_error),)
    graders = GRADERS if given.validity and given.grader is None else one
    # One pilot size for all floors: the fits are the work, and are shared.
    pilot = given.pilot or (plan_pilot(QualityTarget(0.9), given.lines).size if given.validity else None)
    return [Setting(targets, kind, error, given.lines, pilot, given.naive) for kind, error in graders]


def show(results: Sequence[dict[str, Any]]) -> None:
    keys = ("file", "grader", "floor", "confidence", "violations", "saving", "saving_hindsight", "pilot_queries")
    table = Table(*keys, "quality", "policy")
    for result in results:
        table.add_row(*(str(result[key]) for key in (*keys, "quality", "policy")))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main())
