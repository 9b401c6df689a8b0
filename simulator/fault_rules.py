"""Faults, and the rules that inject them.

Rules are tried in order; the first match wins, except that every matching `latency` rule adds its delay. Whether a rule
with a rate below 1 matches depends on the seed, the rule, the model, the text, and how often this model has received
this text, not on the order of arrival.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import ClassVar, Final

from simulator.protocols.protocol import ProtocolName
from simulator.seeded_random import seeded_random


class FaultKind(StrEnum):
    BAD_REQUEST = "400"
    AUTH = "401"
    NOT_FOUND = "404"
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    OVERLOADED = "529"
    SAFETY = "safety"
    """The provider refuses the content, in the protocol's own form; free, with a usage of zero."""
    EMPTY = "empty"
    """200 with an empty answer; the prompt is billed."""
    REFUSAL = "refusal"
    """200 with a text that refuses, as a model does."""
    LENGTH = "length"
    """200 with the first half of the answer and a finish reason of `length`."""
    WRONG_ANSWER_SHAPE = "wrong_answer_shape"
    """200 with an answer that is not the requested JSON."""
    CODE_FENCE = "code_fence"
    """200 with the answer in a Markdown code fence."""
    SURROUNDING_TEXT = "surrounding_text"
    """200 with a sentence before the answer and one after it."""
    TRAILING_COMMA = "trailing_comma"
    """200 with a comma after the last entry of the answer's outermost array or object; else unchanged."""
    SINGLE_QUOTES = "single_quotes"
    """200 with the answer's JSON written as Python would; else unchanged."""
    OTHER_CASE = "other_case"
    """200 with the answer in upper case, or in lower case where it is in upper case already."""
    FULL_STOP = "full_stop"
    """200 with a full stop after the answer."""
    IN_A_SENTENCE = "in_a_sentence"
    """200 with the answer as the end of a sentence."""
    TRUNCATED_JSON = "truncated_json"
    """200, complete by its Content-Length, but the JSON body stops in the middle."""
    WRONG_SCHEMA = "wrong_schema"
    """200 with JSON of a shape that is not the protocol's; only the usage is where it belongs."""
    HANG = "hang"
    """No byte until ``hold_s`` has passed, or forever."""
    SLOW_BODY = "slow_body"
    """The headers at once, then ``bytes_per_s``."""
    RESET = "reset"
    """A TCP reset after the request was read."""
    RESET_HALF = "reset_half"
    """A TCP reset after half of the reply's body."""
    HUGE_BODY = "huge_body"
    """200 with a chunked JSON body of ``bytes`` bytes, generated while it is sent."""
    GZIP_BOMB = "gzip_bomb"
    """200 with a gzip body that decompresses to ``bytes`` bytes."""
    DEAD = "dead"
    """The connection is closed as if at accept: nothing is received, so nothing is logged."""
    FLEX_UNAVAILABLE = "flex_unavailable"
    """The lane flex has no capacity: OpenAI's 429, Google's 503. It meets no other call."""
    LATENCY = "latency"
    """A regular answer, ``extra_ms`` later."""
    BATCH_RATE_LIMITED = "batch_rate_limited"
    """A create is refused with a 429."""
    BATCH_LOST_REPLY = "batch_lost_reply"
    """A create is done, and the connection reset before its reply."""
    BATCH_FILE_GONE = "batch_file_gone"
    """A create does not find its input file, which is deleted."""
    BATCH_FAILED = "batch_failed"
    """The batch is refused as a whole when it is validated: too many tokens are enqueued."""
    BATCH_STUCK = "batch_stuck"
    """Half of its calls run, the others never do, until it expires or is cancelled."""
    BATCH_EXPIRED = "batch_expired"
    """The batch expires when it would have ended, with two of five calls not run."""
    BATCH_PARTIAL = "batch_partial"
    """The batch ends without a result for every tenth call. These calls count as failed and are not billed."""
    BATCH_UNCOUNTED = "batch_uncounted"
    """The provider does not say how many of its calls succeeded."""
    BATCH_OUT_OF_ORDER = "batch_out_of_order"
    """The results are in an order other than that of the calls also where the protocol promises the same."""
    BATCH_UNKNOWN_KEY = "batch_unknown_key"
    """Among the results is one with a key that was never sent."""
    BATCH_DUPLICATE = "batch_duplicate"
    """Every seventh result is there twice."""
    BATCH_OUTPUT_GONE = "batch_output_gone"
    """The results are deleted before they can be read."""
    BATCH_CANCEL_RACE = "batch_cancel_race"
    """A cancel is accepted, and the batch ends as if there had been none."""


class RetryAfter(StrEnum):
    """The format of a 429's or 503's retry delay."""

    SECONDS = "seconds"
    DATE = "date"
    MS = "ms"
    NONE = "none"


UNBILLED: Final = frozenset(
    {
        FaultKind.BAD_REQUEST,
        FaultKind.AUTH,
        FaultKind.NOT_FOUND,
        FaultKind.RATE_LIMITED,
        FaultKind.SERVER_ERROR,
        FaultKind.UNAVAILABLE,
        FaultKind.OVERLOADED,
        FaultKind.SAFETY,
        FaultKind.DEAD,
        FaultKind.FLEX_UNAVAILABLE,
    }
)
"""Faults for which the provider does not charge, unless a rule says otherwise."""


BATCH_FAULTS: Final = frozenset(kind for kind in FaultKind if kind.value.startswith("batch_"))
"""Faults of provider batches, chosen when one is created; several may apply. They meet no call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule. ``model`` and ``site`` are shell patterns (``gpt-5*``)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: FaultKind
    rate: float = 1.0
    """The share of matching calls, 0 to 1."""
    model: str = "*"
    protocol: ProtocolName | None = None
    site: str = "*"
    """The path segment before the protocol: ``/eu/openai/v1/…`` has the site ``eu``."""
    first: int | None = None
    """Only the first so many times that a model receives the same text."""
    calls: int | None = None
    """At most so many calls in total. The only limit that depends on the order of arrival."""
    for_s: float | None = None
    """Only for so many seconds after the rule is set."""
    billed: bool | None = None
    """Whether the provider charges; None: the default of the kind (`UNBILLED`)."""
    retry_after: RetryAfter | None = None
    """None: in seconds for a 429, not at all for others."""
    retry_after_s: float = 1.0
    bytes: int = 500_000_000
    bytes_per_s: int = 1000
    hold_s: float | None = None
    extra_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("rate must be from 0 to 1")
        if self.bytes < 1 or self.bytes_per_s < 1:
            raise ValueError("bytes and bytes_per_s must be positive")

    @property
    def is_billed(self) -> bool:
        """Whether a faulty call costs money."""
        return self.kind not in UNBILLED if self.billed is None else self.billed


@dataclass(slots=True)
class FaultTarget:
    """The call that rules are matched with."""

    model: str
    protocol: ProtocolName
    site: str
    digest: bytes
    """SHA-256 of the text."""
    is_flex: bool = False


@dataclass(slots=True)
class _Rule:
    fault: Fault
    left: int | None
    until: float | None

    def is_on(self, now: float) -> bool:
        return (self.left is None or self.left > 0) and (self.until is None or now < self.until)


class FaultTable:
    """The active rules with their state. Costs nothing without rules."""

    def __init__(self, rules: Sequence[Fault], *, seed: bytes, now: float) -> None:
        """``now`` is the monotonic clock, in seconds, here as in `find_fault`."""
        self._rules = [_Rule(rule, rule.calls, None if rule.for_s is None else now + rule.for_s) for rule in rules]
        self._seed = seed
        self._seen: dict[bytes, int] = {}
        self._counts = any(rule.rate < 1 or rule.first is not None for rule in rules)
        self.kills_connections = any(_kills_all(rule) for rule in rules)
        """Whether some rule makes the whole process look dead."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def is_dead(self, now: float) -> bool:
        """Whether the process must look dead at ``now``."""
        return self.kills_connections and any(_kills_all(rule.fault) and rule.is_on(now) for rule in self._rules)

    def find_fault(self, target: FaultTarget, *, now: float) -> tuple[Fault | None, float]:
        """The fault of this call, if any, and the milliseconds that `latency` rules add."""
        nth = self._nth(target)
        extra_ms = 0.0
        for rule in self._rules:
            fault = rule.fault
            if fault.kind in BATCH_FAULTS or (fault.kind == FaultKind.FLEX_UNAVAILABLE and not target.is_flex):
                continue
            if not self._applies(rule, target, nth, now):
                continue
            if fault.kind != FaultKind.LATENCY:
                return fault, extra_ms
            extra_ms += fault.extra_ms
        return None, extra_ms

    def find_batch_faults(self, target: FaultTarget, *, now: float) -> dict[FaultKind, Fault]:
        """The faults of a provider batch; ``target.digest`` is that of its content."""
        rules = [rule for rule in self._rules if rule.fault.kind in BATCH_FAULTS]
        nth = self._nth(target) if rules else 0
        return {rule.fault.kind: rule.fault for rule in rules if self._applies(rule, target, nth, now)}

    def _applies(self, rule: _Rule, target: FaultTarget, nth: int, now: float) -> bool:
        if not rule.is_on(now) or not _matches(rule.fault, target) or not self._fires(rule.fault, target, nth):
            return False
        if rule.left is not None:
            rule.left -= 1
        return True

    def _nth(self, target: FaultTarget) -> int:
        """How often this model has received this text before; counted only if a rule needs it."""
        if not self._counts:
            return 0
        key = seeded_random(b"", target.model.encode("utf-8", "surrogatepass"), target.digest).digest[:12]
        nth = self._seen.get(key, 0)
        self._seen[key] = nth + 1
        return nth

    def _fires(self, rule: Fault, target: FaultTarget, nth: int) -> bool:
        if rule.first is not None and nth >= rule.first:
            return False
        if rule.rate >= 1:
            return True
        draws = seeded_random(
            self._seed,
            f"{rule.kind}|{rule.model}|{rule.site}|{nth}".encode(),
            target.model.encode("utf-8", "surrogatepass"),
            target.digest,
        )
        return draws[0] < rule.rate


def _kills_all(rule: Fault) -> bool:
    return rule.kind == FaultKind.DEAD and rule == Fault(kind=FaultKind.DEAD, for_s=rule.for_s)


def _matches(rule: Fault, target: FaultTarget) -> bool:
    return (
        (rule.protocol is None or rule.protocol == target.protocol)
        and (rule.model == "*" or fnmatchcase(target.model, rule.model))
        and (rule.site == "*" or fnmatchcase(target.site, rule.site))
    )
