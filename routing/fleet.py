"""The fleet: the tiers, models, providers and numbers from ``fleet.toml``.

`fleet_config.loader` reads and checks the file. Other code trusts these frozen records. Money is in US dollars, time in
seconds.
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
    """What happens to a query if its budget has no room for it."""

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
    """``env``, or the http URL of a proxy without credentials. None: no proxy, even if the environment sets one."""
    proxy_login_env: str | None = None
    """The environment variable that holds the proxy's ``user:password``."""
    ca_bundle: str | None = None
    """The absolute path of PEM certificates to trust instead of Mozilla's."""
    client_certificate: str | None = None
    """The absolute path of a PEM certificate. It contains the key unless ``client_key`` is set."""
    client_key: str | None = None
    http2: bool | Literal["auto"] = False
    """``auto`` uses HTTP/2 if a TLS server offers it."""
    connect_timeout_s: float = 10.0
    max_connections: int | None = None
    """Maximum HTTP/1.1 connections of one process."""
    shared_limits: bool = False
    """All its models share the account's rate limits."""
    failover_on: frozenset[FailureKind] = frozenset()
    """Failure classes on which to fail over although the default is not to (auth, billing, malformed, safety)."""
    cap_field: str | None = None
    """The field for the completion cap: max_tokens or max_completion_tokens. None: by the host, or the user's field."""
    extra_fields: frozenset[str] = frozenset()
    """Body fields that an OpenAI-compatible server accepts beyond OpenAI's. `ANY_FIELD` stands for all."""
    picture_links: bool | None = None
    """Whether a part may be a link that the provider fetches. None: at an ``http:`` address only links to a public
    host."""


USUAL_REASONING_TOKENS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 100,
    "low": 400,
    "medium": 1_500,
    "high": 6_000,
    "xhigh": 12_000,
}
"""Assumed reasoning tokens by ``reasoning_effort``, so that rungs of the same model differ in cost. A forecast uses
earlier answers instead, once there are any."""


class CachedBy(StrEnum):
    """How a provider is made to cache the beginning of a prompt."""

    CACHE_CONTROL = "cache_control"
    """A mark at the end of the prefix. Writing to the cache costs more than the input price."""
    PROMPT_CACHE_KEY = "prompt_cache_key"
    """The provider caches every prefix. A key routes prompts with the same prefix to the same machine."""
    ITSELF = "itself"
    """The provider caches every prefix without being asked."""


@dataclass(frozen=True, slots=True)
class PromptCaching:
    """The prompt cache of a deployment, for prefixes that queries of a batch share."""

    by: CachedBy
    min_tokens: int = 1024
    """Shorter prefixes are not cached."""
    lifetime_s: float = 300.0
    """The time, in seconds, that an entry lasts after its last use."""


@dataclass(frozen=True, slots=True)
class Model:
    """One deployment: a model at a provider, with its price and limits. 0 or None means no limit."""

    name: str
    """The deployment's name, unique in the fleet."""
    provider: str
    model: str
    """The model's name in requests to the provider."""
    tier: str
    price: Price
    context_tokens: int
    max_output_tokens: int = 4096
    max_concurrency: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    weight: float = 1.0
    logprobs: bool = False
    """Whether the model returns token log-probabilities, so that the judge requests them. Many models refuse the
    request."""
    categories: frozenset[str] = frozenset()
    """Categories for which this model is preferred within its tier."""
    confidence: ConfidencePolicy | None = None
    """The source of the confidence of its answers. None: the tier's source."""
    cap_field: str | None = None
    """The provider's ``cap_field``, overridden for this model."""
    reasoning_effort: str | None = None
    """The effort that is sent if a query sets none. Deployments of one model can differ in their effort."""

    @property
    def usual_reasoning_tokens(self) -> int:
        """Return the expected reasoning tokens of an answer at its effort. 0 without an effort, because nothing is
        known."""
        return 0 if self.reasoning_effort is None else USUAL_REASONING_TOKENS[self.reasoning_effort]

    protocol: Protocol = Protocol.OPENAI
    """The provider's protocol."""
    picture_tokens: int | None = None
    """Maximum tokens of one picture. None: the figure on the provider's pages for this model."""
    lanes: tuple[Lane, ...] = (Lane.STANDARD,)
    """How its calls may be bought if a batch has a deadline. Standard is always included."""
    batch_limits: BatchLimits = field(default_factory=BatchLimits)
    """The limits of one provider batch."""
    prompt_caching: PromptCaching | None = None
    """None: no prefix is marked, and no query waits for another."""
    embeds: bool = False
    """Whether the model belongs to the embedding tier. It then answers embeddings, and no chat completions."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A rung of the ladder: a Celery queue, its slots, and its models in failover order."""

    name: str
    queue: str
    concurrency: int
    """Concurrent calls of each worker process of this tier."""
    models: tuple[str, ...]
    escalates_to: str | None
    confidence_threshold: float = 0.7
    hedge_after_p95: bool = False
    confidence: ConfidencePolicy = field(default_factory=ConfidencePolicy)
    endpoint: Literal["chat", "embeddings"] = "chat"
    """The endpoint that its models answer. A fleet has at most one tier for embeddings. It is off the ladder and has
    one model."""


@dataclass(frozen=True, slots=True)
class LlmRouter:
    """The small model that acts as the LLM router."""

    model: str
    queries_per_call: int = 20
    deadline_s: float = 20.0
    max_chars_per_query: int = 600


@dataclass(frozen=True, slots=True)
class RouterPolicy:
    """The routers that take part, and the weights of the policy."""

    stages: tuple[str, ...] = ("gate", "classifier")
    """Any of ``gate``, ``classifier``, ``llm``, in order."""
    quality_weight: float = 3.0
    """How much a wrong answer weighs, relative to the price of the top tier."""
    gate_sure: float = 0.9
    """Minimum confidence at which the gate decides alone."""
    classifier_sure: float = 0.7
    """Minimum confidence at which the classifier decides alone. Below it, the LLM router votes."""
    classifier: str = "default"
    """The name of the promoted artifact, or ``default`` for the shipped one."""
    scorer: str | None = None
    """The artifact of the answer scorer, if there is one."""
    shadow: str | None = None
    """A shadow router's artifact: it decides in addition to the live router, and is only logged."""
    exploration: float = 0.0
    """ε: the share of queries that are routed at random among the tiers that they fit."""
    llm: LlmRouter | None = None


@dataclass(frozen=True, slots=True)
class Budgets:
    """Hard caps in US dollars; None means no cap."""

    batch_usd: float | None = None
    tenant_day_usd: float | None = None
    policy: BudgetPolicy = BudgetPolicy.HOLD
    allow_unbounded: bool = False
    """Accept requests for which no cost limit can be computed, such as a search by the provider."""


@dataclass(frozen=True, slots=True)
class ShapePolicy:
    """What is done about an answer of the wrong shape before its query climbs."""

    correction: bool = True
    """Change the shape for free if the change is certain."""
    repair: bool = True
    """Call the same model once more, with the validators' findings."""


@dataclass(frozen=True, slots=True)
class Grading:
    """The graders of a pilot's answers, if the texts alone do not decide."""

    judge: str | None = None
    """A tier or a deployment that judges which of two answers is better."""
    command: tuple[str, ...] = ()
    """A program and its arguments that grade answers in the user's own sandbox."""
    command_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """The limits on what a tenant may store or have open at the HTTP API."""

    files: int = 1000
    """Maximum number of uploaded files, without deleted and expired ones."""
    file_bytes: int = 20 * 1024**3
    """Maximum bytes of all these files together."""
    stored_bytes: int = 20 * 1024**3
    """Maximum bytes of prompts and answers of batches and chats, until they are purged. A query counts at least 4
    KiB."""
    open_batches: int = 1000
    waiting_chats: int = 1000
    """Maximum chat completions that wait for an answer, in each process of the API."""
    webhooks: int = 50
    streams: int = 50
    """Maximum open event streams, in each process of the API."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Leases and windows, in seconds."""

    lease_s: float = 180.0
    """The duration of a claim. It exceeds the timeout of every provider."""
    window_s: float = 1.0
    """The seconds of work per stage that the feeder keeps in the broker."""
    max_attempts: int = 4
    """Maximum provider calls for one query at one tier."""
    backoff_s: float = 2.0
    """The wait before the first retry. It doubles, with jitter, up to 60 s."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How a worker process takes its messages. A chunk's thread only waits, because the calls run on one event loop."""

    pool: str = "threads"
    chunks_in_flight: int = 4
    prefetch: int = 1


def is_pin(name: str | None) -> bool:
    """Whether ``name`` names a tier or model. No name and ``auto`` leave the choice to the router."""
    return name not in (None, "", "auto")


ANY_NAME: Final = "*"
"""The alias for every name that the fleet does not know."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A model of the user's choice that a batch is compared with, in addition to the top tier."""

    model: str
    price: Price


@dataclass(frozen=True, slots=True)
class AnswerSharing:
    """When queries of a workload with the same request key share one answer."""

    dedup: bool | None = None
    """Whether queries of a batch share answers. None: only those with temperature 0."""
    reuse_s: float = 0.0
    """Maximum age, in seconds, of an answer of the tenant's earlier batches that is reused. 0: none is reused."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The contents of ``fleet.toml``. ``tiers`` run from the cheapest to the most expensive."""

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
    """The answers are recordings of real models, although the servers are simulated."""
    tenant_quotas: TenantQuotas = TenantQuotas()
    calibrations: tuple[CalibrationMap, ...] = ()
    """The maps in the file from raw confidence to P(right)."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The meaning of a name in a line's ``model``: auto, a tier or a model."""
    baseline: Baseline | None = None
    workloads: Mapping[str, str] = field(default_factory=dict)
    """The tier that a rule of the file names, by workload."""
    answer_sharing: Mapping[str, AnswerSharing] = field(default_factory=dict)
    """The answer-sharing settings of the file, by workload."""
    digest: str = ""
    """The SHA-256 of the file. Each batch's row stores it."""

    @property
    def chat_tiers(self) -> tuple[str, ...]:
        """The tiers that answer chat completions: all except the embedding tier."""
        return tuple(name for name, tier in self.tiers.items() if tier.endpoint == "chat")

    @property
    def embedding_tier(self) -> str | None:
        """The tier that answers embeddings, or None."""
        return next((name for name, tier in self.tiers.items() if tier.endpoint == "embeddings"), None)

    @property
    def makes_up_answers(self) -> bool:
        """Whether the simulator makes up the answers, and derives a query's difficulty from its text."""
        return self.simulated and not self.is_replay

    @property
    def ladder(self) -> tuple[str, ...]:
        """The general tiers, in the order of ``escalates_to``. ``special`` is not on the ladder."""
        rung: str | None = self.chat_tiers[0]
        names: list[str] = []
        while rung is not None and rung not in names:
            names.append(rung)
            rung = self.tiers[rung].escalates_to
        return tuple(names)

    @property
    def top(self) -> str:
        """The most expensive tier of the ladder. The saving is measured against it."""
        return self.ladder[-1]

    def deployments(self, tier: str) -> tuple[Model, ...]:
        """Return the models of ``tier`` in failover order."""
        return tuple(self.models[name] for name in self.tiers[tier].models)

    def confidence_of(self, model: Model) -> ConfidencePolicy:
        """Return how ``model``'s answers get their confidence. The source is never ``auto``."""
        policy = model.confidence or self.tiers[model.tier].confidence
        if policy.source is not ConfidenceSource.AUTO:
            return policy
        source = ConfidenceSource.LOGPROB if self.router.scorer is None else ConfidenceSource.SCORER
        return ConfidencePolicy(source, policy.samples, policy.verifier)

    def verifier_of(self, model: Model) -> Model:
        """Return the deployment that verifies ``model``'s answers if the source is a verification."""
        named = (model.confidence or self.tiers[model.tier].confidence).verifier
        return model if named is None else self.models.get(named, model)

    @property
    def judges(self) -> tuple[Model, ...]:
        """The deployments that may judge answers, in failover order. Empty if the file names none."""
        named = self.quality.judge
        if named in self.tiers:
            return self.deployments(str(named))
        return (self.models[str(named)],) if named in self.models else ()

    def pinned(self, pin: str | None, tier: str) -> tuple[Model, ...]:
        """Return the deployments of ``tier`` that may answer a query with this pin, in failover order.

        A tier's name, ``auto`` and no pin allow all. A model's name allows only deployments of this model, at any
        provider.
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
        """Return the meaning of the alias ``name``. Known names, and names without an alias, are returned unchanged."""
        if not self.aliases or self.knows(name):
            return name
        return self.aliases.get(name, self.aliases.get(ANY_NAME, name))

    def resolve_pin(self, model: str) -> str | None:
        """Return the tier of ``model`` (a tier, a deployment or a provider's model name), or None for ``auto``.

        Raises KeyError if the fleet does not know the name.
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
        """Return this fleet for a replay with recordings of only these tiers: without the ladder's other tiers, and
        their neighbors joined."""
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
