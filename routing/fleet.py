"""The fleet: tiers, models, providers and every number of theirs, as ``fleet.toml`` says.

``settings.load_fleet`` reads and checks the file; inside, these frozen records are trusted.
Money is in US dollars per million tokens, time in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.outcome import FailureKind, Usage


class Protocol(StrEnum):
    """The wire protocol that a provider speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"


class BudgetPolicy(StrEnum):
    """What becomes of a query that its budget has no room for."""

    HOLD = "hold"
    FAIL = "fail"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What every token of a call costs whose prompt has more than ``above_prompt_tokens`` tokens."""

    above_prompt_tokens: int
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. ``version`` names the source, pinned in each call's row."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float
    version: str
    multiplier: float = 1.0
    """A discount on everything, for example 0.5 for a provider's batch tariff."""
    tiers: tuple[PriceTier, ...] = ()
    """Prices for longer prompts, the shortest first."""

    def cost_usd(self, usage: Usage) -> float:
        """The price of ``usage``, rounded to a billionth of a dollar."""
        rate: Price | PriceTier = self
        for tier in self.tiers:
            if usage.prompt_tokens > tier.above_prompt_tokens:
                rate = tier
        fresh = usage.prompt_tokens - usage.cached_tokens
        micro = (
            fresh * rate.input_usd_per_mtok
            + usage.cached_tokens * rate.cached_input_usd_per_mtok
            + usage.completion_tokens * rate.output_usd_per_mtok
        )
        return round(micro * self.multiplier / 1e6, 9)


@dataclass(frozen=True, slots=True)
class Provider:
    """An endpoint with one account. ``base_url`` has no trailing slash."""

    name: str
    kind: Protocol
    base_url: str
    api_key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float = 120.0
    max_response_bytes: int = 8_000_000
    proxy: str | None = None
    """``env``, or the http URL of a proxy without credentials. None: no proxy, whatever the environment says."""
    proxy_login_env: str | None = None
    """The environment variable that holds the proxy's ``user:password``."""
    ca_bundle: str | None = None
    """The absolute path of PEM certificates to trust instead of Mozilla's."""
    client_certificate: str | None = None
    """The absolute path of a PEM certificate, with its key unless ``client_key`` has that."""
    client_key: str | None = None
    http2: bool | Literal["auto"] = False
    """``auto``: where a TLS server offers it."""
    connect_timeout_s: float = 10.0
    max_connections: int | None = None
    """Of HTTP/1.1, in one process."""
    failover_on: frozenset[FailureKind] = frozenset()
    """Classes on which to fail over here although the default is not to (auth, malformed, safety)."""


@dataclass(frozen=True, slots=True)
class Model:
    """One deployment: a model at a provider, with its price and limits. 0 or None is no limit."""

    name: str
    """The deployment's name in the fleet, unique there."""
    provider: str
    model: str
    """The name on the wire."""
    tier: str
    price: Price
    context_tokens: int
    max_output_tokens: int = 4096
    max_concurrency: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    weight: float = 1.0
    logprobs: bool = False
    """It gives token log-probabilities, so the judge asks for them; many models refuse the question."""
    categories: frozenset[str] = frozenset()
    """Categories for which this model is preferred within its tier."""
    confidence: ConfidencePolicy | None = None
    """Where its answers' confidence is from; None: as its tier says."""

    def reserve_usd(self, *, prompt_tokens: int, max_tokens: int | None) -> float:
        """The worst-case price of a call, charged until the real usage is known.

        The prompt counts at 2 characters a token (twice the usual estimate), the completion at its cap.
        """
        completion = min(max_tokens or self.max_output_tokens, self.max_output_tokens)
        return self.price.cost_usd(Usage(prompt_tokens=2 * prompt_tokens + 64, completion_tokens=completion))


@dataclass(frozen=True, slots=True)
class Tier:
    """A rung of the ladder: a Celery queue, its slots, and the models that serve it, in failover order."""

    name: str
    queue: str
    concurrency: int
    """Calls in flight in each worker process of this tier."""
    models: tuple[str, ...]
    escalates_to: str | None
    confidence_threshold: float = 0.7
    hedge_after_p95: bool = False
    confidence: ConfidencePolicy = field(default_factory=ConfidencePolicy)


@dataclass(frozen=True, slots=True)
class LlmRouter:
    """The small model that is asked as a router."""

    model: str
    queries_per_call: int = 20
    deadline_s: float = 20.0
    max_chars_per_query: int = 600


@dataclass(frozen=True, slots=True)
class RouterPolicy:
    """Which routers take part, and how the policy weighs their word."""

    stages: tuple[str, ...] = ("gate", "classifier")
    """In order: any of ``gate``, ``classifier``, ``llm``."""
    quality_weight: float = 3.0
    """How much heavier a lost answer weighs than the same money wasted."""
    gate_sure: float = 0.9
    """The gate decides alone at this confidence or more."""
    classifier_sure: float = 0.7
    """The classifier decides alone at this confidence or more; below it the LLM router is asked."""
    classifier: str = "default"
    """The name of the promoted artifact, or ``default`` for the one that is shipped."""
    scorer: str | None = None
    """The artifact of the answer scorer, if one judges the answers."""
    shadow: str | None = None
    """An artifact that decides beside the live router and is only logged."""
    exploration: float = 0.0
    """ε: the share of queries that are routed at random among the tiers that fit them."""
    llm: LlmRouter | None = None


@dataclass(frozen=True, slots=True)
class Budgets:
    """Hard caps in US dollars; None is no cap."""

    batch_usd: float | None = None
    tenant_day_usd: float | None = None
    policy: BudgetPolicy = BudgetPolicy.HOLD


@dataclass(frozen=True, slots=True)
class Timing:
    """Leases and windows, in seconds."""

    lease_s: float = 180.0
    """How long a claim holds; longer than any provider's deadline."""
    window_s: float = 1.0
    """How many seconds of work the feeder keeps in the broker per stage."""
    max_attempts: int = 4
    """Provider calls for one query at one tier."""
    backoff_s: float = 2.0
    """First wait before a retry at a later time; doubles, with jitter, to 60 s."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How a worker process takes its messages. A chunk's thread only waits: the calls are on one loop."""

    pool: str = "threads"
    chunks_in_flight: int = 4
    prefetch: int = 1


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that ``fleet.toml`` says. ``tiers`` run from the cheapest to the dearest."""

    name: str
    simulated: bool
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    tiers: Mapping[str, Tier]
    router: RouterPolicy = RouterPolicy()
    budgets: Budgets = Budgets()
    timing: Timing = Timing()
    workers: Workers = Workers()
    calibrations: tuple[CalibrationMap, ...] = ()
    """Maps from raw confidences to P(right), as the file gives them."""
    digest: str = ""
    """SHA-256 of the file, pinned in each batch's row."""

    @property
    def ladder(self) -> tuple[str, ...]:
        """The general tiers from the first by ``escalates_to``; ``special`` is not on it."""
        rung: str | None = next(iter(self.tiers))
        names: list[str] = []
        while rung is not None and rung not in names:
            names.append(rung)
            rung = self.tiers[rung].escalates_to
        return tuple(names)

    @property
    def top(self) -> str:
        """The dearest tier of the ladder, against which the saving is measured."""
        return self.ladder[-1]

    def deployments(self, tier: str) -> tuple[Model, ...]:
        """The models of ``tier`` in failover order."""
        return tuple(self.models[name] for name in self.tiers[tier].models)

    def confidence_of(self, model: Model) -> ConfidencePolicy:
        """Where the confidence of ``model``'s answers is from; its source is never ``auto``."""
        policy = model.confidence or self.tiers[model.tier].confidence
        if policy.source is not ConfidenceSource.AUTO:
            return policy
        source = ConfidenceSource.LOGPROB if self.router.scorer is None else ConfidenceSource.SCORER
        return ConfidencePolicy(source, policy.samples, policy.verifier)

    def verifier_of(self, model: Model) -> Model:
        """The deployment that is asked about ``model``'s answers where the source is a verification."""
        named = self.confidence_of(model).verifier
        return model if named is None else self.models.get(named, model)

    def resolve_pin(self, model: str) -> str | None:
        """The tier that serves ``model`` (a tier's, a deployment's or a wire name), or None for ``auto``.

        Raises KeyError where the fleet knows no such name.
        """
        if model in ("", "auto"):
            return None
        if model in self.tiers:
            return model
        for deployment in self.models.values():
            if model in (deployment.name, deployment.model):
                return deployment.tier
        raise KeyError(model)

    def only(self, names: frozenset[str]) -> "Fleet":
        """The same fleet with the ladder's other tiers left out, their neighbours joined."""
        kept = {name: tier for name, tier in self.tiers.items() if name in names or name not in self.ladder}

        def above(tier: Tier) -> str | None:
            rung = tier.escalates_to
            while rung is not None and rung not in kept:
                rung = self.tiers[rung].escalates_to
            return rung

        models = {name: model for name, model in self.models.items() if model.tier in kept}
        asked = self.router.llm
        return replace(
            self,
            tiers={name: replace(tier, escalates_to=above(tier)) for name, tier in kept.items()},
            models=models,
            router=replace(self.router, llm=asked if asked is not None and asked.model in models else None),
        )
