"""The cost of a call, for evaluation: mean dollars per call of each tier of a data set.

A fleet's prices count if one is given. Otherwise the prices of RouteLLM count (Ong et al. 2024, arXiv:2406.18665):
$24.7 per million tokens for GPT-4 and $0.24 for Mixtral 8x7B. Tokens are estimated at 4 characters each, from the query
and the recorded answer. An answer that is not recorded counts 200.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from evaluation.data.dataset import Dataset
from routing.fleet import Fleet
from routing.prompt_size import CHARS_PER_TOKEN

SMALL_USD_PER_MTOK: Final = 0.24
LARGE_USD_PER_MTOK: Final = 24.7
UNRECORDED_TOKENS: Final = 200


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Mean US dollars per call, by tier."""

    usd: Mapping[str, float]
    source: str

    def share(self, tier: str, *, of: str) -> float:
        """Return the cost of a call to ``tier`` in calls to ``of``. 0 if nothing costs anything."""
        return self.usd[tier] / self.usd[of] if self.usd[of] > 0 else 0.0


def call_costs_for(data: Dataset, fleet: Fleet | None = None) -> CallCosts:
    """Return the prices of ``data``'s tiers. Tiers that ``fleet`` lacks have the published prices."""
    rungs = len(data.tiers) - 1
    usd = {}
    for rung, tier in enumerate(data.tiers):
        published = SMALL_USD_PER_MTOK * (LARGE_USD_PER_MTOK / SMALL_USD_PER_MTOK) ** (rung / max(rungs, 1))
        prompt, completion = _tokens(data, tier)
        if fleet is not None and tier in fleet.tiers and fleet.tiers[tier].models:
            price = fleet.deployments(tier)[0].price
            dollars = prompt * price.input_usd_per_mtok + completion * price.output_usd_per_mtok
            usd[tier] = dollars * price.multiplier / 1e6
        else:
            usd[tier] = (prompt + completion) * published / 1e6
    return CallCosts(usd, "RouteLLM's prices" if fleet is None else f"the prices of fleet {fleet.name}")


def _tokens(data: Dataset, tier: str) -> tuple[float, float]:
    """Return the mean tokens of prompt and completion."""
    n = len(data)
    prompt = sum(len(example.query) for example in data.examples) / CHARS_PER_TOKEN / n
    known = [len(example.answers[tier]) / CHARS_PER_TOKEN for example in data.examples if tier in example.answers]
    return prompt, sum(known) / len(known) if known else float(UNRECORDED_TOKENS)
