"""How many event streams this process keeps open, in all and of one tenant."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from api.http_errors import ApiError

MOST_STREAMS: Final = 1000
MOST_OF_TENANT: Final = 50

TURN_S: Final = 0.5
"""How often a stream asks whether its key is still valid: with `api.auth.KEY_TTL_S`, a revoked one ends in a second."""


class StreamShares:
    """The streams that are open, by tenant."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, tenant: str) -> None:
        """Raise ApiError 429 where the tenant's share, or all, are taken."""
        if self._open[tenant] >= MOST_OF_TENANT or self._open.total() >= MOST_STREAMS:
            raise ApiError(
                429,
                f"Too many streams are open, at most {MOST_OF_TENANT} of one tenant. Close one, or poll instead.",
                code="too_many_streams",
                headers={"retry-after": "5"},
            )

    @contextmanager
    def opened(self, tenant: str) -> Iterator[None]:
        """Counts a stream for as long as the block."""
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
