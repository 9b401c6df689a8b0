"""What a fleet's tables must agree on, beyond the shape of each: one generator of problems per question."""

import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Final
from urllib.parse import urlsplit

from fleet_config.fleet_errors import Problem, choice, key, looks_secret
from fleet_config.fleet_schema import ModelTable, ProviderTable, RouterTable, TierTable, TimingTable
from routing.fleet import Fleet, Provider
from routing.lifecycle import FALLBACK, INGEST, ROUTE

SIMULATOR: Final = "simulator:"
"""A ``base_url`` that begins so is a path of the simulator, which Pointsman starts itself."""

_RESERVED: Final = frozenset({ROUTE, FALLBACK, INGEST, "auto"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110, 5.6.2."""
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding"})
"""Said twice, two readers could part the requests of a connection differently."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def provider_problems(name: str, provider: ProviderTable, *, simulated: bool) -> Iterator[Problem]:
    """Address, key and headers of one provider."""
    yield from _address_problems(name, provider.base_url, simulated=simulated)
    variable = provider.api_key_env
    if variable is not None and looks_secret(variable):
        yield Problem(
            key("providers", name, "api_key_env"),
            "looks like a key itself, and a key must not stand in a file.",
            "Write the NAME of an environment variable, put the key there, and revoke this one if it was ever shared.",
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
                    "looks like a key, and a key must not stand in a file.",
                    "Remove it and name the key's environment variable in api_key_env.",
                )
    yield from _header_problems(name, provider.headers)
    yield from _connection_problems(name, provider)


def _connection_problems(name: str, provider: ProviderTable) -> Iterator[Problem]:
    """Proxy and certificates, as far as the file alone can tell."""
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
                'Set proxy = "http://host:port", or leave this out: with "env", HTTPS_PROXY holds the login.',
            )
    for item in ("ca_bundle", "client_certificate", "client_key"):
        path = getattr(provider, item)
        if path is not None and not PurePath(path).is_absolute():
            yield Problem(
                key("providers", name, item),
                "is not an absolute path.",
                "Write the whole path, as the workers see it: they may run in another folder.",
            )
    if provider.max_connections is not None and provider.http2 is not False:
        yield Problem(
            key("providers", name, "max_connections"),
            "is for HTTP/1.1; by HTTP/2 the calls share a connection.",
            "Leave it out, or set http2 = false. The calls in flight are limited by the tiers' concurrency.",
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
    """What HTTP cannot carry, or what would part the requests of a connection otherwise than we do."""
    for header, value in headers.items():
        where = key("providers", name, "headers", header)
        if not _TOKEN.fullmatch(header):
            yield Problem(where, "is no name that a header can have.", "Use letters, digits and dashes.")
        elif header.lower() in _FRAMING:
            yield Problem(where, "is said by each request itself.", "Leave it out.")
        if not (value.isascii() and value.isprintable()):
            yield Problem(
                where, "holds what no header can carry.", "Use visible ASCII characters and spaces, on one line."
            )


def _address_problems(name: str, base_url: str, *, simulated: bool) -> Iterator[Problem]:
    where = key("providers", name, "base_url")
    if base_url.startswith(SIMULATOR):
        if not base_url.removeprefix(SIMULATOR).startswith("/"):
            yield Problem(
                where, "names no path of the simulator.", "Write simulator:/openai/v1, or another protocol's path."
            )
        if not simulated:
            yield Problem(
                where,
                "is the simulator's, in a fleet that is not marked as simulated.",
                "Set simulated = true under [fleet], so that every report says so.",
            )
        return
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        yield Problem(where, "is not an address.", "Write https://host/path.")
        return
    if parts.scheme not in ("http", "https") or not host:
        yield Problem(where, "is not an http or https address.", "Write https://host/path, or simulator:/openai/v1.")
        return
    if parts.username or parts.password:
        yield Problem(
            where, "holds credentials.", "Remove them and name the key's environment variable in api_key_env."
        )
    if parts.query or parts.fragment:
        yield Problem(where, "has a query or a fragment.", 'Put query parameters under query = { name = "value" }.')
    if simulated and host not in _LOOPBACK:
        yield Problem(
            where,
            "is a real provider's, in a fleet that is marked as simulated.",
            "Set simulated = false under [fleet], or point it at the simulator.",
        )


def model_problems(
    name: str, model: ModelTable, *, providers: Collection[str], tiers: Collection[str]
) -> Iterator[Problem]:
    """Whether a model's provider and tier exist, and its limits agree."""
    if model.provider not in providers:
        yield Problem(
            key("models", name, "provider"), "is no provider of this fleet.", choice(model.provider, providers)
        )
    if model.tier not in tiers:
        yield Problem(key("models", name, "tier"), "is no tier of this fleet.", choice(model.tier, tiers))
    if model.max_output_tokens > model.context_tokens:
        yield Problem(
            key("models", name, "max_output_tokens"),
            "is more than context_tokens.",
            "Lower it, or raise context_tokens.",
        )
    if name in tiers or name == "auto":
        yield Problem(
            key("models", name),
            "has the name of a tier, or auto; a batch could not ask for it.",
            'Rename it; its name on the wire can stay as model = "…".',
        )


def tier_problems(name: str, tier: TierTable, *, tiers: Collection[str], served: Collection[str]) -> Iterator[Problem]:
    """A tier's name, its next rung, and whether any model serves it."""
    if name in _RESERVED:
        yield Problem(key("tiers", name), "is a name of Pointsman's own.", "Call the tier something else.")
    elif not _NAME.fullmatch(name):
        yield Problem(
            key("tiers", name),
            "is no name for a tier.",
            "Use at most 40 small letters, digits, - and _, a letter first.",
        )
    if tier.queue is not None and (tier.queue in _RESERVED or not _NAME.fullmatch(tier.queue)):
        yield Problem(
            key("tiers", name, "queue"), "is no name for a tier's queue.", f"Leave it out; it is then {name}."
        )
    if tier.escalates_to is not None and tier.escalates_to not in tiers:
        yield Problem(key("tiers", name, "escalates_to"), "is no tier of this fleet.", choice(tier.escalates_to, tiers))
    if name not in served:
        yield Problem(
            key("tiers", name), "has no model.", f'Give it one, tier = "{name}" in a [models."…"], or remove the tier.'
        )


def ladder_problems(tiers: Mapping[str, TierTable]) -> Iterator[Problem]:
    """Whether escalation ends, and every queue is one tier's."""
    for name in tiers:
        way = _way_up(name, tiers)
        if way[-1] == name and len(way) > 1:
            yield Problem(
                key("tiers", name, "escalates_to"),
                f"leads round in a circle: {' → '.join(way)}.",
                "Leave escalates_to out at the largest tier.",
            )
            return
    queues: dict[str, str] = {}
    for name, tier in tiers.items():
        owner = queues.setdefault(tier.queue or name, name)
        if owner != name:
            yield Problem(key("tiers", name, "queue"), f"is the queue of {owner} too.", "Give each tier its own.")


def _way_up(start: str, tiers: Mapping[str, TierTable]) -> list[str]:
    """The tiers from ``start`` upwards, up to the top or to the first that comes twice."""
    way = [start]
    while (tier := tiers.get(way[-1])) is not None and tier.escalates_to is not None:
        again = tier.escalates_to in way
        way.append(tier.escalates_to)
        if again:
            break
    return way


def router_problems(router: RouterTable, *, models: Collection[str]) -> Iterator[Problem]:
    """Whether the routers that take part are there."""
    if len(set(router.stages)) < len(router.stages):
        yield Problem("router.stages", "names a router twice.", "Name each once.")
    if "llm" in router.stages and router.llm is None:
        yield Problem(
            "router.stages", "has llm, but there is no [router.llm].", 'Add it with model = "…", or leave llm out.'
        )
    if router.llm is not None and router.llm.model not in models:
        yield Problem("router.llm.model", "is no model of this fleet.", choice(router.llm.model, models))


def timing_problems(timing: TimingTable, providers: Mapping[str, ProviderTable]) -> Iterator[Problem]:
    """A lease that ends before a call does would have a second worker repeat, and pay, the call."""
    longest = max(providers, key=lambda name: providers[name].deadline_s, default=None)
    if longest is not None and timing.lease_s <= providers[longest].deadline_s:
        yield Problem(
            "timing.lease_s",
            f"({timing.lease_s:g} s) does not outlast {key('providers', longest, 'deadline_s')} "
            f"({providers[longest].deadline_s:g} s).",
            f"Set it to {providers[longest].deadline_s + 60:g} or more, or shorten that deadline.",
        )


def warnings(fleet: Fleet, environ: Mapping[str, str]) -> Iterator[Problem]:
    """What does not stop anybody, but is likely not meant."""
    yield from _ladder_warnings(fleet)
    for provider in fleet.providers.values():
        if provider.name not in {model.provider for model in fleet.models.values()}:
            yield Problem(key("providers", provider.name), "serves no model.", "Remove it, or give it one.")
            continue
        if provider.api_key_env is not None and not environ.get(provider.api_key_env):
            yield Problem(
                key("providers", provider.name, "api_key_env"),
                f"names {provider.api_key_env}, which is not set here.",
                "Set it where the workers run.",
            )
        yield from _connection_warnings(provider, environ)
        parts = urlsplit(provider.base_url)
        if provider.api_key_env is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            yield Problem(key("providers", provider.name, "base_url"), "sends a key unencrypted.", "Use https.")


def _connection_warnings(provider: Provider, environ: Mapping[str, str]) -> Iterator[Problem]:
    """What cannot be used on this machine; on the workers' it may be otherwise."""
    if provider.proxy_login_env is not None and ":" not in environ.get(provider.proxy_login_env, ""):
        yield Problem(
            key("providers", provider.name, "proxy_login_env"),
            f"names {provider.proxy_login_env}, which does not hold user:password here.",
            "Set it where the workers run.",
        )
    if provider.ca_bundle is not None:
        try:
            ssl.create_default_context(cafile=provider.ca_bundle)
        except OSError as error:
            yield Problem(
                key("providers", provider.name, "ca_bundle"),
                f"cannot be used here: {_why_unusable(error)}.",
                "Give a file of PEM certificates that the workers can read.",
            )
    if provider.client_certificate is not None:
        try:
            ssl.create_default_context().load_cert_chain(provider.client_certificate, provider.client_key)
        except OSError as error:
            yield Problem(
                key("providers", provider.name, "client_certificate"),
                f"cannot be used here: {_why_unusable(error)}.",
                "Give a PEM certificate and, there or in client_key, its key without a passphrase.",
            )


def _why_unusable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "certificate and key do not match" if error.reason == "KEY_VALUES_MISMATCH" else "it is not PEM"
    return (error.strerror or type(error).__name__).lower()


def _ladder_warnings(fleet: Fleet) -> Iterator[Problem]:
    """A rung should cost more than the one below, or escalating would save money."""
    for lower, upper in zip(fleet.ladder, fleet.ladder[1:], strict=False):
        dearest = max(_usd_per_mtok(fleet, name) for name in fleet.tiers[lower].models)
        cheapest = min(_usd_per_mtok(fleet, name) for name in fleet.tiers[upper].models)
        if cheapest < dearest:
            yield Problem(
                key("tiers", upper),
                f"has a model that costs less than one of {lower}, from which queries escalate to it.",
                "Check the prices and the order of the tiers.",
            )


def _usd_per_mtok(fleet: Fleet, model: str) -> float:
    """Price of a million tokens, three parts prompt to one part completion, a usual mix."""
    price = fleet.models[model].price
    return price.multiplier * (3 * price.input_usd_per_mtok + price.output_usd_per_mtok) / 4
