"""A share of a count, and how sure it is."""

import math

Z_95 = 1.96


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of ``share`` seen in ``count`` (Wilson 1927), which stays sensible at 0, at 1 and for few."""
    if count == 0:
        return 0.0, 1.0
    middle = (share * count + Z_95 * Z_95 / 2) / (count + Z_95 * Z_95)
    half = Z_95 * math.sqrt(share * (1 - share) * count + Z_95 * Z_95 / 4) / (count + Z_95 * Z_95)
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)
