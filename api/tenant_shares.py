"""How many requests of a kind this process holds open, in all and of one tenant."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from api.http_errors import ApiError

TURN_S: Final = 0.5
"""How often a stream asks whether its key is still valid: with `api.auth.KEY_TTL_S`, a revoked one ends in a second."""


class TenantShares:
    """What is open, by tenant. ``most`` of one tenant, ``most_in_all`` of all."""

    def __init__(self, what: str, *, most: int, most_in_all: int) -> None:
        self._what = what
        self._most = most
        self._most_in_all = most_in_all
        self._open: Counter[str] = Counter()

    def check(self, tenant: str) -> None:
        """Raise ApiError 429 where the tenant's share, or all, are taken."""
        if self._open[tenant] >= self._most or self._open.total() >= self._most_in_all:
            raise quota_reached(
                f"{self._open[tenant]} {self._what} are open", self._most, "Wait until some have ended."
            )

    @contextmanager
    def opened(self, tenant: str) -> Iterator[None]:
        """Counts one for as long as the block."""
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]


def quota_reached(what: str, most: int, fix: str) -> ApiError:
    """A quota of the tenant is used up."""
    message = f"{what}; a tenant may have {most}. {fix}"
    return ApiError(429, message, code="quota_reached", headers={"retry-after": "5"})
