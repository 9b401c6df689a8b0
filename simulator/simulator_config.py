"""The configuration: ``--config`` at the start, ``POST /control`` at run time.

Pydantic validates the JSON and fills plain dataclasses; unknown keys are errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Final, TypeVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from simulator.batch_behavior import BatchBehavior
from simulator.effort_curve import USUAL_EFFORT, EffortLevel
from simulator.fault_rules import Fault
from simulator.latency import Latency
from simulator.model_strength import LEVELS, Strength, strength_of
from simulator.prefix_cache import PromptCache
from simulator.rate_limits import ModelLimits

_Level = Annotated[float, Field(ge=0, le=1)]


class CheapLane(StrEnum):
    """Lanes with a price of their own; a call at the list price is in none of them."""

    BATCH = "batch"
    FLEX = "flex"


Price = tuple[float, float] | tuple[float, float, float]
"""US dollars per million tokens: input, output and, where it differs from input, cached input."""


LANE_DISCOUNT: Final = 0.5
"""What a token costs in the lanes batch and flex, of the list price, where `Config.lane_prices` has nothing."""


class ConfigError(ValueError):
    """An invalid configuration; each line names a key and its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The keys of ``--config FILE``. A model's name may be a shell pattern (``gpt-5*``): an exact name wins, then the
    first matching pattern.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    latency: Latency = field(default_factory=Latency)
    faults: list[Fault] = field(default_factory=list)
    strengths: dict[str, Strength | _Level] = field(default_factory=dict)
    """A class of strength, or a level from 0 to 1. Other models are classed by their name."""
    efforts: dict[str, dict[str, EffortLevel]] = field(default_factory=dict)
    """By model and ``reasoning_effort``: instead of its strength, and of `reasoning_tokens`."""
    prices: dict[str, Price] = field(default_factory=dict)
    """The simulator's own price table. A model without a price costs nothing and is counted as unpriced."""
    lane_prices: dict[CheapLane, dict[str, Price]] = field(default_factory=dict)
    """The same for a lane, where it is not half of the list price."""
    audio_factors: dict[str, float] = field(default_factory=dict)
    """The price of a token of sound in a prompt, as a factor of the input price; 1 of other models."""
    limits: dict[str, ModelLimits] = field(default_factory=dict)
    batch: BatchBehavior = field(default_factory=BatchBehavior)
    """The behavior of the batch APIs."""
    prompt_caches: dict[str, PromptCache] = field(default_factory=dict)
    """Models without one cache nothing."""
    cached_share: float = 0.0
    """The share of each prompt's tokens that is reported as cached, 0 to 1; of models without a prompt cache."""
    reasoning_tokens: int = 0
    """Reasoning tokens added to every completion."""
    judge_error: _Level = 0.05
    """The share of a judge's verdicts that are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Config):
    """The keys of ``POST /control``: those of `Config`, of which each one present replaces that part, and these."""

    refuse_for_s: float | None = None
    """The seconds for which the simulator stops listening. New connections are refused, and open ones are reset."""
    reset: bool = False
    """Set the counts of ``/stats`` to zero."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The configuration of one model."""

    strength: Strength
    level: float
    price: Price | None
    lane_prices: Mapping[str, Price]
    """By lane; empty where the model has no price."""
    latency: Latency | None
    """The latency. None: the model answers immediately."""
    limits: ModelLimits | None
    """The rate limits. None: no limits."""
    effort: EffortLevel | None = None
    """The effect of the effort. None: the model reasons the same at every effort."""
    prompt_cache: PromptCache | None = None
    audio_factor: float = 1.0


def profile_of(model: str, config: Config, *, effort: str | None = None) -> Profile:
    """The configuration of ``model`` at an effort, by default the usual one."""
    curve = _lookup(config.efforts, model) or {}
    at_effort = curve.get(effort or USUAL_EFFORT)
    configured = _lookup(config.strengths, model) if at_effort is None else at_effort.level
    if configured is None:
        strength: Strength = strength_of(model)
        level = LEVELS[strength]
    elif isinstance(configured, Strength):
        strength, level = configured, LEVELS[configured]
    else:
        level = configured
        strength = next((strength for strength in LEVELS if level <= LEVELS[strength]), Strength.LARGE)
    limits = _lookup(config.limits, model)
    price = _lookup(config.prices, model)
    return Profile(
        strength=strength,
        level=level,
        price=price,
        lane_prices={} if price is None else {lane: _lane_price(lane, model, price, config) for lane in CheapLane},
        latency=None if config.latency.is_zero else config.latency,
        limits=None if limits is None or not limits.any else limits,
        effort=at_effort,
        prompt_cache=_lookup(config.prompt_caches, model),
        audio_factor=_lookup(config.audio_factors, model) or 1.0,
    )


def _lane_price(lane: "CheapLane", model: str, price: Price, config: Config) -> Price:
    stated = _lookup(config.lane_prices.get(lane, {}), model)
    if stated is not None:
        return stated
    fresh, completion, *cached = (usd * LANE_DISCOUNT for usd in price)
    return (fresh, completion, cached[0]) if cached else (fresh, completion)


_Value = TypeVar("_Value")


def _lookup(table: Mapping[str, _Value], model: str) -> _Value | None:
    if model in table:
        return table[model]
    return next((value for pattern, value in table.items() if fnmatchcase(model, pattern)), None)


def read_config(raw: bytes | str) -> Config:
    """Parse a configuration. Raises ConfigError."""
    return _read(_CONFIG, raw)


def read_change(raw: bytes | str) -> tuple[Change, dict[str, Any]]:
    """Parse the body of ``/control``; with the parts of the `Config` that it replaces, by name. Raises ConfigError."""
    change = _read(_CHANGE, raw)
    given = orjson.loads(raw)
    return change, {part.name: getattr(change, part.name) for part in fields(Config) if part.name in given}


_Record = TypeVar("_Record")
_CONFIG: Final = TypeAdapter(Config)
_CHANGE: Final = TypeAdapter(Change)


def _read(adapter: TypeAdapter[_Record], raw: bytes | str) -> _Record:
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, detail['loc'])) or 'body'}: {detail['msg']}" for detail in error.errors())
        raise ConfigError("\n".join(lines)) from error
