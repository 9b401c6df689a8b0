"""The arrow of dependency: who may import whom, and that nobody else does."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What each package may import of ours, besides itself.
ALLOWED = {
    "routing": frozenset[str](),
    "simulator": frozenset[str](),
    "redis_client": frozenset[str](),
    "endpoints": frozenset[str](),
    "providers": frozenset({"routing", "redis_client"}),
    "db": frozenset({"routing", "endpoints"}),
    "fleet_config": frozenset({"routing", "providers"}),
    "settings": frozenset({"routing", "fleet_config"}),
    "evaluation": frozenset({"routing", "settings"}),
    "report": frozenset({"routing", "db"}),
    "telemetry": frozenset({"routing", "providers", "db", "settings"}),
    "trained_routers": frozenset({"routing", "db", "evaluation", "settings"}),
    "submission": frozenset(
        {"routing", "endpoints", "providers", "db", "evaluation", "settings", "telemetry", "trained_routers"}
    ),
}
ALLOWED["tasks"] = frozenset(ALLOWED) - {"simulator", "fleet_config", "report"}
ALLOWED["workers"] = ALLOWED["tasks"] | {"tasks", "fleet_config"}
ALLOWED["cli"] = ALLOWED["workers"] | {"workers", "report"}
ALLOWED["api"] = ALLOWED["cli"]
OURS = frozenset(ALLOWED)
FREE = {"tests", "benchmarks"}
"""May import whatever they like; nobody imports them."""


def modules_of(package: str) -> list[Path]:
    single = ROOT / f"{package}.py"
    return [single] if single.exists() else sorted((ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it: ``module`` or ``module.name``."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def offences(package: str, forbidden: frozenset[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(package)
        for name in imports_of(path)
        if top(name) in forbidden
    ]


def test_every_package_of_ours_has_a_rule() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {path.stem for path in ROOT.glob("*.py")}
    assert found - FREE == OURS


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_those_of_ours_that_it_may(package: str) -> None:
    assert modules_of(package)
    assert offences(package, (OURS - ALLOWED[package] - {package}) | FREE) == []


PURE = {"jsonschema_rs", "numpy", "orjson", "re2", "scipy"}
"""Functions of their arguments alone: they check patterns and schemas of users in linear time, and plan a deadline."""


def test_routing_imports_nothing_but_the_standard_library_and_pure_functions() -> None:
    known = sys.stdlib_module_names | {"routing"} | PURE
    assert [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of("routing")
        for name in imports_of(path)
        if top(name) not in known
    ] == []


CLIENTS = {
    *(
        "aiohttp",
        "fsspec",
        "h2",
        "http.client",
        "httpcore",
        "httptools",
        "httpx",
        "httpx_aiohttp",
        "pyqwest",
        "requests",
    ),
    *("pyarrow.fs", "urllib.request", "urllib3"),
}
TABLES_FROM_AFAR = "cli/input_files.py"
"""Reads the tables at the addresses that a user types, by fsspec and pyarrow."""
HTTPX_AS_WORDS = {
    "providers/transport/response_body.py",
    "providers/client.py",
    "providers/provider_connection.py",
    "providers/batch_api/batch_http.py",
}
"""Make httpx' requests and read its responses; what sends them comes from the factory."""

CONNECTING = frozenset(["create_connection", "open_connection", "open_unix_connection", "sock_connect"])
"""Calls by which a client opens a socket, whoever has them."""

SOCKETS = {
    "api/http_protocol.py": "constants, for what the kernel keeps of a response",
    "api/webhook_client.py": "constants, to look a name up",
    "cli/param_types.py": "the host's name",
    "tasks/celery_app.py": "constants, for what the kernel sends on an idle connection",
    "tasks/worker_context.py": "the host's name",
    "workers/embedded/redis.py": "our own server's, by its path",
    "workers/fork_server.py": "pairs, between a supervisor and what forks its processes",
    "workers/data_dir.py": "whether a path is too long for one",
    "workers/peer_user.py": "to ask the kernel about one",
    "workers/port_allocator.py": "to hold a port that is free",
}


@pytest.mark.parametrize("package", sorted(OURS - {"simulator"}))
def test_only_the_transports_speak_http_or_open_connections(package: str) -> None:
    found = []
    for path in modules_of(package):
        file = str(path.relative_to(ROOT))
        if file.startswith("providers/transport/"):
            continue
        allowed = {"httpx"} if file in HTTPX_AS_WORDS else set()
        if file == TABLES_FROM_AFAR:
            allowed = {"fsspec", "pyarrow.fs"}
        for name in imports_of(path):
            if any(name == client or name.startswith(f"{client}.") for client in CLIENTS - allowed):
                found.append(f"{file} imports {name}")
            if top(name) == "socket" and file not in SOCKETS:
                found.append(f"{file} imports socket")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in CONNECTING:
                found.append(f"{file}:{node.lineno} calls {node.attr}")
    assert found == []


def test_every_socket_that_is_excused_is_there() -> None:
    assert [file for file in SOCKETS if not any(top(name) == "socket" for name in imports_of(ROOT / file))] == []


def test_httpx_is_only_words_outside_of_the_transports() -> None:
    """No client and no transport of httpx' own is made there."""
    words = {
        *("ByteStream", "AsyncByteStream", "Request", "Response", "URL"),
        *("AsyncBaseTransport", "RemoteProtocolError", "InvalidURL"),
    }
    for file in HTTPX_AS_WORDS:
        used = {
            node.attr
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "httpx"
        }
        assert used <= words, file


@pytest.mark.parametrize("package", sorted(OURS - {"db"}))
def test_only_db_builds_statements(package: str) -> None:
    # Its engine and rows may be held elsewhere, and its errors caught.
    words = {"text", "select", "insert", "update", "delete", "func", "literal_column", "Table", "MetaData"}
    forbidden = {f"sqlalchemy.{word}" for word in words} | {"sqlalchemy", "psycopg.sql", "psycopg.connect", "psycopg"}
    assert [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(package)
        for name in imports_of(path)
        if name in forbidden
    ] == []


@pytest.mark.parametrize("package", sorted(OURS))
def test_only_one_module_knows_opentelemetry(package: str) -> None:
    found = offences(package, frozenset({"opentelemetry"}))
    assert {told.partition(" ")[0] for told in found} <= {"telemetry/spans.py"}


def test_fleet_config_needs_of_providers_only_their_prices() -> None:
    used = {name for path in modules_of("fleet_config") for name in imports_of(path) if top(name) == "providers"}
    assert all(name.startswith("providers.list_prices.") for name in used)


def test_migrations_stay_as_they_were_whatever_we_change() -> None:
    versions = sorted((ROOT / "migrations" / "versions").glob("*.py"))
    assert versions
    assert [name for path in versions for name in imports_of(path) if top(name) in OURS] == []


def test_pyproject_lists_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"] + project["tool"]["setuptools"]["py-modules"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for name in OURS for path in (ROOT / name).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(found | {"redis_client", "settings"})
