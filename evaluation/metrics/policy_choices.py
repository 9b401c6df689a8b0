"""The decisions of a router as arrays, without any call."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats
from routing.fleet import Fleet
from routing.policy.decision import Predictor, decide
from routing.query import Query

AT_ONCE: Final = 500
"""Queries per call to the router, as in production. All of them at once would not fit into memory."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The decisions of a router: ``policy`` has a 1 at the chosen tier in each row, and ``p_ok`` its estimates."""

    policy: Floats = field(repr=False)
    p_ok: Floats = field(repr=False)

    @property
    def shares(self) -> Floats:
        """Return the tier mix, shape (K,)."""
        shares: Floats = self.policy.mean(axis=0)
        return shares


def choices(queries: Sequence[Query], *, fleet: Fleet, predictor: Predictor | None) -> Choices:
    """Return production's decisions by gate and classifier, without exploration and without an LLM router.

    A tier off the ladder counts as the top.
    """
    stages = tuple(stage for stage in fleet.router.stages if stage != "llm")
    still = replace(fleet, router=replace(fleet.router, exploration=0.0, stages=stages))
    place = {tier: at for at, tier in enumerate(fleet.ladder)}
    top = len(place) - 1
    policy = np.zeros((len(queries), len(place)))
    p_ok = np.full((len(queries), len(place)), 0.5)
    for begin in range(0, len(queries), AT_ONCE):
        decisions = decide(queries[begin : begin + AT_ONCE], fleet=still, predictor=predictor)
        for row, decision in enumerate(decisions, start=begin):
            policy[row, place.get(decision.tier, top)] = 1.0
            for tier, p in decision.p_ok.items():
                p_ok[row, place[tier]] = p
    return Choices(policy, p_ok)
