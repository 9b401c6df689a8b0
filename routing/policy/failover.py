"""The choice of the next deployment of a tier after earlier calls.

Deployments are in the tier's order. The first is used, and the next one if that one rests or has failed. Adjacent
deployments of the same model at the same price (two regions, two accounts) share the calls by weight. A failure that a
second provider would repeat ends the search, unless the fleet says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

from routing.fleet import Model, Provider, Tier, Timing
from routing.outcome import ACCOUNT, BILLED, FAILURE_RULES, Closes, Failure, FailureKind

LONGEST_BACKOFF_S: Final = 60.0

MAX_UNKNOWN: Final = 2
"""A query is sent again at most once if it is unknown whether the first call was billed."""

MAX_BROKEN: Final = 2
"""After this many broken answers a deployment is closed for the query. Each of them was billed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that gave no completion."""

    deployment: str
    outcome: Failure


class CallDeployment(NamedTuple):
    """Call this deployment now."""

    deployment: Model


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be called before ``wait_s`` seconds have passed."""

    wait_s: float
    reason: str
    deployment: str = ""
    """The first deployment that may be called again. Empty if none is waited for."""


@dataclass(frozen=True, slots=True)
class NoDeploymentLeft:
    """No deployment of this tier can answer this query."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suspend:
    """The account at ``provider`` is at fault, so the query is held until the account is fixed."""

    provider: str
    deployment: str
    reason: str


Next = CallDeployment | Wait | NoDeploymentLeft | Suspend


def next_call(
    history: Sequence[Attempt],
    *,
    deployments: Sequence[Model],
    providers: Mapping[str, Provider],
    resting: Mapping[str, float],
    timing: Timing,
    preferred: str | None = None,
    draw: float = 0.5,
    since_last_s: float = 0.0,
) -> Next:
    """Return what to do next for one query. ``history`` holds its failed calls at this tier.

    ``resting`` gives for each deployment the seconds until it may be called again (absent or 0: now), ``since_last_s``
    the seconds since the last attempt ended: after a `Denied`, the seconds since then. ``draw`` is uniform in [0, 1).
    It spreads calls by weight and waits by jitter.
    """
    if not history and deployments and not resting:  # nearly always
        return CallDeployment(_choose(deployments, history, preferred=preferred, draw=draw))
    final = _final_reason(history, deployments=deployments, providers=providers, timing=timing)
    if final is not None:
        account = _account_at_fault(history, deployments, providers)
        return NoDeploymentLeft(final) if account is None else Suspend(*account, final)
    open_ones = [model for model in deployments if not _is_closed(model, history, deployments, providers)]
    if not open_ones:
        return NoDeploymentLeft("no deployment is left")
    waits = {
        model.name: _wait_s(model, history, deployments, resting, timing, draw=draw, since_last_s=since_last_s)
        for model in open_ones
    }
    ready = [model for model in open_ones if waits[model.name] <= 0]
    if not ready:
        soonest = min(open_ones, key=lambda model: waits[model.name])
        return Wait(waits[soonest.name], f"{soonest.name} is the first that may be called again", soonest.name)
    return CallDeployment(_choose(ready, history, preferred=preferred, draw=draw))


def _final_reason(
    history: Sequence[Attempt],
    *,
    deployments: Sequence[Model],
    providers: Mapping[str, Provider],
    timing: Timing,
) -> str | None:
    """Return why no further call may follow at any deployment, or None if one may."""
    for attempt in history:
        if not _may_go_on(attempt, deployments, providers):
            kind, provider = attempt.outcome.kind, _provider_of(attempt, deployments, providers)
            if kind in ACCOUNT or provider is None or len(deployments) < 2:
                return failed_at(attempt)
            return f"another model of the tier is asked after {kind} only if failover_on of {provider.name} includes it"
    if _times(FailureKind.UNKNOWN, history) >= MAX_UNKNOWN:
        return "two calls have an unknown outcome"
    # What cannot be expressed was not sent and costs nothing, and a limit costs time alone: they do not count.
    counted = [attempt for attempt in history if counts(attempt.outcome)]
    if len(counted) >= timing.max_attempts:
        return f"{timing.max_attempts} calls gave no answer"
    return None


def failed_at(attempt: Attempt) -> str:
    """Return what failed, where and why, as a reason."""
    detail = f" ({attempt.outcome.message})" if attempt.outcome.message else ""
    return f"{attempt.outcome.kind} at {attempt.deployment}{detail}"


def counts(failure: Failure) -> bool:
    """Whether ``failure`` counts as one of a tier's attempts for a query."""
    return failure.kind is not FailureKind.INEXPRESSIBLE and not failure.is_limit


def _account_at_fault(
    history: Sequence[Attempt], deployments: Sequence[Model], providers: Mapping[str, Provider]
) -> tuple[str, str] | None:
    """Return the provider with the account that ends the search, and its deployment. None if something else ends it."""
    for attempt in history:
        if attempt.outcome.kind in ACCOUNT and not _may_go_on(attempt, deployments, providers):
            provider = _provider_of(attempt, deployments, providers)
            return None if provider is None else (provider.name, attempt.deployment)
    return None


def _may_go_on(attempt: Attempt, deployments: Sequence[Model], providers: Mapping[str, Provider]) -> bool:
    """Whether another call may follow this failure."""
    kind = attempt.outcome.kind
    if FAILURE_RULES[kind].goes_on:
        return True
    provider = _provider_of(attempt, deployments, providers)
    return provider is not None and takes_over(kind, provider)


def takes_over(kind: FailureKind, provider: Provider) -> bool:
    """Whether ``provider``'s ``failover_on`` asks for another call after ``kind``. ``auth`` includes billing."""
    return kind in provider.failover_on or (kind is FailureKind.BILLING and FailureKind.AUTH in provider.failover_on)


def _is_closed(
    model: Model, history: Sequence[Attempt], deployments: Sequence[Model], providers: Mapping[str, Provider]
) -> bool:
    """Whether ``model`` would fail this query in the same way as it, or a similar deployment, did before."""
    return any(_closes(attempt, model, deployments, providers) for attempt in history) or (
        sum(attempt.outcome.kind in BILLED for attempt in _of(model, history)) >= MAX_BROKEN
    )


def _closes(attempt: Attempt, model: Model, deployments: Sequence[Model], providers: Mapping[str, Provider]) -> bool:
    """Whether one failure alone closes ``model`` for this query."""
    provider = _provider_of(attempt, deployments, providers)
    here = providers.get(model.provider)
    closes = FAILURE_RULES[attempt.outcome.kind].closes
    match closes:
        case Closes.NOTHING:
            return False
        case Closes.DEPLOYMENT:
            return attempt.deployment == model.name
        case Closes.PROTOCOL:
            return provider is not None and here is not None and provider.kind is here.kind
        case Closes.PROVIDER:  # the same key does no better with another model
            return provider is here
        case _:
            assert_never(closes)


def _wait_s(
    model: Model,
    history: Sequence[Attempt],
    deployments: Sequence[Model],
    resting: Mapping[str, float],
    timing: Timing,
    *,
    draw: float,
    since_last_s: float,
) -> float:
    """Return the seconds until ``model`` may be called: its cooldown, the wait it asked for, or its own backoff."""
    own = _of(model, history)
    # A limit that says for how long is waited for, and no longer.
    tries = sum(attempt.outcome.retry_after_s is None or not attempt.outcome.is_limit for attempt in own)
    backoff_s = _backoff_s(tries, timing, draw=draw) - since_last_s if tries else 0.0
    asked_s = max((_asked_s(attempt, model, history, deployments) for attempt in history), default=0.0) - since_last_s
    return max(resting.get(model.name, 0.0), asked_s, backoff_s)


def _asked_s(attempt: Attempt, model: Model, history: Sequence[Attempt], deployments: Sequence[Model]) -> float:
    """Return how long ``attempt`` keeps ``model`` waiting, in seconds since the last attempt: the wait that its
    provider asked for."""
    wait_s = attempt.outcome.retry_after_s
    if wait_s is None:
        return 0.0
    if attempt.deployment == model.name:
        return wait_s if attempt is _of(model, history)[-1] else 0.0
    asked = next((each for each in deployments if each.name == attempt.deployment), None)
    wide = attempt.outcome.notice.account_wide and asked is not None and asked.provider == model.provider
    return wait_s if wide else 0.0


def _backoff_s(tries: int, timing: Timing, *, draw: float) -> float:
    """Return the backoff in seconds. It doubles with each attempt, up to a minute, with jitter of ±50 %."""
    return min(timing.backoff_s * 2.0 ** (tries - 1), LONGEST_BACKOFF_S) * (0.5 + draw)


def _choose(ready: Sequence[Model], history: Sequence[Attempt], *, preferred: str | None, draw: float) -> Model:
    """Choose, among the deployments that may be called, the least tried, then the preferred, then the first, by
    weight."""
    fresh = list(ready)
    if history:
        fewest = min(len(_of(model, history)) for model in ready)
        fresh = [model for model in ready if len(_of(model, history)) == fewest]
    for model in fresh:
        if model.name == preferred:
            return model
    alike = [model for model in fresh if is_alike(model, fresh[0])]
    return _by_weight(alike, draw=draw)


def is_alike(one: Model, other: Model) -> bool:
    """Whether both have the same model at the same price, so that neither is better."""
    return one.model == other.model and (
        (one.price.input_usd_per_mtok, one.price.output_usd_per_mtok, one.price.multiplier)
        == (other.price.input_usd_per_mtok, other.price.output_usd_per_mtok, other.price.multiplier)
    )


def _by_weight(models: Sequence[Model], *, draw: float) -> Model:
    point = draw * sum(model.weight for model in models)
    for model in models:
        point -= model.weight
        if point < 0:
            return model
    return models[-1]


def _of(model: Model, history: Sequence[Attempt]) -> list[Attempt]:
    return [attempt for attempt in history if attempt.deployment == model.name]


def _times(kind: FailureKind, history: Sequence[Attempt]) -> int:
    return sum(attempt.outcome.kind is kind for attempt in history)


def _provider_of(attempt: Attempt, deployments: Sequence[Model], providers: Mapping[str, Provider]) -> Provider | None:
    for model in deployments:
        if model.name == attempt.deployment:
            return providers.get(model.provider)
    return None


@dataclass(frozen=True, slots=True)
class Hedge:
    """Also call ``deployment`` if the first call has no result after ``after_s`` seconds."""

    after_s: float
    deployment: Model


def hedge(
    called: Model,
    *,
    tier: Tier,
    deployments: Sequence[Model],
    resting: Mapping[str, float],
    p95_s: float | None,
) -> Hedge | None:
    """Return whether and when to send a second call: after the time in which 95 % of the calls of ``called`` complete.

    The second call goes to the next deployment that does not rest, never to the same one. Both are paid. None if the
    tier does not hedge, the p95 is not known yet, or there is no other deployment.
    """
    if not tier.hedge_after_p95 or p95_s is None:
        return None
    for model in deployments:
        if model.name != called.name and resting.get(model.name, 0.0) <= 0:
            return Hedge(p95_s, model)
    return None
