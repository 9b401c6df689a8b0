"""Logistic and ridge regression over sparse rows: weights here, fitted by scikit-learn and scipy."""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Parts, Singles


@dataclass(frozen=True, slots=True)
class Linear:
    """``rows @ weights + intercept``: weights of shape (columns, outputs)."""

    weights: Singles = field(repr=False)
    intercept: Floats = field(repr=False)

    def __call__(self, rows: sparse.csr_matrix) -> Floats:
        """The outputs for each row, shape (n, outputs)."""
        # Single precision: the weights are read at random places, and half the bytes are half the misses.
        return np.asarray(rows.astype(np.float32) @ self.weights, dtype=np.float64) + self.intercept

    def parts(self) -> Parts:
        return {"weights": self.weights, "intercept": self.intercept}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Linear":
        return cls(parts["weights"].astype(np.float32), parts["intercept"].astype(np.float64))


def fit_log_odds(rows: sparse.csr_matrix, labels: Floats, *, c: float) -> Linear:
    """One logistic regression for each column of ``labels`` (0 to 1), with inverse penalty ``c``.

    A grade between 0 and 1 counts as that share of a success. Where all labels of a column are 0, or
    all are 1, its log-odds are ±4.
    """
    fits = [_fit_one(rows, column, c) for column in labels.T]
    return Linear(
        np.column_stack([weights for weights, _ in fits]).astype(np.float32), np.array([bias for _, bias in fits])
    )


def _fit_one(rows: sparse.csr_matrix, labels: Floats, c: float) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    if labels.max() == 0 or labels.min() == 1:
        return np.zeros(rows.shape[1]), 4.0 if labels.min() == 1 else -4.0
    if rows.shape[1] == 0:
        mean = float(labels.mean())
        return np.zeros(0), float(np.log(mean / (1.0 - mean)))
    graded = bool(np.any((labels > 0) & (labels < 1)))
    x = sparse.vstack([rows, rows]).tocsr() if graded else rows
    y = np.concatenate([np.ones(len(labels)), np.zeros(len(labels))]) if graded else labels
    weights = np.concatenate([labels, 1.0 - labels]) if graded else None
    fitted = LogisticRegression(C=c, solver="liblinear", random_state=0, tol=1e-3).fit(x, y, sample_weight=weights)
    return fitted.coef_[0], float(fitted.intercept_[0])


def fit_ridge(rows: sparse.csr_matrix, targets: Floats, *, penalty: float, steps: int = 60) -> Linear:
    """Least squares with a penalty for each column of ``targets``, by conjugate gradients on all columns at once."""
    mean = targets.mean(axis=0)
    weights = np.zeros((rows.shape[1], targets.shape[1]))
    residual = rows.T @ (targets - mean)
    direction = residual.copy()
    power = (residual * residual).sum(axis=0)
    first = power.copy()
    for _ in range(steps):
        if np.all(power <= 1e-4 * first):
            break
        image = rows.T @ (rows @ direction) + penalty * direction
        pace = power / np.maximum((direction * image).sum(axis=0), 1e-12)
        weights += pace * direction
        residual -= pace * image
        fresh = (residual * residual).sum(axis=0)
        direction = residual + fresh / np.maximum(power, 1e-12) * direction
        power = fresh
    return Linear(weights.astype(np.float32), mean)
