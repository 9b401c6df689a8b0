"""A certified policy as plain numbers: which tier a query starts at, and whether an answer is accepted or escalated.

It is one policy of a `PolicyPath`: for each fold the linear weights of its regressions. A query belongs to a fold by
its id alone (`fold_of`), so that a retry decides the same. Nothing in it can be executed; `parts` and `from_arrays` are
the way to and from a database or a file.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Ints, Parts
from evaluation.quality_floor.ladder_features import (
    ROOT,
    Confidences,
    LadderFeatures,
    LadderPoint,
    block_weight,
    blocks_at,
    ladder_features,
    points,
)
from evaluation.quality_floor.policy_path import FOLDS, Entry, PolicyPath, Standardizer, entries, entry_tiers, positive

_NO_CONFIDENCE: Final[Confidences] = {}


class LadderAction(StrEnum):
    """What becomes of a query after an answer."""

    ACCEPT = "accept"
    """The last answer is delivered."""
    NEXT = "next"
    """The next tier of the ladder is asked."""
    TOP = "top"
    """The top tier is asked next, without the tiers between."""


class LadderDecision(NamedTuple):
    """What becomes of a query after an answer, and why."""

    action: LadderAction
    expected_loss: float
    """The expected loss of accepting the answer, above 0."""
    accepted_loss: float
    """Maximum expected loss of an accepted answer. Beyond it, the cheapest way up is worth its cost."""


class LadderStart(NamedTuple):
    """The tier that a query starts at, and what it is expected to cost from each tier."""

    place: int
    """The tier's place in `LadderPolicy.tiers`."""
    entry: Entry
    """How its fold's policy chose it."""
    expected: Floats
    """The expected cost of starting at each tier, its losses included, in calls to the top tier; shape (tiers,)."""


@dataclass(frozen=True, slots=True)
class LadderAnswer:
    """An answer of a tier below the top, as the policy sees it."""

    text: str
    confidences: Confidences = field(default_factory=dict)
    """Confidences by source, 0 to 1."""


@dataclass(frozen=True, slots=True)
class PointWeights:
    """The linear regressions of one point; the outputs are the expected loss, then each option's cost-to-go."""

    scalers: Sequence[Standardizer] = field(repr=False)
    constant: Floats
    """The intercepts, shape (folds, outputs)."""
    numbers: Sequence[Floats] = field(repr=False)
    """The coefficients of each block of numbers, shape (folds, columns, outputs)."""
    columns: Sequence[Ints] = field(repr=False)
    """For each block of words, the hashed columns that count."""
    words: Sequence[Floats] = field(repr=False)
    """The coefficients of each block of words, shape (folds, columns, outputs)."""

    def __call__(self, numbers: Sequence[Floats], words: Sequence[sparse.csr_matrix], fold: Ints) -> Floats:
        """The outputs for each row, shape (n, outputs)."""
        out = self.constant[fold]
        for scaler, weights, block in zip(self.scalers, self.numbers, numbers, strict=True):
            out = out + np.einsum("nc,nco->no", scaler(block), weights[fold])
        for columns, weights, rows in zip(self.columns, self.words, words, strict=True):
            place = np.searchsorted(columns, rows.indices)
            known = np.flatnonzero(np.append(columns, -1)[place] == rows.indices)
            row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[known]
            np.add.at(out, row, rows.data[known, None] * weights[fold[row], place[known]])
        return np.asarray(out)


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """One policy over a ladder of tiers, cheapest first."""

    tiers: Sequence[str]
    """Names in ladder order; the last is the top, which is the reference."""
    costs: Floats
    """The cost of a call at each tier, in calls to the top tier."""
    sources: Sequence[Sequence[str]]
    """For each tier below the top, the confidence sources that count."""
    weight: float
    """How many calls to the top tier a loss of 1 is worth."""
    entry: Ints
    """The place of each fold in `policy_path.entries`."""
    points: Mapping[LadderPoint, PointWeights] = field(repr=False)

    def start(self, ids: Sequence[str], queries: Sequence[str]) -> list[LadderStart]:
        """Where each query starts."""
        features = ladder_features(queries, [])
        fold = folds_by_id(ids)
        nexts = self.points[ROOT](features.numbers_at(ROOT), features.words_at(ROOT), fold)[:, 1:, None]
        kinds = entries(self.costs)
        starts = np.stack([entry_tiers(nexts, self.costs, kind)[:, 0] for kind in kinds])
        expected = np.append(nexts[:, :, 0], np.zeros((len(ids), 1)), axis=1) + self.costs
        return [
            LadderStart(int(starts[kind, row]), kinds[kind], expected[row]) for row, kind in enumerate(self.entry[fold])
        ]

    def decide(
        self, ids: Sequence[str], queries: Sequence[str], start: int, answers: Sequence[Sequence[LadderAnswer]]
    ) -> list[LadderDecision]:
        """What becomes of queries that all started at ``start``, where ``answers[k][row]`` is by tier ``start + k``.

        Raises ValueError where the answers are none, or go up to the top tier (whose answer is always accepted).
        """
        current = start + len(answers) - 1
        if not answers or not 0 <= start <= current < len(self.tiers) - 1:
            raise ValueError(f"a policy of {len(self.tiers)} tiers makes no decision after tiers {start} to {current}")
        n = len(queries)
        known = current + 1
        texts = [[""] * n for _ in range(known)]
        confidences: list[list[Confidences]] = [[_NO_CONFIDENCE] * n for _ in range(known)]
        for place, given in enumerate(answers, start):
            texts[place] = [answer.text for answer in given]
            confidences[place] = [answer.confidences for answer in given]
        features = ladder_features(queries, texts, confidences=confidences, sources=self.sources[:known])
        point = LadderPoint(start, current)
        out = self.points[point](features.numbers_at(point), features.words_at(point), folds_by_id(ids))
        expected = positive(out[:, 0])
        go = self.costs[current + 1] + out[:, 1] if out.shape[1] > 1 else np.full(n, np.inf)
        decided = []
        for loss, rise in zip(expected, go, strict=True):
            least = min(rise, self.costs[-1])
            up = LadderAction.NEXT if rise < self.costs[-1] else LadderAction.TOP
            action = LadderAction.ACCEPT if self.weight * loss <= least else up
            decided.append(LadderDecision(action, float(loss), float(max(least, 0.0) / self.weight)))
        return decided

    def parts(self) -> Parts:
        """Plain arrays, by name; together with ``tiers`` and ``sources`` all that `from_arrays` needs."""
        parts: Parts = {"costs": self.costs, "weight": np.array(self.weight), "entry": self.entry}
        for point, own in self.points.items():
            name = f"{point.start},{point.current}"
            parts[f"{name}/constant"] = own.constant
            for place, (scaler, weights) in enumerate(zip(own.scalers, own.numbers, strict=True)):
                parts[f"{name}/numbers{place}/mean"] = scaler.mean
                parts[f"{name}/numbers{place}/spread"] = scaler.spread
                parts[f"{name}/numbers{place}/weights"] = weights
            for place, (columns, weights) in enumerate(zip(own.columns, own.words, strict=True)):
                parts[f"{name}/words{place}/columns"] = columns
                parts[f"{name}/words{place}/weights"] = weights
        return parts

    @classmethod
    def from_arrays(cls, parts: Parts, *, tiers: Sequence[str], sources: Sequence[Sequence[str]]) -> "LadderPolicy":
        """What `parts` stored. Raises KeyError or ValueError where something is missing or of another shape."""
        found = {}
        for point in points(len(tiers)):
            name = f"{point.start},{point.current}"
            blocks = blocks_at(point)
            with_words = range(sum(len(block) < 2 for block in blocks))
            scalers, numbers = [], []
            for place, block in enumerate(blocks):
                here = f"{name}/numbers{place}"
                mean, spread = _floats(parts[f"{here}/mean"]), _floats(parts[f"{here}/spread"])
                scalers.append(Standardizer(mean, spread, block_weight(block)))
                numbers.append(_floats(parts[f"{here}/weights"]))
            found[point] = PointWeights(
                scalers=scalers,
                constant=_floats(parts[f"{name}/constant"]),
                numbers=numbers,
                columns=[parts[f"{name}/words{place}/columns"].astype(np.int64) for place in with_words],
                words=[_floats(parts[f"{name}/words{place}/weights"]) for place in with_words],
            )
        return cls(
            tiers=tuple(tiers),
            costs=_floats(parts["costs"]),
            sources=tuple(tuple(each) for each in sources),
            weight=float(parts["weight"].item()),
            entry=parts["entry"].astype(np.int64),
            points=found,
        )


def fold_of(id_: str) -> int:
    """The fold that a query belongs to, by its id alone."""
    return zlib.crc32(id_.encode("utf-8", "surrogatepass")) % FOLDS


def folds_by_id(ids: Sequence[str]) -> Ints:
    """`fold_of` each, shape (n,)."""
    return np.array([fold_of(id_) for id_ in ids], dtype=np.int64)


def policy_at(
    path: PolicyPath, place: int, features: LadderFeatures, *, tiers: Sequence[str], sources: Sequence[Sequence[str]]
) -> LadderPolicy:
    """The policy at ``place`` of ``path``, as plain weights; ``features`` are those that it was fitted on."""
    found = {}
    for point, fit in path.fits.items():
        duals = np.concatenate([fit.loss_dual[:, :, None], fit.next_dual[:, :, :, place]], axis=2)
        constant = np.concatenate([fit.loss_mean[:, None], fit.next_mean[:, :, place]], axis=1)
        kernels = [path.blocks[block] for block in blocks_at(point)]
        numbers = [np.einsum("nc,nfo->fco", kernel.scaled, duals) for kernel in kernels]
        columns, words = [], []
        for block in features.words_at(point):
            pilot = block[path.rows].tocsc()
            kept = np.flatnonzero(np.diff(pilot.indptr))
            used = pilot[:, kept]
            mean = np.asarray(used.mean(axis=0)).ravel()
            # Sparse: of 2,000 long texts, words by queries would take half a gigabyte.
            products = (used.T @ duals.reshape(len(path.rows), -1)).reshape(len(kept), *duals.shape[1:])
            weights = np.ascontiguousarray((products - mean[:, None, None] * duals.sum(axis=0)).transpose(1, 0, 2))
            constant = constant - np.einsum("c,fco->fo", mean, weights)
            columns.append(kept.astype(np.int64))
            words.append(weights)
        found[point] = PointWeights([kernel.scaler for kernel in kernels], constant, numbers, columns, words)
    return LadderPolicy(
        tiers=tuple(tiers),
        costs=path.costs,
        sources=tuple(tuple(each) for each in sources),
        weight=float(path.weights[place]),
        entry=path.entry[:, place],
        points=found,
    )


def _floats(array: np.typing.NDArray[np.generic]) -> Floats:
    return array.astype(np.float64)
