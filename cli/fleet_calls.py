"""The calls of `check-fleet --call`: a few small calls to each deployment, and the features that work."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from structlog.testing import capture_logs

from cli.provider_probe import fix_of
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BatchCallFailed, CreateAttempt
from providers.billing import differs
from providers.client import ProviderClient
from providers.transport.failures import Cause
from routing.answer_checks.confidence_policy import LOGPROB_SOURCES
from routing.answer_checks.json_schema import NotJsonError, read_json
from routing.budget.query_budget import worst_usd
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from routing.outcome import FAILURE_RULES, Billed, Completion, Failure, FailureKind, FaultOf
from routing.policy.failover import Attempt, CallDeployment, Wait, next_call
from routing.query import read_body

ANSWERS: Final = "answers"
BATCH_LANE: Final = "batch lane"
FEATURES: Final = (ANSWERS, "price", "tools", "JSON schema", "logprobs", "effort", "temperature", BATCH_LANE)
"""The features in the order of the table. The first one says whether the deployment answers at all.
`FeatureCheck.fault` says whether the key, quota, model or network prevents it."""

_CAP: Final = 512
"""Maximum completion tokens of one call. A reasoning model needs some hundred for one word."""
_EFFORT_CAP: Final = 2048
"""The same if reasoning effort is requested: some models think with at least 1,024 tokens, within the cap."""
_DEADLINE_S: Final = 60.0
_PATIENCE_S: Final = 60.0
"""Maximum seconds per deployment. Its calls are not retried after that."""
_AT_ONCE: Final = 8

_NUMBER: Final = {"type": "integer"}
_SCHEMA: Final = {
    "type": "object",
    "properties": {"sum": _NUMBER},
    "required": ["sum"],
    "additionalProperties": False,
}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": _NUMBER, "b": _NUMBER},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
_CALLS: Final[Mapping[str, Mapping[str, Any]]] = {
    ANSWERS: {},
    "tools": {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
    "JSON schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": _SCHEMA}}
    },
    "logprobs": {"logprobs": True},
    "effort": {"reasoning_effort": "low"},
    "temperature": {"temperature": 0},
}
"""The answer that each call asks for besides its question."""


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """Whether one feature of a deployment works. If not, why, and the fix."""

    works: bool
    cause: str | None = None
    fix: str | None = None
    relied_on: bool = False
    """Whether the fleet cannot use the deployment, or pays more, without the feature."""
    fault: str | None = None
    """The cause of a missing answer: key, quota, model, network, provider or request."""


@dataclass(slots=True)
class DeploymentCheck:
    """The checks of one deployment. Features that were not requested are not in ``features``."""

    model: Model
    features: dict[str, FeatureCheck] = field(default_factory=dict)
    latency_ms: float | None = None
    cost_usd: float = 0.0
    repeated: int = 0
    """Calls that failed and were retried, as in a batch."""
    refused: dict[str, str] = field(default_factory=dict)
    """Fields that the deployment refuses and that belong to no feature, each with the fix."""

    @property
    def broken(self) -> list[str]:
        """The features that the fleet relies on and that do not work."""
        return [name for name, check in self.features.items() if check.relied_on and not check.works]


def most_usd(fleet: Fleet) -> float:
    """Return the maximum cost of the calls, in USD."""
    return sum(
        worst_usd(read_body(_body(feature, model)), model)
        for model in fleet.models.values()
        for feature in _features(model)
    )


async def call_fleet(fleet: Fleet, environ: Mapping[str, str]) -> list[DeploymentCheck]:
    """Call every deployment of ``fleet``, in the order of its tiers."""
    pool = ProviderClient(fleet, environ=environ)
    places = asyncio.Semaphore(_AT_ONCE)

    async def check(model: Model) -> DeploymentCheck:
        async with places:
            return await _check(model, fleet, pool)

    try:
        with capture_logs() as said:  # the result names each failure
            found = await asyncio.gather(*(check(model) for tier in fleet.tiers for model in fleet.deployments(tier)))
    finally:
        await pool.aclose()
    for one in found:
        one.refused = {
            entry["param"]: entry["fix"]
            for entry in said
            if entry["event"] == "parameter_refused"
            and entry["deployment"] == one.model.name
            and entry["param"] not in FEATURES
        }
    return found


async def _check(model: Model, fleet: Fleet, pool: ProviderClient) -> DeploymentCheck:
    found, until = DeploymentCheck(model), time.monotonic() + _PATIENCE_S
    for feature in _features(model):
        outcome = await _complete(feature, found, fleet, pool, until=until)
        found.cost_usd += _cost_usd(outcome, model)
        found.features[feature] = _verdict(feature, outcome, model, fleet)
        if feature == ANSWERS:
            if isinstance(outcome, Failure):
                return found  # the others would meet the same
            found.latency_ms = outcome.latency_ms
            found.features["price"] = _price(outcome, model)
    if Lane.BATCH in model.lanes:
        found.features[BATCH_LANE] = await _batch_lane(pool.batch_api(model), fleet)
    return found


def _features(model: Model) -> Iterable[str]:
    """Return the features to check for ``model``. For an embedding model this is only whether it answers."""
    return (ANSWERS,) if model.embeds else _CALLS


async def _complete(
    feature: str, found: DeploymentCheck, fleet: Fleet, pool: ProviderClient, *, until: float
) -> Completion | Failure:
    """Return the outcome of a call, with the retries of a worker if they may help, cost nothing, and are in time."""
    model, history = found.model, list[Attempt]()
    while True:
        outcome = await pool.complete(model, _body(feature, model), deadline_s=_DEADLINE_S)
        if isinstance(outcome, Completion) or FAILURE_RULES[outcome.kind].billed is not Billed.NO:
            return outcome
        history.append(Attempt(model.name, outcome))
        step = next_call(history, deployments=(model,), providers=fleet.providers, resting={}, timing=fleet.timing)
        wait_s = step.wait_s if isinstance(step, Wait) else 0.0
        if not isinstance(step, Wait | CallDeployment) or time.monotonic() + wait_s > until:
            return outcome
        found.repeated += 1
        await asyncio.sleep(wait_s)


async def _batch_lane(api: ProviderBatchApi, fleet: Fleet) -> FeatureCheck:
    """Check whether the server lists provider batches, which costs nothing."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await api.find(CreateAttempt("pointsman-check-fleet", calls=1, sent_at=time.time()))
    except TimeoutError:
        failure = Failure(FailureKind.UNKNOWN, Cause.DEADLINE.value, cause=Cause.DEADLINE.value)
    except BatchCallFailed as error:
        failure = error.failure
    else:
        return FeatureCheck(True, relied_on=True)
    model = api.model
    fix = f'Remove "batch" from the lanes of {model.name}, because its calls use the standard lane anyway.'
    if FAILURE_RULES[failure.kind].fault_of is not FaultOf.MODEL and failure.kind is not FailureKind.BROKEN_BODY:
        fix = fix_of(failure, fleet.providers[model.provider])
    return FeatureCheck(False, failure.message, fix, relied_on=True, fault=_fault(failure))


def _fault(failure: Failure) -> str:
    """Return the cause. A key, an empty account and a limit have the same columns, but different fixes."""
    match FAILURE_RULES[failure.kind].fault_of:
        case FaultOf.ACCOUNT:
            return "key" if failure.kind is FailureKind.AUTH else "quota"
        case FaultOf.PROVIDER if failure.kind is FailureKind.RATE_LIMITED:
            return "quota"
        case fault:
            return fault.value


def _body(feature: str, model: Model) -> dict[str, Any]:
    question = "What is 17 plus 25? Answer with the number alone."
    if model.embeds:
        return {"input": question}
    cap = _EFFORT_CAP if feature == "effort" else _CAP
    return {"messages": [{"role": "user", "content": question}], "max_tokens": cap} | dict(_CALLS[feature])


def _cost_usd(outcome: Completion | Failure, model: Model) -> float:
    if outcome.usage is None:
        return 0.0
    if isinstance(outcome, Completion) and outcome.cost_usd is not None:
        return outcome.cost_usd
    return model.price.cost_usd(outcome.usage)


def _verdict(feature: str, outcome: Completion | Failure, model: Model, fleet: Fleet) -> FeatureCheck:
    relied_on = feature == ANSWERS or (feature == "logprobs" and relies_on_logprobs(model, fleet))
    if isinstance(outcome, Failure):
        fault = _fault(outcome) if feature == ANSWERS or outcome.is_limit else None
        return FeatureCheck(False, outcome.message, _fix(feature, outcome, model, fleet), relied_on, fault)
    cause = next(_missing(feature, outcome), None)
    return FeatureCheck(cause is None, cause, None if cause is None else _fix_of_feature(feature, model), relied_on)


def _missing(feature: str, outcome: Completion) -> Iterator[str]:
    """Return why an answer does not show the feature, or nothing if it does."""
    yield from (note for note in outcome.notes if any(note.startswith(f"left out: {key}") for key in _CALLS[feature]))
    is_cut = outcome.finish_reason == "length" and feature in ("tools", "JSON schema")
    cut = f"; it was cut off at {_CAP} tokens" if is_cut else ""
    match feature:
        case "tools" if not outcome.has_tool_calls:
            yield f"the answer calls no tool{cut}"
        case "JSON schema" if not _is_sum(outcome.text):
            yield f"the answer does not follow the schema{cut}"
        case "logprobs" if outcome.mean_logprob is None:
            yield "the answer has no log-probabilities"
        case _:
            pass


def _is_sum(text: str) -> bool:
    try:
        value = read_json(text)
    except NotJsonError:
        return False
    return isinstance(value, dict) and type(value.get("sum")) is int


def _price(outcome: Completion, model: Model) -> FeatureCheck:
    """Check whether the fleet's price is that of the model that answered, as far as the answer shows."""
    fix = "State the price of this model in the fleet, or correct its name."
    if outcome.usage_is_guess:
        return FeatureCheck(
            False,
            "the answer states no usage",
            "Use another server. Without a usage, each call counts at its maximum cost.",
        )
    if outcome.cost_usd is not None:
        return FeatureCheck(False, f"another model answered: {outcome.model}", fix)
    reported = outcome.usage.reported_usd
    if reported is not None and differs(computed := model.price.cost_usd(outcome.usage), reported):
        return FeatureCheck(
            False, f"the provider states a cost of ${reported:.9f}, and the fleet's price gives ${computed:.9f}", fix
        )
    return FeatureCheck(True)


def relies_on_logprobs(model: Model, fleet: Fleet) -> bool:
    """Whether a confidence of the fleet needs ``model``'s log-probabilities."""
    if not model.logprobs:
        return False  # the fleet does not ask for them; `check-fleet` warns where a threshold then never acts
    asked = [
        other
        for tier in fleet.tiers.values()
        if tier.escalates_to is not None
        for other in fleet.deployments(tier.name)
    ]
    return any(
        (other.name == model.name and fleet.confidence_of(other).source in LOGPROB_SOURCES)
        or (fleet.confidence_of(other).verifier == model.name)
        for other in asked
    )


def _fix(feature: str, failure: Failure, model: Model, fleet: Fleet) -> str:
    provider = fleet.providers[model.provider]
    if feature != ANSWERS and failure.kind in (
        FailureKind.INEXPRESSIBLE,
        FailureKind.UNSUPPORTED,
        FailureKind.REJECTED,
        FailureKind.MALFORMED,
    ):
        return _fix_of_feature(feature, model)
    match failure.kind:
        case FailureKind.NOT_FOUND:
            return f"Check the model name {model.model}, base_url, and whether the account may use the model."
        case FailureKind.UNSUPPORTED | FailureKind.REJECTED | FailureKind.MALFORMED:
            return f"Check kind, base_url and the name {model.model}; cap_field, if the cap is refused."
        case FailureKind.UNKNOWN if failure.cause == "deadline":
            return f"It did not answer within {_DEADLINE_S:g} s. Try again, or look at its status page."
        case _:
            return fix_of(failure, provider)


def _fix_of_feature(feature: str, model: Model) -> str:
    match feature:
        case "tools":
            return "Pin lines with tools to another tier or model."
        case "JSON schema":
            return (
                "The judge checks the schema and escalates wrong answers. Pin such lines to another tier to save "
                "these calls."
            )
        case "logprobs" if not model.logprobs:
            return "No fix is needed, because the fleet does not use them."
        case "logprobs":
            return 'Remove logprobs = true, and set confidence = { source = "self_verification" } or another source.'
        case "temperature":
            return "Lines that request an effort are answered without it, and their reasons say so."
        case _:
            return "Remove reasoning_effort from lines for this model."
