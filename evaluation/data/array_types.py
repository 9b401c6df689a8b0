"""The array types of this package."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Places = NDArray[np.intp]
Truths = NDArray[np.bool_]

Parts = dict[str, NDArray[np.generic]]
"""The stored form of a model: plain arrays by name."""
