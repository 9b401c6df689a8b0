"""Decision trees as plain arrays: predicted here with numpy alone, grown by scikit-learn in training.

Extremely randomised trees (Geurts, Ernst & Wehenkel 2006). A leaf holds the mean label of its
examples, one for each output, so that the mean over trees is an estimate of a probability.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.data.array_types import Floats, Ints, Parts, Singles


@dataclass(frozen=True, slots=True)
class Forest:
    """All nodes of all trees in a row. A leaf is its own child."""

    feature: NDArray[np.int16] = field(repr=False)
    threshold: Floats = field(repr=False)
    """The largest value of the feature that goes to the left child."""
    children: Ints = field(repr=False)
    """Left and right child, shape (2 · nodes,): node i has them at 2i and 2i + 1."""
    value: Singles = field(repr=False)
    """The nodes' values, shape (nodes, outputs)."""
    roots: Ints = field(repr=False)
    depth: int

    def predict(self, features: Floats) -> Floats:
        """The mean over the trees, shape (n, outputs)."""
        table = np.ascontiguousarray(features, dtype=np.float32)
        flat = table.ravel()
        offsets = np.arange(len(table), dtype=np.int64) * table.shape[1]
        # A row for each tree, so that its nodes stay in the cache; `take` is faster than an index.
        nodes = np.broadcast_to(self.roots[:, None], (len(self.roots), len(table)))
        for _ in range(self.depth):
            goes_right = flat.take(offsets + self.feature.take(nodes)) > self.threshold.take(nodes)
            nodes = self.children.take(2 * nodes + goes_right)
        mean: Floats = self.value.take(nodes, axis=0).mean(axis=0, dtype=np.float64)
        return mean

    def parts(self) -> Parts:
        return {
            "feature": self.feature,
            "threshold": self.threshold,
            "children": self.children.astype(np.int32),
            "value": self.value,
            "roots": self.roots.astype(np.int32),
            "depth": np.array(self.depth),
        }

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Forest":
        return cls(
            parts["feature"].astype(np.int16),
            parts["threshold"].astype(np.float64),
            parts["children"].astype(np.int64),
            parts["value"].astype(np.float32),
            parts["roots"].astype(np.int64),
            int(parts["depth"]),
        )


def grow(features: Floats, labels: Floats, *, trees: int, depth: int, min_leaf: int, seed: int) -> Forest:
    """A forest that predicts ``labels``, shape (n, outputs), from ``features``, shape (n, features)."""
    from sklearn.ensemble import ExtraTreesRegressor

    grown = ExtraTreesRegressor(
        n_estimators=trees,
        max_depth=depth,
        min_samples_leaf=min_leaf,
        max_features=0.4,
        random_state=seed,
        n_jobs=1,
    ).fit(features, labels if labels.shape[1] > 1 else labels.ravel())
    return _flatten([estimator.tree_ for estimator in grown.estimators_], labels.shape[1])


def _flatten(trees: list[Any], outputs: int) -> Forest:
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])]).astype(np.int64)
    features, thresholds, children, values = [], [], [], []
    for root, tree in zip(roots, trees, strict=True):
        leaf = tree.children_left < 0
        own = np.arange(tree.node_count)
        features.append(np.where(leaf, 0, tree.feature).astype(np.int16))
        thresholds.append(np.where(leaf, np.inf, tree.threshold))
        both = np.column_stack([np.where(leaf, own, tree.children_left), np.where(leaf, own, tree.children_right)])
        children.append((both + root).ravel())
        values.append(tree.value.reshape(tree.node_count, outputs).astype(np.float32))
    return Forest(
        np.concatenate(features),
        np.concatenate(thresholds),
        np.concatenate(children).astype(np.int64),
        np.concatenate(values),
        roots,
        max(int(tree.max_depth) for tree in trees),
    )
