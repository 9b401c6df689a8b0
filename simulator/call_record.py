"""The record of one received call, from its arrival to its end."""

from dataclasses import dataclass
from typing import Final

from simulator.simulator_config import Price

OK: Final = "ok"
"""The outcome of a regular answer; a faulty one has the fault's name."""

_NANO_PER_USD: Final = 1e9


@dataclass(slots=True)
class CallRecord:
    """One call, for the log and the counts; never its prompt. Created with positional arguments, at half the cost."""

    seq: int
    time: float
    """Arrival, in Unix seconds."""
    protocol: str
    site: str
    model: str
    text_sha: str
    """The first 16 hex digits of the SHA-256 of the stripped user text."""
    call: str | None
    """The header ``x-pointsman-call``: the caller's id of this call."""
    in_flight: int
    """Calls in flight at its arrival, itself included."""
    outcome: str = OK
    billed: bool = False
    status: int | None = None
    """The HTTP status. None if no status line was sent."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: int = 0
    priced: bool = True
    """Whether the price table has the model."""
    delivered: bool = False
    lane: str = "standard"
    """The lane of the call: standard, flex or batch."""

    @property
    def cost_usd(self) -> float:
        return self.cost_nano_usd / _NANO_PER_USD


def cost_nano_usd(
    price: Price, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int, dearer_tokens: float = 0.0
) -> int:
    """The cost in billionths of a dollar: integers, so that sums of millions are exact.

    ``dearer_tokens``: so many tokens of input is the surcharge of sound, and of what is written to a cache.
    """
    cached_price = price[2] if len(price) == 3 else price[0]
    return round(
        1000
        * (
            (prompt_tokens - cached_tokens + dearer_tokens) * price[0]
            + cached_tokens * cached_price
            + completion_tokens * price[1]
        )
    )
