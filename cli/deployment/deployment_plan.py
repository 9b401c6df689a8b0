"""What a fleet needs in containers: its workers, the keys they use, and the addresses they call."""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fleet_config import SIMULATOR
from providers.public_host import is_public_name
from routing.fleet import Fleet, Provider
from routing.lifecycle import FALLBACK, INGEST, ROUTE

_STOP_MARGIN_S: Final = 30
"""How much longer than the longest call a worker may take to stop, to store the answer and sign off."""
_PORTS: Final = {"http": 80, "https": 443}
_TAKEN: Final = ("api", "feeder", "migrate")
"""The names of the other components."""


@dataclass(frozen=True, slots=True)
class StageWorkers:
    """The worker processes of one stage."""

    stage: str
    name: str
    """The stage as part of a DNS label: lowercase letters, digits and ``-``."""
    calls_providers: bool
    queries_per_replica: int | None = None
    """The queries that one replica works on at a time. None if the number of replicas is fixed."""
    fewest: int = 1
    most: int = 1

    @property
    def counted(self) -> int:
        """The number of queries in one state that a scaler counts at most, because more would not change the result."""
        return (self.queries_per_replica or 0) * self.most


@dataclass(frozen=True, slots=True)
class Egress:
    """The addresses that workers call, for a network policy."""

    public_ports: tuple[int, ...]
    """Ports of hosts with public names. A network policy cannot name hosts, so it allows any public address."""
    internal_ports: tuple[int, ...]
    """Ports of hosts with names in a private network. Any pod of the cluster is allowed."""
    addresses: tuple[tuple[str, int], ...]
    """CIDR and port of hosts that the fleet names by address."""


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """The input of the templates."""

    fleet: str
    workers: tuple[StageWorkers, ...]
    key_variables: tuple[str, ...]
    """The environment variables that contain the providers' keys and proxy logins."""
    stop_grace_s: int
    is_simulated: bool
    """Whether one of its providers is the simulator."""
    egress: Egress

    @property
    def several(self) -> tuple[str, ...]:
        """The names of the components with more than one pod."""
        return (*(each.name for each in self.workers if each.most > 1), "feeder", "api")

    @classmethod
    def of(cls, fleet: Fleet) -> "DeploymentPlan":
        """Return the plan of ``fleet``. Providers without a model are ignored."""
        used = {model.provider for model in fleet.models.values()}
        providers = [provider for name, provider in fleet.providers.items() if name in used]
        variables = {name for each in providers for name in (each.api_key_env, each.proxy_login_env) if name}
        return cls(
            fleet=fleet.name,
            workers=tuple(_workers(fleet)),
            key_variables=tuple(sorted(variables)),
            stop_grace_s=round(max(each.deadline_s for each in providers)) + _STOP_MARGIN_S,
            is_simulated=any(each.base_url.startswith(SIMULATOR) for each in providers),
            egress=_egress(providers),
        )


def _workers(fleet: Fleet) -> Iterator[StageWorkers]:
    names = _dns_names([ROUTE, *fleet.tiers, FALLBACK, INGEST])
    yield StageWorkers(ROUTE, names[ROUTE], calls_providers=True, queries_per_replica=4000, most=4)
    for name, tier in fleet.tiers.items():
        is_beside = tier.name not in fleet.ladder
        yield StageWorkers(
            name,
            names[name],
            calls_providers=True,
            queries_per_replica=16 * tier.concurrency,
            fewest=0 if is_beside else 1,
            most=10 if is_beside else 20,
        )
    yield StageWorkers(FALLBACK, names[FALLBACK], calls_providers=False, fewest=2, most=2)
    yield StageWorkers(INGEST, names[INGEST], calls_providers=False)


def _dns_names(stages: Iterable[str]) -> Mapping[str, str]:
    """Return each stage as a part of a DNS label, which cannot contain ``_``. Duplicates get a number."""
    names: dict[str, str] = {}
    used = Counter(_TAKEN)
    for stage in sorted(stages, key=lambda stage: "_" in stage):
        plain = stage.replace("_", "-").strip("-")
        used[plain] += 1
        names[stage] = plain if used[plain] == 1 else f"{plain}-{used[plain]}"
    return names


def _egress(providers: Iterable[Provider]) -> Egress:
    public: set[int] = set()
    internal: set[int] = set()
    addresses: set[tuple[str, int]] = set()
    for url in (_called(provider) for provider in providers):
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        if parts.hostname is None or port is None:
            continue  # the simulator's
        try:
            addresses.add((str(ipaddress.ip_network(parts.hostname)), port))
        except ValueError:
            (public if is_public_name(parts.hostname) else internal).add(port)
    return Egress(tuple(sorted(public)), tuple(sorted(internal)), tuple(sorted(addresses)))


def _called(provider: Provider) -> str:
    """Return the URL that a worker connects to: the proxy's if the fleet names one."""
    return provider.base_url if provider.proxy is None or provider.proxy == "env" else provider.proxy
