"""Repair: one more call at the same tier that shows the model its answer and the validators' findings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from routing.query import Expectation
from routing.reason import ReasonCode, code_of

REPAIR: Final = "repair"
"""The purpose of a repair call in the ledger."""

SIGN: Final = "The required form of the answer was not kept: "
"""The first words of a repair request."""

MAX_CHOICES_CHARS: Final = 4_000
"""Longer lists of choices are not repeated, because the question has them."""

ASK_TOKENS: Final = 60
"""Approximate tokens that a repair request adds to the prompt and the answer."""

_FINDINGS: Final = frozenset({ReasonCode.SHAPE.value, ReasonCode.CHOICES.value})


class RepairRecord(NamedTuple):
    """The repairs of a workload at a tier, from the log."""

    made: int = 0
    stood: int = 0
    """The number of repaired answers that were accepted, so that their queries did not climb."""


def repair_body(
    body: Mapping[str, Any], answer: str, *, reasons: Sequence[str], expects: Expectation
) -> dict[str, Any]:
    """Return the user's chat ``body`` with the ``answer`` and a request to write it again. ``reasons`` are the
    judge's."""
    wrong = "; ".join(reason for reason in reasons if code_of(reason) in _FINDINGS)
    asked = f"{SIGN}{wrong}. Give the same answer again in the required form, and nothing else."
    choices = json.dumps(list(expects.choices), ensure_ascii=False)
    if expects.choices and len(choices) <= MAX_CHOICES_CHARS:
        asked += f" Reply with exactly one of these texts: {choices}"
    elif expects.json_object or expects.json_schema is not None:
        asked += " Reply with the JSON alone, without a code fence."
    shown = [{"role": "assistant", "content": answer}, {"role": "user", "content": asked}]
    return {**body, "messages": [*body["messages"], *shown]}


def repair_pays(record: RepairRecord, *, repair_usd: float, climb_usd: float) -> bool:
    """Whether a repair at ``repair_usd`` is expected to save more than it costs, if climbing costs ``climb_usd``.

    The chance of success follows Laplace's rule of succession, so without records it is one half.
    """
    return repair_usd <= (record.stood + 1) / (record.made + 2) * climb_usd
