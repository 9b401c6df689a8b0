"""How well the routers route, by five-fold cross-validation on real outcomes; fails where a target is missed.

    python -m benchmarks.routing_quality [--seed N] [--quick]

The data are in ``../shared/data`` beside the repository, or in ``POINTSMAN_DATA``. Each fifth is
judged by routers that `evaluation.training.train` made of the other four, tuning and calibration included;
the five fifths are pooled. The published figures are those of the RouteLLM paper (Ong et al. 2024,
arXiv:2406.18665) for the same pair of models, in % of calls to the large one; they are on the full
sets, these on about 60 % of them. Folds are random, as is usual; ``--quick`` leaves out a second
run in which near twins (half of their runs of five words in common) never stand on both sides.
"""

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.sparse import lil_array
from scipy.sparse.csgraph import connected_components

from evaluation.data.array_types import Floats, Places
from evaluation.data.call_costs import call_costs_for
from evaluation.data.cross_validation import FOLDS, folds_of
from evaluation.data.dataset import Dataset, read_dataset
from evaluation.metrics.confidence_intervals import Interval
from evaluation.metrics.outcome_evaluation import Ranked, Way, weigh_cascade, weigh_router
from evaluation.models.tokenizer import tokens_of
from evaluation.training.train import train

DATA = Path(os.environ.get("POINTSMAN_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
CHUNK = 200
out = Console(highlight=False, width=130)


@dataclass(frozen=True)
class Published:
    """A figure of the RouteLLM paper."""

    name: str
    apgr: float
    cpt50: float
    cpt80: float


PUBLISHED = {
    "mmlu": (Published("RouteLLM SW ranking", 0.603, 35.4, 71.6), Published("RouteLLM MF", 0.597, 35.5, 71.4)),
    "gsm8k": (Published("RouteLLM causal LLM", 0.622, 33.6, 63.3), Published("RouteLLM MF", 0.565, 38.8, 72.6)),
}
SLOWEST_US = 200.0


@dataclass(frozen=True)
class RoutingTarget:
    """What a figure must reach."""

    what: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'met   ' if self.met else 'MISSED'}  {self.what}: {self.value:.3f} (target {sign} {self.bound:g})"


def main() -> int:
    asked = _arguments()
    if not (DATA / "mmlu_outcomes.jsonl").exists():
        out.print(f"No data in {DATA}: put mmlu_outcomes.jsonl and gsm8k_outcomes.jsonl there, or set POINTSMAN_DATA.")
        return 2
    targets: list[RoutingTarget] = []
    for name in ("mmlu", "gsm8k"):
        data = read_dataset(DATA / f"{name}_outcomes.jsonl")
        ways, query_us = _judge(data, list(folds_of(len(data), seed=asked.seed)), seed=asked.seed)
        _show(data, ways, query_us)
        targets += _targets(name, ways, query_us)
        if not asked.quick:
            _without_twins(data, seed=asked.seed)
    out.print()
    for target in targets:
        out.print(str(target), style=None if target.met else "bold red")
    return 0 if all(target.met for target in targets) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of folds, training and intervals")
    parser.add_argument("--quick", action="store_true", help="leave out the run that keeps near twins together")
    return parser.parse_args()


def _judge(data: Dataset, folds: Sequence[tuple[Places, Places]], *, seed: int) -> tuple[list[Way], float]:
    """The pooled judgement of every fold's router on the lines it had not seen, and the µs per query (middle fold)."""
    p_ok = np.empty((len(data), len(data.tiers)))
    p_right = np.empty(len(data)) if data.has_answers else None
    took_us = []
    for fit, test in track(folds, description=f"{data.name}: {len(folds)} folds", console=out, transient=True):
        artifact = train(data.pick(fit), name="fold", seed=seed).artifact
        unseen = data.pick(test)
        p_ok[test], each_us = _timed(artifact.classifier, unseen.queries)
        took_us.append(each_us)
        if p_right is not None and artifact.scorer is not None:
            p_right[test] = artifact.scorer(unseen.queries, unseen.answers)
    tariff = call_costs_for(data)
    ways = [weigh_router(data, p_ok, tariff, seed=seed)]
    if p_right is not None:
        ways.append(weigh_cascade(data, p_right, tariff, seed=seed))
    return ways, float(np.median(took_us))


def _timed(classifier: object, queries: Sequence[str]) -> tuple[Floats, float]:
    """Predictions in chunks, features included, and the µs per query of the middle chunk.

    CPU time of this thread: a neighbour on the same machine must not count as ours.
    """
    assert callable(classifier)
    classifier(queries[:CHUNK])
    scores, took_us = [], []
    for at in range(0, len(queries), CHUNK):
        chunk = queries[at : at + CHUNK]
        began = time.thread_time()
        scores.append(classifier(chunk))
        took_us.append((time.thread_time() - began) / len(chunk) * 1e6)
    return np.concatenate(scores), float(np.median(took_us))


def _targets(name: str, ways: Sequence[Way], query_us: float) -> Iterator[RoutingTarget]:
    query, *cascades = ways
    if name == "mmlu":
        yield RoutingTarget("MMLU, query alone: APGR", query.router.apgr or 0.0, 0.70, at_least=True)
        yield RoutingTarget("MMLU, query alone: CPT50 in % of calls", query.router.cpt50 or 100.0, 25.0, at_least=False)
    for cascade in cascades:
        yield RoutingTarget("GSM8K, cascade, both calls paid: APGR", cascade.router.apgr or 0.0, 0.78, at_least=True)
        yield RoutingTarget(
            "GSM8K, cascade, both calls paid: CPT80 in %", cascade.router.cpt80 or 100.0, 42.0, at_least=False
        )
    for way in ways:
        for trust in way.trust:
            yield RoutingTarget(f"{name.upper()}: ECE of P({trust.of})", trust.ece, 0.05, at_least=False)
    yield RoutingTarget(
        f"{name.upper()}: µs of CPU per query in chunks of {CHUNK}", query_us, SLOWEST_US, at_least=False
    )


def _show(data: Dataset, ways: Sequence[Way], query_us: float) -> None:
    small, large = (f"{100 * constant.quality:.1f} %" for constant in ways[0].constants)
    out.print(f"\n[bold]{data.name}[/bold]: {len(data):,} queries; always small {small} right, always large {large}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("ranked by")
    for name in ("APGR", "95 %", "CPT50", "95 %", "CPT80", "95 %", "ECE", "Brier"):
        table.add_column(name, justify="right")
    for way in ways:
        worst = max(way.trust, key=lambda trust: trust.ece)
        title = f"Pointsman, {way.title.removeprefix('as a ').removeprefix('by the ')}"
        title += ", both calls paid" if way.router.curve.first_call else ""
        table.add_row(title, *_figures(way.router, way), f"{worst.ece:.3f}", f"{worst.brier:.3f}", style="bold")
        if way.router.curve.first_call:
            free = type(way.router.curve)(way.router.curve.share, way.router.curve.quality)
            row = (f"{free.apgr():.3f}", "", f"{free.cpt(50):.1f}", "", f"{free.cpt(80):.1f}")
            table.add_row("  the same, calls to the large model alone", *row)
    for published in PUBLISHED[data.name.partition("_")[0]]:
        row = (f"{published.apgr:.3f}", "", f"{published.cpt50:.1f}", "", f"{published.cpt80:.1f}")
        table.add_row(f"{published.name} (published, full set)", *row)
    for control in ways[0].rankings:
        table.add_row(f"control: {control.name.replace('_', ' ')}", *_figures(control))
    out.print(table)
    out.print(f"decided in {query_us:.0f} µs of CPU per query, in chunks of {CHUNK}, features included")


def _figures(ranked: Ranked, way: Way | None = None) -> list[str]:
    row = []
    for name, digits in (("apgr", 3), ("cpt50", 1), ("cpt80", 1)):
        figure = getattr(ranked, name)
        row.append("–" if figure is None else f"{figure:.{digits}f}")
        row.append("" if way is None else _range(way.intervals[name], digits))
    return row[:-1] if way is None else row


def _range(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def _without_twins(data: Dataset, *, seed: int) -> None:
    families = _families(data.queries)
    sizes = np.bincount(families)
    twins = sizes[sizes > 1].sum()
    ways, _ = _judge(data, list(_family_folds(families, seed=seed)), seed=seed)
    scores = "; ".join(f"{way.title}: APGR {way.router.apgr:.3f}" for way in ways)
    out.print(f"{twins:,} lines have a near twin. With twins kept in one fold: {scores}")


def _families(texts: Sequence[str]) -> Places:
    """Each text's family. Texts are joined wherever half of the smaller one's runs of five tokens are shared."""
    runs = [{hash(tuple(tokens[i : i + 5])) for i in range(len(tokens) - 4)} for tokens in map(tokens_of, texts)]
    holders: dict[int, list[int]] = defaultdict(list)
    for place, own in enumerate(runs):
        for run in own:
            holders[run].append(place)
    twins = lil_array((len(texts), len(texts)), dtype=bool)
    for place, own in enumerate(runs):
        # What more than 60 texts share is a formula of the exam, not a question.
        few = [holders[run] for run in own if len(holders[run]) <= 60]
        for other, count in Counter(other for places in few for other in places if other > place).items():
            if 2 * count >= min(len(own), len(runs[other])):
                twins[place, other] = True
    found: Places = connected_components(twins.tocsr(), directed=False)[1]
    return found


def _family_folds(families: Places, *, seed: int) -> Iterator[tuple[Places, Places]]:
    sizes = np.bincount(families)
    fold_of = np.empty(len(sizes), dtype=int)
    filled = [0] * FOLDS
    for family in np.random.default_rng(seed).permutation(len(sizes)):
        fold_of[family] = fold = int(np.argmin(filled))
        filled[fold] += sizes[family]
    for fold in range(FOLDS):
        yield np.flatnonzero(fold_of[families] != fold), np.flatnonzero(fold_of[families] == fold)


if __name__ == "__main__":
    sys.exit(main())
