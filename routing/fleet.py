"""The fleet: tiers, models, providers and every number of theirs, as ``fleet.toml`` says.

`fleet_config.loader` reads and checks the file; inside, these frozen records are trusted.
Money is in US dollars, time in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal

from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.lanes.lane import BatchLimits, Lane
from routing.outcome import FailureKind
from routing.price import Price


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


ANY_FIELD: Final = "*"


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
    shared_limits: bool = False
    """All its models share the account's rate limits."""
    failover_on: frozenset[FailureKind] = frozenset()
    """Classes on which to fail over here although the default is not to (auth, billing, malformed, safety)."""
    cap_field: str | None = None
    """The name of the completion's cap: max_tokens or max_completion_tokens; None: by the host, or as the user says."""
    extra_fields: frozenset[str] = frozenset()
    """Fields of a body that an OpenAI-compatible server takes beyond OpenAI's; `ANY_FIELD` stands for all."""
    picture_links: bool | None = None
    """Whether a part may be a link, which the provider fetches. None: at an ``http:`` address only to a public host."""


USUAL_REASONING_TOKENS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 100,
    "low": 400,
    "medium": 1_500,
    "high": 6_000,
    "xhigh": 12_000,
}
"""By ``reasoning_effort``: assumed, so that rungs of one model differ in what they cost; a forecast counts what earlier
answers took instead, once there are any."""


class CachedBy(StrEnum):
    """What has a provider cache the beginning of a prompt."""

    CACHE_CONTROL = "cache_control"
    """A mark at its end; what is written costs more than the input price."""
    PROMPT_CACHE_KEY = "prompt_cache_key"
    """It caches every prefix, and a key sends those that share one to the same machine."""
    ITSELF = "itself"
    """It caches every prefix."""


@dataclass(frozen=True, slots=True)
class PromptCaching:
    """The prompt cache of a deployment, which may be used for prefixes that queries of a batch share."""

    by: CachedBy
    min_tokens: int = 1024
    """A shorter prefix is not cached."""
    lifetime_s: float = 300.0
    """How long it lasts after its last use."""


@dataclass(frozen=True, slots=True)
class Model:
    """One deployment: a model at a provider, with its price and limits. 0 or None means no limit."""

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
    cap_field: str | None = None
    """As of its provider, for this model alone."""
    reasoning_effort: str | None = None
    """What is sent where a query names none: the same model at other efforts can be other deployments."""

    @property
    def usual_reasoning_tokens(self) -> int:
        """What an answer is expected to reason at its effort; 0 where it has none: nothing is known of it."""
        return 0 if self.reasoning_effort is None else USUAL_REASONING_TOKENS[self.reasoning_effort]

    protocol: Protocol = Protocol.OPENAI
    """Its provider's."""
    picture_tokens: int | None = None
    """The most tokens that one picture counts here; None: what the provider's pages state for this model."""
    lanes: tuple[Lane, ...] = (Lane.STANDARD,)
    """How its calls may be bought where a batch has a deadline; always with standard."""
    batch_limits: BatchLimits = field(default_factory=BatchLimits)
    """What one provider batch here may hold."""
    prompt_caching: PromptCaching | None = None
    """None: nothing is marked, and no query waits for another."""
    embeds: bool = False
    """It is of the embedding tier: it answers embeddings, and no chat completions."""


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
    endpoint: Literal["chat", "embeddings"] = "chat"
    """What its models answer. A fleet has at most one tier for embeddings: off the ladder, and of one model."""


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
    """Hard caps in US dollars; None means no cap."""

    batch_usd: float | None = None
    tenant_day_usd: float | None = None
    policy: BudgetPolicy = BudgetPolicy.HOLD
    allow_unbounded: bool = False
    """Take in what asks for something whose cost nobody can bound beforehand, such as a search by the provider."""


@dataclass(frozen=True, slots=True)
class ShapePolicy:
    """What is done about an answer that has not the shape that its query expects, before the query climbs."""

    correction: bool = True
    """Change the shape for free where that is certain."""
    repair: bool = True
    """Ask the same model once more, with what the validators found."""


@dataclass(frozen=True, slots=True)
class Grading:
    """The model that grades the answers of a pilot where their texts alone do not decide."""

    judge: str | None = None
    """A tier or a deployment that is asked which of two answers is better."""
    command: tuple[str, ...] = ()
    """A program and its arguments, which grade answers in a sandbox of the user's own."""
    command_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """How much a tenant may keep or have open at the HTTP API."""

    files: int = 1000
    """Uploaded files that were not deleted and have not expired."""
    file_bytes: int = 20 * 1024**3
    """Of all of them together."""
    stored_bytes: int = 20 * 1024**3
    """Of the prompts and answers of its batches and chats, until they are purged; a query counts 4 KiB at least."""
    open_batches: int = 1000
    waiting_chats: int = 1000
    """Chat completions that wait for their answer, in each process of the API."""
    webhooks: int = 50
    streams: int = 50
    """Event streams that are open, in each process of the API."""


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


def is_pin(name: str | None) -> bool:
    """Whether ``name`` is that of a tier or model: none and ``auto`` leave the choice to the router."""
    return name not in (None, "", "auto")


ANY_NAME: Final = "*"
"""The alias that stands for every name which the fleet does not know."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A model of the user's choice that a batch is compared with, beside the top tier."""

    model: str
    price: Price


@dataclass(frozen=True, slots=True)
class AnswerSharing:
    """When queries of a workload that ask the same share one answer."""

    dedup: bool | None = None
    """Within a batch; None: those whose temperature is 0."""
    reuse_s: float = 0.0
    """How old an answer of an earlier batch of the tenant may be that is taken; 0: none is."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that ``fleet.toml`` says. ``tiers`` run from the cheapest to the most expensive."""

    name: str
    simulated: bool
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    tiers: Mapping[str, Tier]
    router: RouterPolicy = RouterPolicy()
    budgets: Budgets = Budgets()
    shape: ShapePolicy = ShapePolicy()
    quality: Grading = Grading()
    timing: Timing = Timing()
    workers: Workers = Workers()
    is_replay: bool = False
    """Its answers are recordings of real models, although its servers are simulated."""
    tenant_quotas: TenantQuotas = TenantQuotas()
    calibrations: tuple[CalibrationMap, ...] = ()
    """Maps from raw confidences to P(right), as the file gives them."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What a name in a line's ``model`` stands for: auto, a tier or a model."""
    baseline: Baseline | None = None
    workloads: Mapping[str, str] = field(default_factory=dict)
    """The tier that a plain rule of the file names, by workload."""
    answer_sharing: Mapping[str, AnswerSharing] = field(default_factory=dict)
    """By workload, where the file says so."""
    digest: str = ""
    """SHA-256 of the file, pinned in each batch's row."""

    @property
    def chat_tiers(self) -> tuple[str, ...]:
        """The tiers that answer chat completions: all but the embedding tier."""
        return tuple(name for name, tier in self.tiers.items() if tier.endpoint == "chat")

    @property
    def embedding_tier(self) -> str | None:
        """The tier that answers embeddings; None where the fleet has none."""
        return next((name for name, tier in self.tiers.items() if tier.endpoint == "embeddings"), None)

    @property
    def makes_up_answers(self) -> bool:
        """The simulator makes up the answers, and how difficult a query is, from its text."""
        return self.simulated and not self.is_replay

    @property
    def ladder(self) -> tuple[str, ...]:
        """The general tiers from the first by ``escalates_to``; ``special`` is not on it."""
        rung: str | None = self.chat_tiers[0]
        names: list[str] = []
        while rung is not None and rung not in names:
            names.append(rung)
            rung = self.tiers[rung].escalates_to
        return tuple(names)

    @property
    def top(self) -> str:
        """The most expensive tier of the ladder, against which the saving is measured."""
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

    @property
    def judges(self) -> tuple[Model, ...]:
        """The deployments that may judge answers, in failover order; empty where the file names none."""
        named = self.quality.judge
        if named in self.tiers:
            return self.deployments(str(named))
        return (self.models[str(named)],) if named in self.models else ()

    def pinned(self, pin: str | None, tier: str) -> tuple[Model, ...]:
        """The deployments of ``tier`` that may answer a query with this pin, in failover order.

        A tier's name, ``auto`` and no pin allow all; a model's name those of the same model alone, wherever they are.
        """
        models = self.deployments(tier)
        if not is_pin(pin) or pin in self.tiers:
            return models
        named = next((model for model in models if model.name == pin), None)
        if named is None:
            return tuple(model for model in models if model.model == pin)
        same = (named.model, named.reasoning_effort)
        return tuple(model for model in models if (model.model, model.reasoning_effort) == same)

    def knows(self, name: str) -> bool:
        """Whether ``name`` is auto, or the name of a tier, a deployment or a model."""
        return not is_pin(name) or name in self.tiers or any(name in (m.name, m.model) for m in self.models.values())

    def unaliased(self, name: str) -> str:
        """What ``name`` stands for: itself where the fleet knows it or has no alias for it."""
        if not self.aliases or self.knows(name):
            return name
        return self.aliases.get(name, self.aliases.get(ANY_NAME, name))

    def resolve_pin(self, model: str) -> str | None:
        """The tier that serves ``model`` (a tier's, a deployment's or a wire name), or None for ``auto``.

        Raises KeyError where the fleet knows no such name.
        """
        if not is_pin(model):
            return None
        if model in self.tiers:
            return model
        for deployment in self.models.values():
            if model in (deployment.name, deployment.model):
                return deployment.tier
        raise KeyError(model)

    def only(self, names: frozenset[str]) -> "Fleet":
        """The same fleet for a replay that has recordings of these tiers: the ladder's others left out, their
        neighbours joined."""
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
            is_replay=True,
            tiers={name: replace(tier, escalates_to=above(tier)) for name, tier in kept.items()},
            models=models,
            workloads={workload: tier for workload, tier in self.workloads.items() if tier in kept},
            router=replace(self.router, llm=asked if asked is not None and asked.model in models else None),
        )
