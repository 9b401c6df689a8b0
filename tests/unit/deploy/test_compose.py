"""The container files: sound in form, safe in their defaults, and of one mind with fleet.toml."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from telemetry.tracing import destination

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
WORKERS = {
    name: service for name, service in SERVICES.items() if service.get("command", [])[:3] == ["python", "-m", "workers"]
}


def test_every_stage_of_the_fleet_has_one_worker_service(shipped_fleet: Fleet) -> None:
    served = sorted(role for service in WORKERS.values() for role in service["command"][3:])
    assert served == sorted([ROUTE, *shipped_fleet.tiers, FALLBACK, INGEST, "feeder"])


def test_workers_outlive_the_longest_call_when_they_are_stopped(shipped_fleet: Fleet) -> None:
    longest = max(provider.deadline_s for provider in shipped_fleet.providers.values())
    assert all(int(worker["stop_grace_period"].removesuffix("s")) > longest for worker in WORKERS.values())


def test_no_worker_starts_before_the_schema_is_there() -> None:
    for worker in (*WORKERS.values(), SERVICES["flower"]):
        assert worker["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert worker["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert SERVICES["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))
def test_every_service_that_stays_tells_its_health(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_port_is_open_to_other_machines(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_every_secret_comes_from_the_environment_and_must_be_given() -> None:
    secret = re.compile(r"password|passwd|basic_auth|requirepass|AUTH\b", re.IGNORECASE)
    lines = [line for line in COMPOSE.splitlines() if secret.search(line) and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.search(r"\$\{\w+:\?[^}]+\}", line) or line.strip() == "- --requirepass", line
    assert not re.search(r"sk-[A-Za-z0-9]{8}", COMPOSE)


def test_flower_is_not_there_without_a_password() -> None:
    assert ":?" in SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"]


def test_redis_refuses_rather_than_evicts_a_message() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_what_must_last_lies_in_named_volumes() -> None:
    named = yaml.safe_load(COMPOSE)["volumes"]
    assert all(volume.split(":")[0] in named for service in SERVICES.values() for volume in service.get("volumes", []))
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_images_name_their_version() -> None:
    assert all(re.fullmatch(r"[a-z/-]+:[a-z0-9.-]+", service["image"]) for service in SERVICES.values())
    assert not any(service["image"].endswith(":latest") for service in SERVICES.values())


def test_the_image_runs_as_nobody_special_and_installs_by_hash() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM")) :]
    assert [line for line in final if line.startswith("USER ")] == ["USER 10001"]
    assert any("--require-hashes" in line for line in lines)


def test_what_observes_runs_only_where_it_is_asked_for_and_finds_its_files() -> None:
    whole = yaml.safe_load(COMPOSE)
    observers = {name for name, service in SERVICES.items() if service.get("profiles") == ["observe"]}
    assert observers == {"prometheus", "grafana", "jaeger"}
    assert all("profiles" not in SERVICES[name] for name in SERVICES.keys() - observers)
    for name in observers:
        for config in SERVICES[name].get("configs", []):
            assert (ROOT / whole["configs"][config["source"]]["file"]).is_file()
    assert SERVICES["prometheus"]["secrets"] == ["metrics_key"]
    assert whole["secrets"]["metrics_key"] == {"environment": "POINTSMAN_METRICS_KEY"}


def test_traces_are_off_until_they_are_asked_for_in_every_process_of_ours() -> None:
    ours = [service for name, service in SERVICES.items() if service.get("build") and name != "simulator"]
    assert len(ours) >= len(WORKERS) + 3
    for service in ours:
        environ = service["environment"]
        assert environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
        assert environ["OTEL_EXPORTER_OTLP_HEADERS"] == "${OTEL_EXPORTER_OTLP_HEADERS:-}"
    unset = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in ours[0]["environment"].items()}
    assert destination(unset) is None
    assert destination(unset | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318"}) == "http://jaeger:4318/v1/traces"
    assert "http://jaeger:4318" in (ROOT / "docs" / "tracing.md").read_text()
