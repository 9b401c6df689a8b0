"""Checks between the tables of a fleet, beyond their schemas."""

import re
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from fleet_config.fleet_errors import Problem, choice, key, looks_secret
from fleet_config.fleet_schema import (
    CalibrationTable,
    ConfidenceTable,
    ModelTable,
    ProviderTable,
    RouterTable,
    TierTable,
    TimingTable,
    WorkloadTable,
)
from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.answer_checks.threshold_action import threshold_action
from routing.fleet import Fleet, Model, Protocol, Provider
from routing.lanes.lane import Lane
from routing.lifecycle import FALLBACK, INGEST, ROUTE

SIMULATOR: Final = "simulator:"
"""The prefix of a ``base_url`` that is a path of the simulator, which Pointsman starts."""

_RESERVED: Final = frozenset({ROUTE, FALLBACK, INGEST, "auto"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""The token syntax of RFC 9110, 5.6.2."""
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding"})
"""Headers that each request sets. A second value could desynchronize the requests of a connection."""
EXPENSIVE_JUDGE: Final = 0.5
"""A judge at this share of the top tier's price causes a warning. docs/quality.md states its cost at 100 % and at 25
%."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def provider_problems(name: str, provider: ProviderTable, *, simulated: bool) -> Iterator[Problem]:
    """Yield problems of a provider's address, key and headers."""
    yield from _address_problems(name, provider.base_url, simulated=simulated)
    variable = provider.api_key_env
    if variable is not None and looks_secret(variable):
        yield Problem(
            key("providers", name, "api_key_env"),
            "looks like an API key; keys must not be stored in the file.",
            "Use the NAME of an environment variable, set the key there, and revoke this key if it was shared.",
        )
    elif variable is not None and not _VARIABLE.fullmatch(variable):
        yield Problem(
            key("providers", name, "api_key_env"),
            "is not the name of an environment variable.",
            "Use letters, digits and underscores, such as OPENAI_API_KEY.",
        )
    for kind, pairs in (("headers", provider.headers), ("query", provider.query)):
        for item, value in pairs.items():
            if looks_secret(value):
                yield Problem(
                    key("providers", name, kind, item),
                    "looks like an API key; keys must not be stored in the file.",
                    "Remove it, and name the environment variable of the key in api_key_env.",
                )
    if provider.extra_fields and provider.kind is not Protocol.OPENAI:
        yield Problem(
            key("providers", name, "extra_fields"),
            f"is for OpenAI-compatible servers only. The {provider.kind} protocol has its own fields.",
            "Remove it.",
        )
    yield from _header_problems(name, provider.headers)
    yield from _connection_problems(name, provider)


def _connection_problems(name: str, provider: ProviderTable) -> Iterator[Problem]:
    """Yield problems of proxy and certificates that the file alone shows."""
    if provider.proxy is not None and provider.proxy != "env":
        yield from _proxy_problems(key("providers", name, "proxy"), provider.proxy)
    if provider.proxy_login_env is not None:
        where = key("providers", name, "proxy_login_env")
        if not _VARIABLE.fullmatch(provider.proxy_login_env):
            yield Problem(
                where,
                "is not the name of an environment variable.",
                "Use letters, digits and underscores, such as PROXY_LOGIN, and put user:password there.",
            )
        if provider.proxy in (None, "env"):
            yield Problem(
                where,
                "needs the URL of a proxy.",
                'Set proxy = "http://host:port", or remove this key: with "env", HTTPS_PROXY contains the login.',
            )
    for item in ("ca_bundle", "client_certificate", "client_key"):
        path = getattr(provider, item)
        if path is not None and not PurePath(path).is_absolute():
            yield Problem(
                key("providers", name, item),
                "is not an absolute path.",
                "Write the absolute path on the workers, which may run in another folder.",
            )
    if provider.max_connections is not None and provider.http2 is not False:
        yield Problem(
            key("providers", name, "max_connections"),
            "is for HTTP/1.1. With HTTP/2 the calls share a connection.",
            "Remove it, or set http2 = false. The tiers' concurrency limits the calls in flight.",
        )
    if provider.client_key is not None and provider.client_certificate is None:
        yield Problem(
            key("providers", name, "client_key"),
            "has no client_certificate.",
            "Set client_certificate to the path of the certificate that this key belongs to.",
        )


def _proxy_problems(where: str, proxy: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(proxy)
        _ = parts.port
    except ValueError:
        yield Problem(where, "is not an address.", 'Write http://host:port, or "env".')
        return
    if parts.username is not None or parts.password is not None:
        yield Problem(
            where,
            "holds credentials.",
            "Remove them, and name the environment variable that holds user:password in proxy_login_env.",
        )
    elif parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        yield Problem(where, "is not the address of an HTTP proxy.", 'Write http://host:port, or "env".')


def _header_problems(name: str, headers: Mapping[str, str]) -> Iterator[Problem]:
    """Yield problems of headers that HTTP does not allow, or that each request sets itself."""
    for header, value in headers.items():
        where = key("providers", name, "headers", header)
        if not _TOKEN.fullmatch(header):
            yield Problem(where, "is not a valid header name.", "Use letters, digits and dashes.")
        elif header.lower() in _FRAMING:
            yield Problem(where, "is a header that Pointsman sets in each request.", "Remove it.")
        if not (value.isascii() and value.isprintable()):
            yield Problem(where, "is not a valid header value.", "Use visible ASCII characters and spaces.")


def _address_problems(name: str, base_url: str, *, simulated: bool) -> Iterator[Problem]:
    where = key("providers", name, "base_url")
    if base_url.startswith(SIMULATOR):
        if not base_url.removeprefix(SIMULATOR).startswith("/"):
            yield Problem(
                where, "has no path of the simulator.", "Use simulator:/openai/v1, or the path of another protocol."
            )
        if not simulated:
            yield Problem(
                where,
                "is the simulator's address, but the fleet is not marked as simulated.",
                "Set simulated = true under [fleet]. Every report then says that it is simulated.",
            )
        return
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        yield Problem(where, "is not a valid address.", "Use https://host/path.")
        return
    if parts.scheme not in ("http", "https") or not host:
        yield Problem(where, "is not an http or https address.", "Use https://host/path, or simulator:/openai/v1.")
        return
    if parts.username or parts.password:
        fix = "Remove them, and name the environment variable of the key in api_key_env."
        yield Problem(where, "has credentials.", fix)
    if parts.query or parts.fragment:
        yield Problem(where, "has a query or a fragment.", 'Put query parameters under query = { name = "value" }.')
    if simulated and host not in _LOOPBACK:
        yield Problem(
            where,
            "is a real provider's address, but the fleet is marked as simulated.",
            "Set simulated = false under [fleet], or use the simulator's address.",
        )


class Reference(NamedTuple):
    """A key that names an entry of another table."""

    path: tuple[str, ...]
    named: str | None
    """None where the key is not set."""
    kind: str | None
    """What it must name: a ``provider``, a ``tier``, a ``model``, a ``model or a tier``; None: also something else."""


def reference_problems(references: Iterable[Reference], known: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """References to what the fleet does not have; ``known`` are its entries by kind."""
    for path, named, kind in references:
        if kind is not None and named is not None and named not in known[kind]:
            yield Problem(key(*path), f"is not a {kind} of this fleet.", choice(named, known[kind]))


def model_problems(name: str, model: ModelTable, *, tiers: Collection[str], embeds: bool) -> Iterator[Problem]:
    """Yield problems of a model's limits and name. ``embeds``: it is an embedding model."""
    if model.max_output_tokens > model.context_tokens and not embeds:
        yield Problem(
            key("models", name, "max_output_tokens"),
            "is larger than context_tokens.",
            "Lower it, or raise context_tokens.",
        )
    if name in tiers or name == "auto":
        yield Problem(
            key("models", name),
            "is also the name of a tier, or auto, so a query could not be pinned to this model.",
            'Rename it. model = "…" keeps the provider\'s name for it.',
        )


def lane_problems(path: tuple[str, str], lanes: Sequence[Lane], *, kind: Protocol | None) -> Iterator[Problem]:
    """Yield problems of the lanes of a provider or a model. ``kind`` is None if its provider is not known."""
    where = key(*path, "lanes")
    if Lane.STANDARD not in lanes:
        yield Problem(
            where,
            "does not include standard, which serves the queries that the other lanes do not answer in time.",
            'Add "standard".',
        )
    if len(set(lanes)) < len(lanes):
        yield Problem(where, "names a lane twice.", "Name each lane once.")
    if Lane.FLEX in lanes and kind is Protocol.ANTHROPIC:
        yield Problem(where, "has flex, which the anthropic protocol does not offer.", 'Remove "flex".')


def tier_problems(name: str, tier: TierTable, *, served: Collection[str]) -> Iterator[Problem]:
    """Yield problems of a tier's name, queue and models."""
    if name in _RESERVED:
        yield Problem(key("tiers", name), "is a name reserved by Pointsman.", "Rename the tier.")
    elif not _NAME.fullmatch(name):
        yield Problem(
            key("tiers", name),
            "is not a valid name of a tier.",
            "Use up to 40 lowercase letters, digits, - and _, starting with a letter.",
        )
    if tier.queue is not None and (tier.queue in _RESERVED or not _NAME.fullmatch(tier.queue)):
        yield Problem(
            key("tiers", name, "queue"), "is not a valid name of a queue.", f"Remove it; the default is {name}."
        )
    if name not in served:
        yield Problem(
            key("tiers", name), "has no model.", f'Set tier = "{name}" in a [models."…"], or remove the tier.'
        )


def ladder_problems(tiers: Mapping[str, TierTable]) -> Iterator[Problem]:
    """Yield problems of escalation cycles and shared queues."""
    for name in tiers:
        path = _escalation_path(name, tiers)
        if path[-1] == name and len(path) > 1:
            yield Problem(
                key("tiers", name, "escalates_to"),
                f"causes a cycle: {' → '.join(path)}.",
                "Remove escalates_to from the largest tier.",
            )
            return
    queues: dict[str, str] = {}
    for name, tier in tiers.items():
        owner = queues.setdefault(tier.queue or name, name)
        if owner != name:
            yield Problem(key("tiers", name, "queue"), f"is also the queue of {owner}.", "Use one queue per tier.")


def _escalation_path(start: str, tiers: Mapping[str, TierTable]) -> list[str]:
    """Return the tiers from ``start`` up to the top, or to the first repeated one."""
    path = [start]
    while (tier := tiers.get(path[-1])) is not None and tier.escalates_to is not None:
        is_cycle = tier.escalates_to in path
        path.append(tier.escalates_to)
        if is_cycle:
            break
    return path


def router_problems(router: RouterTable) -> Iterator[Problem]:
    """Yield problems of the router's stages."""
    if len(set(router.stages)) < len(router.stages):
        yield Problem("router.stages", "names a router twice.", "Name each router once.")
    if "llm" in router.stages and router.llm is None:
        yield Problem(
            "router.stages", "has llm, but [router.llm] is missing.", 'Add it with model = "…", or remove llm.'
        )


def confidence_problems(
    path: tuple[str, str], policy: ConfidenceTable, *, router: RouterTable | None
) -> Iterator[Problem]:
    """Yield problems of a tier's or a model's source of confidence."""
    if policy.source is ConfidenceSource.SCORER and router is not None and router.scorer is None:
        yield Problem(
            key(*path, "confidence", "source"),
            "is the answer scorer, but [router] has no scorer.",
            'Add scorer = "NAME" there.',
        )


def calibration_problems(name: str, calibration: CalibrationTable) -> Iterator[Problem]:
    """Yield problems of a calibration map: its source must have raw confidences, and its points must rise."""
    if calibration.source in (ConfidenceSource.AUTO, ConfidenceSource.SCORER, ConfidenceSource.NONE):
        yield Problem(
            key("calibrations", name, "source"),
            "has no raw confidence to calibrate.",
            "Name the source that gave it, such as logprob or self_consistency.",
        )
    pairs = list(zip(calibration.points, calibration.points[1:], strict=False))
    if any(above[0] <= below[0] or above[1] < below[1] for below, above in pairs):
        yield Problem(
            key("calibrations", name, "points"),
            "must rise, but do not.",
            "Give [raw, P(right)] pairs in rising order of raw, with P(right) never falling.",
        )


def alias_problems(aliases: Mapping[str, str], *, names: Collection[str]) -> Iterator[Problem]:
    """Yield problems of aliases: each must be a new name, and stand for one of the fleet's ``names``."""
    for name, meaning in aliases.items():
        if name in names or name in ("", "auto"):
            yield Problem(key("aliases", name), "is already a name of this fleet.", "Remove the alias.")
        if meaning not in names and meaning != "auto":
            yield Problem(
                key("aliases", name),
                "does not name a tier or model of this fleet.",
                choice(meaning, ["auto", *sorted(names)]),
            )


def workload_problems(name: str, workload: WorkloadTable) -> Iterator[Problem]:
    """Yield problems of a workload's table: it must have a key."""
    if not workload.model_fields_set:
        yield Problem(key("workloads", name), "is empty.", "Set tier, dedup or reuse.")


def timing_problems(timing: TimingTable, providers: Mapping[str, ProviderTable]) -> Iterator[Problem]:
    """Yield problems of the lease. If it ends before its call, a second worker repeats, and pays for, the call."""
    longest = max(providers, key=lambda name: providers[name].deadline_s, default=None)
    if longest is not None and timing.lease_s <= providers[longest].deadline_s:
        yield Problem(
            "timing.lease_s",
            f"({timing.lease_s:g} s) must be longer than {key('providers', longest, 'deadline_s')} "
            f"({providers[longest].deadline_s:g} s).",
            f"Set it to {providers[longest].deadline_s + 60:g} or more, or shorten that deadline.",
        )


def warnings(fleet: Fleet, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield valid settings that are probably mistakes."""
    yield from _ladder_warnings(fleet)
    yield from _lane_warnings(fleet)
    yield from _threshold_warnings(fleet)
    yield from _judge_warnings(fleet)
    for provider in fleet.providers.values():
        if provider.name not in {model.provider for model in fleet.models.values()}:
            yield Problem(key("providers", provider.name), "is used by no model.", "Remove it, or use it for a model.")
            continue
        if provider.api_key_env is not None and not environ.get(provider.api_key_env):
            yield Problem(
                key("providers", provider.name, "api_key_env"),
                f"names {provider.api_key_env}, which is not set here.",
                "Set it in the environment of the workers.",
            )
        yield from _connection_warnings(provider, environ)
        parts = urlsplit(provider.base_url)
        if provider.api_key_env is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            yield Problem(key("providers", provider.name, "base_url"), "sends the key unencrypted.", "Use https.")


def _connection_warnings(provider: Provider, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what cannot be used on this machine. The workers' machine may differ."""
    if provider.proxy_login_env is not None and ":" not in environ.get(provider.proxy_login_env, ""):
        yield Problem(
            key("providers", provider.name, "proxy_login_env"),
            f"names {provider.proxy_login_env}, which does not contain user:password here.",
            "Set it in the environment of the workers.",
        )
    if provider.ca_bundle is not None:
        try:
            ssl.create_default_context(cafile=provider.ca_bundle)
        except OSError as error:
            yield Problem(
                key("providers", provider.name, "ca_bundle"),
                f"cannot be used here: {_why_unusable(error)}.",
                "Use a file of PEM certificates that the workers can read.",
            )
    if provider.client_certificate is not None:
        try:
            ssl.create_default_context().load_cert_chain(provider.client_certificate, provider.client_key)
        except OSError as error:
            yield Problem(
                key("providers", provider.name, "client_certificate"),
                f"cannot be used here: {_why_unusable(error)}.",
                "Use a PEM certificate with its key, in this file or in client_key, without a passphrase.",
            )


def _why_unusable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "certificate and key do not match" if error.reason == "KEY_VALUES_MISMATCH" else "it is not PEM"
    return (error.strerror or type(error).__name__).lower()


def _ladder_warnings(fleet: Fleet) -> Iterator[Problem]:
    """Yield warnings of tiers that cost less than the tier below, so that escalating would save money."""
    for lower, upper in zip(fleet.ladder, fleet.ladder[1:], strict=False):
        highest = max(_usd_per_mtok(fleet, name) for name in fleet.tiers[lower].models)
        lowest = min(_usd_per_mtok(fleet, name) for name in fleet.tiers[upper].models)
        if lowest < highest:
            yield Problem(
                key("tiers", upper),
                f"has a model that costs less than one of the tier below, {lower}.",
                "Check the prices and the order of the tiers.",
            )


def _lane_warnings(fleet: Fleet) -> Iterator[Problem]:
    """Yield warnings of lanes that cost no less than standard."""
    for model in fleet.models.values():
        for lane in model.lanes:
            if lane is not Lane.STANDARD and not model.price.is_free and _lane_usd(model, lane) >= _lane_usd(model):
                yield Problem(
                    key("models", model.name, "lanes"),
                    f"has {lane}, which does not cost less than standard, so it is never used.",
                    f"Remove it, or correct price.service_tiers.{lane}.",
                )


def _lane_usd(model: Model, lane: Lane = Lane.STANDARD) -> float:
    """Return the price of three million prompt tokens and one million completion tokens."""
    price = model.price.at_service_tier(lane)
    return price.multiplier * (3 * price.input_usd_per_mtok + price.output_usd_per_mtok)


def _threshold_warnings(fleet: Fleet) -> Iterator[Problem]:
    """Yield warnings of thresholds below which no answer can ever fall, or which none can reach."""
    for tier in fleet.tiers.values():
        if tier.escalates_to is None:
            continue
        for model in fleet.deployments(tier.name):
            action = threshold_action(model, fleet)
            if action.wrong is not None:
                yield Problem(
                    key("models", model.name), f"has a threshold without a useful effect: {action.wrong}.", action.fix
                )


def _judge_warnings(fleet: Fleet) -> Iterator[Problem]:
    """Yield warnings of a judge whose price can exceed what a quality floor saves."""
    top_usd = _usd_per_mtok(fleet, fleet.deployments(fleet.top)[0].name)
    for judge in fleet.judges[:1]:
        share = _usd_per_mtok(fleet, judge.name) / top_usd if top_usd else 0.0
        if share >= EXPENSIVE_JUDGE:
            yield Problem(
                key("quality", "judge"),
                f"{judge.name} costs {share:.0%} of the top tier, and reads every sampled answer twice together "
                "with the reference. On short questions this can cost more than a quality floor saves.",
                "Name a cheaper model. A batch's certificate shows how often its judge contradicts itself.",
            )


def _usd_per_mtok(fleet: Fleet, model: str) -> float:
    """Return the price of a million tokens, at a typical mix of three prompt tokens to one completion token."""
    price = fleet.models[model].price
    return price.multiplier * (3 * price.input_usd_per_mtok + price.output_usd_per_mtok) / 4
