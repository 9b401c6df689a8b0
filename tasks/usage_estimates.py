"""What this process has learned from the usage of its calls: the density of prompts, and the length of answers.

None of this is a bound. A ratio corrects the expected tokens of a prompt. The learned maximum answer is *requested* as
the cap of a call if a budget is tight, so its reservation is still the maximum cost.
"""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from routing.answer_lengths import COLD_CAP, LEAST_CAP
from routing.outcome import Usage

TYPICAL_COMPLETION_TOKENS: Final = 256
"""The expected tokens of a completion without ``max_tokens``, for a tokens-per-minute limit. It is corrected
afterwards."""

LEAST_ANSWERS: Final = 16
"""With fewer answers nothing is concluded."""

LONGER_BY: Final = 4
"""The factor on the cap for an answer that was cut off, up to the context."""

KEPT_ANSWERS: Final = 512
KEPT_GROUPS: Final = 1000

QUANTILE: Final = 0.99
MARGIN: Final = 1.25
EARLY_MARGIN: Final = 2.0
MANY_ANSWERS: Final = 64
"""Minimum answers to learn a cap that 99 of 100 answers stay below. An answer that a cap cuts off is paid for and
requested again."""

_WEIGHT: Final = 0.05
"""The weight of one call in the ratio of a deployment."""

_RATIOS: Final = (0.2, 5.0)


@dataclass(slots=True)
class LearnedCap:
    """Completion tokens of the newest answers of one batch at one deployment."""

    tokens: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))
    total: int = 0
    usual: float = 0.0
    """The running mean of the lengths; each new answer has the weight `_WEIGHT`."""
    _cap: int | None = None
    _cap_of: int = 0
    """The number of answers when the cap was computed."""

    def note(self, tokens: int) -> None:
        """Count one answer that ended by itself."""
        self.tokens.append(tokens)
        self.total += 1
        self.usual += (_WEIGHT if self.total > 1 else 1.0) * (tokens - self.usual)

    @property
    def cap(self) -> int | None:
        """Return the tokens within which 99 of 100 answers stay, with a margin. None while too few are known.

        It is computed on demand, only for a batch with a budget, and again after `LEAST_ANSWERS` more answers.
        """
        if self.total >= self._cap_of + LEAST_ANSWERS:
            ordered = sorted(self.tokens)
            longest = ordered[math.ceil(QUANTILE * len(ordered)) - 1]
            margin = EARLY_MARGIN if len(ordered) < MANY_ANSWERS else MARGIN
            self._cap, self._cap_of = max(LEAST_CAP, math.ceil(margin * longest)), self.total
        return self._cap


class UsageEstimates:
    """The estimates of one process. If there are too many batches, the least recently used one is forgotten."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}
        self._completions: dict[str, float] = {}
        self._lengths: OrderedDict[tuple[int, str], LearnedCap] = OrderedDict()

    def note(self, batch_id: int, deployment: str, usage: Usage, *, expected_prompt: int) -> None:
        """Learn from an answer that ended by itself."""
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
        """Return ``expected`` prompt tokens, corrected by the deployment's counts so far."""
        return max(1, round(expected * self._ratios.get(deployment, 1.0)))

    def completion_tokens(self, batch_id: int, deployment: str) -> float | None:
        """Return the usual length of its answers to the batch, or to all before the first; None while none is known.

        With the long answers of another tenant, each call would wait for more of a tokens-per-minute limit.
        """
        own = self._lengths.get((batch_id, deployment))
        return self._completions.get(deployment) if own is None else own.usual

    def learned_cap(self, batch_id: int, deployment: str, *, cold_cap: int = COLD_CAP) -> int:
        """Return a cap that 99 of 100 answers of this batch there stay below.

        While too few are known, it is ``cold_cap``, from earlier batches of the same tenant. With a cap from another
        tenant, who asks for single words, the first answers would be cut off, and paid again.
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
