"""What this process has learned from the usage of its calls: how dense prompts are, and how long answers get.

Nothing here is a bound. A ratio corrects what is expected of a prompt; the learned longest answer is *asked for* as
the cap of a call where a budget is tight, so that what is reserved for it is still the most that it can cost.
"""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from routing.answer_lengths import COLD_CAP, LEAST_CAP
from routing.outcome import Usage

TYPICAL_COMPLETION_TOKENS: Final = 256
"""What a completion without ``max_tokens`` is expected to take of a tokens-per-minute limit; reconciled after."""

LEAST_ANSWERS: Final = 16
"""Of fewer answers nothing is concluded."""

LONGER_BY: Final = 4
"""An answer that was cut off is asked again with so many times the room, up to all that there is."""

KEPT_ANSWERS: Final = 512
KEPT_GROUPS: Final = 1000

QUANTILE: Final = 0.99
MARGIN: Final = 1.25
EARLY_MARGIN: Final = 2.0
MANY_ANSWERS: Final = 64
"""Above the longest of 99 in 100: an answer that is cut off is paid, and asked again."""

_WEIGHT: Final = 0.05
"""How much one call moves the ratio of a deployment."""

_RATIOS: Final = (0.2, 5.0)


@dataclass(slots=True)
class LearnedCap:
    """Completion tokens of the newest answers of one batch at one deployment."""

    tokens: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))
    total: int = 0
    _cap: int | None = None
    _cap_of: int = 0
    """How many answers there were when the cap was computed."""

    def note(self, tokens: int) -> None:
        """Counts one answer that ended by itself."""
        self.tokens.append(tokens)
        self.total += 1

    @property
    def cap(self) -> int | None:
        """Tokens within which 99 of 100 answers stay, with a margin; None while too few are known.

        Computed where it is asked for, which only a batch with a budget does, and anew after `LEAST_ANSWERS` more.
        """
        if self.total >= self._cap_of + LEAST_ANSWERS:
            ordered = sorted(self.tokens)
            longest = ordered[math.ceil(QUANTILE * len(ordered)) - 1]
            margin = EARLY_MARGIN if len(ordered) < MANY_ANSWERS else MARGIN
            self._cap, self._cap_of = max(LEAST_CAP, math.ceil(margin * longest)), self.total
        return self._cap


class UsageEstimates:
    """Of one process; of so many batches the one that was not asked for longest is forgotten."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}
        self._completions: dict[str, float] = {}
        self._lengths: OrderedDict[tuple[int, str], LearnedCap] = OrderedDict()

    def note(self, batch_id: int, deployment: str, usage: Usage, *, expected_prompt: int) -> None:
        """Learns from an answer that ended by itself."""
        if usage.prompt_tokens > 0:
            low, high = _RATIOS
            seen = min(max(usage.prompt_tokens / max(expected_prompt, 1), low), high)
            had = self._ratios.get(deployment, seen)
            self._ratios[deployment] = had + _WEIGHT * (seen - had)
        if usage.completion_tokens > 0:
            had = self._completions.get(deployment, float(usage.completion_tokens))
            self._completions[deployment] = had + _WEIGHT * (usage.completion_tokens - had)
            self._of(batch_id, deployment).note(usage.completion_tokens)

    def prompt_tokens(self, deployment: str, expected: int) -> int:
        """``expected`` prompt tokens, set right by what the deployment has counted so far."""
        return max(1, round(expected * self._ratios.get(deployment, 1.0)))

    def completion_tokens(self, deployment: str) -> float | None:
        """The usual length of its answers; None while none is known."""
        return self._completions.get(deployment)

    def learned_cap(self, batch_id: int, deployment: str, *, cold_cap: int = COLD_CAP) -> int:
        """A cap that 99 of 100 answers of this batch there stay below.

        While too few are known, ``cold_cap``: what earlier batches of its tenant say of such answers. By those of
        another tenant, who asks for single words, the first answers would be cut off, and paid again.
        """
        own = self._lengths.get((batch_id, deployment))
        return cold_cap if own is None or own.cap is None else own.cap

    def _of(self, batch_id: int, deployment: str) -> LearnedCap:
        key = (batch_id, deployment)
        if key not in self._lengths:
            self._lengths[key] = LearnedCap()
        self._lengths.move_to_end(key)
        if len(self._lengths) > KEPT_GROUPS:
            self._lengths.popitem(last=False)
        return self._lengths[key]
