"""The rendered files: of one mind with the fleet, whatever its tiers are called, and valid objects."""

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from cli.deployment.deployment_plan import DeploymentPlan
from cli.deployment.rendering import render_compose, render_kubernetes
from cli.main import app
from fleet_config import load_fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import ROOT

REAL = "examples/fleets/openai-anthropic-google.toml"
IMAGE = "registry.example.com/pointsman:0.1.0"
KEDA_CRDS = os.environ.get("KEDA_CRDS", "")
ODD_FLEET = """
[fleet]
name = 'odd: "${x}" # fleet'
[timing]
lease_s = 660
[providers.near]
kind = "openai"
base_url = "http://vllm:8000/v1"
api_key_env = "NEAR_KEY"
deadline_s = 600
[providers.numbered]
kind = "openai"
base_url = "http://10.1.2.3:8001/v1"
[providers.far]
kind = "openai"
base_url = "https://api.example.com/v1"
proxy = "http://egress.example.com:3128"
proxy_login_env = "EGRESS_LOGIN"
[tiers.api]
concurrency = 3
escalates_to = "two_parts"
[tiers.two-parts]
concurrency = 1
[tiers.two_parts]
concurrency = 2
"""
MODEL = """
[models.{name}]
provider = "{provider}"
tier = "{tier}"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 1.0 }}
context_tokens = 10000
"""


def _record(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


COUNT, NAME = {"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}
META = _record("name", name=NAME)
# What of KEDA's resources (https://keda.sh/docs/latest/reference/scaledobject-spec/) the manifests may use.
KEDA = {
    "ScaledObject": _record(
        *("scaleTargetRef", "triggers"),
        scaleTargetRef=META,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        fallback=_record("failureThreshold", "replicas", failureThreshold=COUNT, replicas=COUNT),
        advanced=_record(horizontalPodAutoscalerConfig=_record(behavior={"type": "object"})),
        triggers={
            "type": "array",
            "items": _record(
                *("type", "metadata"),
                type={"const": "postgresql"},
                metricType={"enum": ["AverageValue", "Value"]},
                authenticationRef=META,
                metadata=_record("query", "targetQueryValue", query=NAME, targetQueryValue=NAME),
            ),
        },
    ),
    "TriggerAuthentication": _record(
        secretTargetRef={
            "type": "array",
            "items": _record("parameter", "name", "key", parameter=NAME, name=NAME, key=NAME),
        }
    ),
}


@pytest.fixture
def odd_fleet(tmp_path: Path) -> Path:
    path = tmp_path / "odd fleet.toml"
    models = [("m1", "near", "api"), ("m2", "numbered", "two-parts"), ("m3", "far", "two_parts")]
    text = ODD_FLEET + "".join(MODEL.format(name=name, provider=at, tier=tier) for name, at, tier in models)
    path.write_text(text)
    return path


def _plan(path: Path) -> DeploymentPlan:
    return DeploymentPlan.of(load_fleet(path, {}))


def _objects(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


def test_what_is_committed_is_what_the_shipped_fleets_render() -> None:
    """After a change of a template or a fleet: the two commands that stand at the top of the rendered files."""
    plan = _plan(ROOT / "fleet.toml")
    assert (ROOT / "docker-compose.yml").read_text() == render_compose(plan, fleet_file="fleet.toml")
    rendered = render_kubernetes(_plan(ROOT / REAL), fleet_file=REAL, image=IMAGE)
    committed = {path.name: path.read_text() for path in (ROOT / "deploy" / "kubernetes").iterdir()}
    assert committed == rendered


@pytest.mark.parametrize("example", [path.name for path in sorted((ROOT / "examples" / "fleets").glob("*.toml"))])
def test_every_example_is_rendered(example: str) -> None:
    plan = _plan(ROOT / "examples" / "fleets" / example)
    assert yaml.safe_load(render_compose(plan, fleet_file=example))["services"]
    _check(_objects(render_kubernetes(plan, fleet_file=example, image=IMAGE))[-4:])


def test_tiers_of_any_name_get_a_service_and_a_deployment_of_their_own(odd_fleet: Path) -> None:
    plan = _plan(odd_fleet)
    whole = yaml.safe_load(render_compose(plan, fleet_file=str(odd_fleet)))
    services = whole["services"]
    served = {
        name: service["command"][3]
        for name, service in services.items()
        if service.get("command", [])[:3] == ["python", "-m", "workers"]
    }
    assert sorted(served.values()) == sorted([ROUTE, "api", "two-parts", "two_parts", FALLBACK, INGEST, "feeder"])
    assert served["worker-two-parts"] == "two-parts"
    assert served["worker-two-parts-2"] == "two_parts"
    assert "simulator" not in services
    assert whole["configs"]["fleet"] == {"file": str(odd_fleet)}
    assert services["worker-route"]["stop_grace_period"] == "630s"
    assert services["worker-route"]["environment"]["NEAR_KEY_FILE"] == "/run/secrets/NEAR_KEY"
    assert {"NEAR_KEY", "EGRESS_LOGIN"} <= set(services["worker-api-2"]["secrets"])
    assert not {"NEAR_KEY", "EGRESS_LOGIN"} & set(services["worker-fallback"]["secrets"])

    objects = _objects(render_kubernetes(plan, fleet_file=str(odd_fleet), image=IMAGE))
    _check(objects)
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Deployment"]
    assert len(set(names)) == len(names) == 8
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)


def test_the_overlay_changes_what_is_there() -> None:
    objects = _objects(render_kubernetes(_plan(ROOT / REAL), fleet_file=REAL, image=IMAGE))
    found = {(each["kind"], each.get("metadata", {}).get("name")): each for each in objects}
    overlay = yaml.safe_load((ROOT / "deploy" / "kubernetes-overlay" / "kustomization.yaml").read_text())
    for patch in overlay["patches"]:
        changed: Any = found[patch["target"]["kind"], patch["target"]["name"]]
        for operation in yaml.safe_load(patch["patch"]):
            *parents, last = operation["path"].strip("/").split("/")
            place = changed
            for part in parents:
                place = place[int(part)] if isinstance(place, list) else place[part]
            assert (last in place) == (operation["op"] == "replace")
            if patch["target"]["kind"] == "NetworkPolicy":
                assert 5432 in [port["port"] for port in place["ports"]]


def test_only_what_calls_providers_reaches_them(odd_fleet: Path) -> None:
    objects = _objects(render_kubernetes(_plan(odd_fleet), fleet_file="f", image=IMAGE))
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    providers = policies["pointsman-providers"]
    (only,) = providers["podSelector"]["matchExpressions"]
    assert set(only["values"]) == {"route", "api-2", "two-parts", "two-parts-2"}
    public, internal, by_address = providers["egress"]
    assert [port["port"] for port in public["ports"]] == [3128]  # the proxy; the provider behind it is not called
    assert "169.254.0.0/16" in public["to"][0]["ipBlock"]["except"]
    assert (internal["to"], internal["ports"][0]["port"]) == ([{"namespaceSelector": {}}], 8000)
    assert (by_address["to"], by_address["ports"][0]["port"]) == ([{"ipBlock": {"cidr": "10.1.2.3/32"}}], 8001)
    everybody = policies["pointsman"]
    assert everybody["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everybody
    allowed = {port["port"] for rule in everybody["egress"] for port in rule["ports"]}
    assert not allowed & {80, 443, 3128, 8000}


def _check(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        match each["apiVersion"]:
            case "keda.sh/v1alpha1":
                jsonschema.validate(each["spec"], KEDA[each["kind"]])
                if each["kind"] == "ScaledObject":
                    behavior = each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
                    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
                    spec = {"scaleTargetRef": target, "maxReplicas": 1, "behavior": behavior}
                    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec}
                    kubernetes_validate.validate(scaler, "1.34", strict=True)
            case "kustomize.config.k8s.io/v1beta1":
                assert each["kind"] == "Kustomization"
            case _:
                kubernetes_validate.validate(each, "1.34", strict=True)


def test_every_object_is_valid_and_a_wrong_one_is_not() -> None:
    objects = _objects(render_kubernetes(_plan(ROOT / REAL), fleet_file=REAL, image=IMAGE))
    _check(objects)
    broken = next(each for each in objects if each["kind"] == "NetworkPolicy")
    broken["spec"]["ingres"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        _check([broken])
    scaled = next(each for each in objects if each["kind"] == "ScaledObject")
    scaled["spec"]["minReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError):
        _check([scaled])


def _refuses_unknown_fields(schema: Any) -> Any:
    """A schema of a custom resource definition, read as strict field validation of the API server reads it."""
    if isinstance(schema, list):
        return [_refuses_unknown_fields(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _refuses_unknown_fields(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.skipif(not KEDA_CRDS, reason="NOTHING WAS VALIDATED AGAINST KEDA'S OWN DEFINITIONS: .ci/keda fetches them")
def test_keda_accepts_its_objects_by_its_own_definitions(odd_fleet: Path) -> None:
    schemas = {}
    for path in Path(KEDA_CRDS).glob("keda.sh_*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        (version,) = definition["versions"]
        schemas[definition["names"]["kind"]] = _refuses_unknown_fields(version["schema"]["openAPIV3Schema"])
    fleets = [ROOT / REAL, odd_fleet, *(ROOT / "examples" / "fleets").glob("*.toml")]
    scaled = [
        each
        for fleet in fleets
        for each in _objects(render_kubernetes(_plan(fleet), fleet_file="f", image=IMAGE))
        if each["apiVersion"] == "keda.sh/v1alpha1"
    ]
    assert {each["kind"] for each in scaled} == schemas.keys()
    for each in scaled:
        jsonschema.validate(each, schemas[each["kind"]])
    scaled[-1]["spec"]["minReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        jsonschema.validate(scaled[-1], schemas[scaled[-1]["kind"]])


def test_the_commands_write_files_and_refuse_what_they_cannot_use(odd_fleet: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    compose, folder = tmp_path / "compose.yml", tmp_path / "k8s"
    fleet = ["--fleet", str(odd_fleet)]
    assert runner.invoke(app, ["render", "compose", *fleet, "-o", str(compose)]).exit_code == 0
    assert compose.read_text() == render_compose(_plan(odd_fleet), fleet_file=str(odd_fleet))
    assert (
        runner.invoke(app, ["render", "kubernetes", *fleet, "-o", str(folder), "--image", "own:5000/p:v1"]).exit_code
        == 0
    )
    image = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
    assert image == [{"name": "pointsman", "newName": "own:5000/p", "newTag": "v1"}]
    for arguments in (["--image", "own:5000/p"], ["--image", 'x:1"'], ["--fleet", str(tmp_path / "none.toml")]):
        refused = runner.invoke(app, ["render", "kubernetes", *fleet, "-o", str(tmp_path / "no"), *arguments])
        assert refused.exception is not None
        assert not (tmp_path / "no").exists()
