"""Counts over all calls, for ``GET /stats``, which tests compare with the ledger."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from simulator.call_record import OK, CallRecord

_NANO_PER_USD: Final = 1e9
_SUMS: Final = ("calls", "ok", "billed", "undelivered", "unpriced")


@dataclass(slots=True)
class ModelCount:
    calls: int = 0
    ok: int = 0
    billed: int = 0
    undelivered: int = 0
    unpriced: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, Any]:
        """As JSON, with the cost in US dollars."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        counts["cost_usd"] = counts.pop("cost_nano_usd") / _NANO_PER_USD
        counts["by_outcome"] = dict(counts.pop("outcomes"))
        return counts


class Stats:
    """All counts since the start or the last reset."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.max_in_flight = 0
        self.dead_connections = 0
        self._models: dict[str, ModelCount] = {}

    def of(self, model: str) -> ModelCount:
        count = self._models.get(model)
        if count is None:
            count = self._models[model] = ModelCount()
        return count

    def begin(self, model: str) -> None:
        """A call of ``model`` has arrived."""
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        count = self.of(model)
        count.calls += 1
        count.in_flight += 1
        if count.in_flight > count.max_in_flight:
            count.max_in_flight = count.in_flight

    def end(self, call: CallRecord) -> None:
        count = self.of(call.model)
        self.in_flight -= 1
        count.in_flight -= 1
        count.outcomes[call.outcome] += 1
        if call.outcome == OK:
            count.ok += 1
        if not call.delivered:
            count.undelivered += 1
        if call.billed:
            count.billed += 1
            count.unpriced += not call.priced
            count.prompt_tokens += call.prompt_tokens
            count.completion_tokens += call.completion_tokens
            count.cost_nano_usd += call.cost_nano_usd

    def reset(self) -> "Stats":
        """Counts that start at zero, except for calls in flight."""
        fresh = Stats()
        fresh.in_flight = fresh.max_in_flight = self.in_flight
        for name, count in self._models.items():
            if count.in_flight:
                fresh._models[name] = ModelCount(in_flight=count.in_flight, max_in_flight=count.in_flight)
        return fresh

    def shown(self) -> dict[str, Any]:
        counts = self._models.values()
        outcomes: Counter[str] = sum((count.outcomes for count in counts), Counter())
        return {
            "simulated": True,
            **{name: sum(getattr(count, name) for count in counts) for name in _SUMS},
            "cost_usd": sum(count.cost_nano_usd for count in counts) / _NANO_PER_USD,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "dead_connections": self.dead_connections,
            "by_outcome": dict(outcomes),
            "by_model": {name: count.shown() for name, count in sorted(self._models.items())},
        }
