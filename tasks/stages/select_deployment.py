"""Which deployment takes the next call: the failover rule, asked until admission agrees."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from providers.limits.admission_control import Grant, Wait
from routing.fleet import Model
from routing.policy.failover import Attempt, Call, GiveUp, next_call
from routing.policy.failover import Wait as Later
from tasks.worker_context import Station

PATIENCE_S = 2.0
"""A wait no longer than this is spent in the worker; a longer one goes back to Postgres as ``due_at``."""

GUESSED: Final = frozenset({"adapting", "concurrency"})
"""Refusals whose wait is a guess: there is room as soon as any call ends."""

LONGER: Final = 4
"""So many times as long at most does one wait that has asked as often: hundreds may wait for the same few places of a
slow provider, and asking ten times a second each they took a fifth of a worker."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Call ``model`` now."""

    model: Model
    grant: Grant


Choice: TypeAlias = Admitted | Later | GiveUp


async def choose(
    stage: str,
    history: Sequence[Attempt],
    station: Station,
    *,
    tokens: int,
    preferred: str | None,
    deployments: Sequence[Model],
    was_put_off: bool = False,
) -> Choice:
    """Which of ``deployments`` may be called now, or for how long there is none, or that there is none.

    ``was_put_off``: the last attempt of ``history`` was before the query came due again, its backoff is over.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + PATIENCE_S
    refused: dict[str, float] = {}
    asked = 1
    while True:
        resting = {**await station.admission.resting(deployments), **refused}
        step = next_call(
            history,
            deployments=deployments,
            providers=station.fleet.providers,
            resting=resting,
            timing=station.fleet.timing,
            preferred=preferred,
            draw=station.draw.random(),
            since_last_s=math.inf if was_put_off else loop.time() - began,
        )
        match step:
            case Call(deployment=model):
                grant = await station.admission.reserve(model, tokens=tokens)
                if not isinstance(grant, Wait):
                    return Admitted(model, grant)
                refused[model.name] = grant.wait_s * (min(asked, LONGER) if grant.reason in GUESSED else 1)
                asked += 1
            case Later(wait_s=wait_s):
                if loop.time() + wait_s > until or station.stopping.is_set():
                    return step
                await asyncio.sleep(wait_s)
                refused.clear()
            case GiveUp():
                return step
