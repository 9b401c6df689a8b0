"""The choice of the deployment for the next call: the failover rule, repeated until admission control agrees."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from providers.limits.admission_control import Denied, Grant
from routing.fleet import Model
from routing.policy.failover import Attempt, CallDeployment, NoDeploymentLeft, Suspend, Wait, next_call
from tasks.worker_context import WorkerContext

MAX_INLINE_WAIT_S = 2.0
"""A shorter wait is spent in the worker. A longer one goes back to Postgres as ``due_at``."""

ESTIMATED_WAIT_REASONS: Final = frozenset({"adapting", "concurrency"})
"""Refusals with an estimated wait: there is room as soon as any call ends."""

MAX_WAIT_MULTIPLIER: Final = 4
"""Maximum factor on a wait that was repeated. Hundreds may wait for the same few places of a slow provider, and asking
ten times a second each would take a fifth of a worker."""


class SelectedDeployment(NamedTuple):
    """Call ``model`` now."""

    model: Model
    grant: Grant


DeploymentChoice: TypeAlias = SelectedDeployment | Wait | NoDeploymentLeft | Suspend


async def select_deployment(
    history: Sequence[Attempt],
    context: WorkerContext,
    *,
    tokens: Callable[[Model], int],
    preferred: str | None,
    deployments: Sequence[Model],
    was_put_off: bool = False,
    patience_s: float = MAX_INLINE_WAIT_S,
) -> DeploymentChoice:
    """Return which of ``deployments`` may be called now, how long none may be, or that there is none.

    It waits at most ``patience_s``. ``was_put_off``: the last attempt of ``history`` was before the query became due
    again, so its backoff is over.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + patience_s
    refused: dict[str, float] = {}
    denied: set[str] = set()
    asked = 1
    while True:
        resting = {**await context.admission.resting(deployments), **refused}
        step = next_call(
            history,
            deployments=deployments,
            providers=context.fleet.providers,
            resting=resting,
            timing=context.fleet.timing,
            preferred=preferred,
            draw=context.draw.random(),
            since_last_s=math.inf if was_put_off else loop.time() - began,
        )
        match step:
            case CallDeployment(deployment=model) if (fault := context.accounts.fault(model.name)) is not None:
                history = [*history, Attempt(model.name, fault)]
            case CallDeployment(deployment=model):
                grant = await context.admission.reserve(model, tokens=tokens(model))
                if not isinstance(grant, Denied):
                    return SelectedDeployment(model, grant)
                refused[model.name] = grant.wait_s * (
                    min(asked, MAX_WAIT_MULTIPLIER) if grant.reason in ESTIMATED_WAIT_REASONS else 1
                )
                denied.add(model.name)
                asked += 1
            case Wait(wait_s=wait_s, deployment=name):
                if loop.time() + wait_s > until or context.stopping.is_set():
                    return replace(step, reason=_why(name, history, context, denied=name in denied))
                await asyncio.sleep(wait_s)
                refused.clear()
            case NoDeploymentLeft() | Suspend():
                return step


def _why(name: str, history: Sequence[Attempt], context: WorkerContext, *, denied: bool) -> str:
    """Return why the deployment ``name`` is waited for."""
    rests = context.admission.why_resting(name)
    last = next((attempt.outcome for attempt in reversed(history) if attempt.deployment == name), None)
    if rests == "limit" or (rests is None and (denied or (last is not None and last.is_limit))):
        return f"{name} is at its rate limit"
    if rests == "failures":
        return f"{name} rests after failures"
    return f"{name} is called again after a failure" + (f" ({last.message})" if last is not None else "")


async def reserve_patiently(model: Model, context: WorkerContext, *, tokens: int) -> Grant | Denied:
    """Return a grant to call ``model``, waiting at most `MAX_INLINE_WAIT_S`, or Denied if that is too short."""
    loop = asyncio.get_running_loop()
    until = loop.time() + MAX_INLINE_WAIT_S
    while True:
        grant = await context.admission.reserve(model, tokens=tokens)
        if not isinstance(grant, Denied):
            return grant
        guessed = grant.reason in ESTIMATED_WAIT_REASONS and loop.time() < until
        if (not guessed and loop.time() + grant.wait_s > until) or context.stopping.is_set():
            return grant
        await asyncio.sleep(grant.wait_s)
