"""The Kubernetes manifests: sound in form, safe in their defaults, and of one mind with fleet.toml and compose."""

from typing import Any

import pytest
import yaml

from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OBJECTS: list[dict[str, Any]] = [
    each
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for each in yaml.safe_load_all(path.read_text())
    if each
]
BY_KIND: dict[str, dict[str, dict[str, Any]]] = {}
for _each in OBJECTS:
    BY_KIND.setdefault(_each["kind"], {})[_each["metadata"]["name"]] = _each
DEPLOYMENTS = BY_KIND["Deployment"]
PODS = {name: each["spec"]["template"]["spec"] for name, each in {**DEPLOYMENTS, **BY_KIND["Job"]}.items()}


def _workers() -> dict[str, dict[str, Any]]:
    return {
        name: each
        for name, each in DEPLOYMENTS.items()
        if PODS[name]["containers"][0]["command"][:3] == ["python", "-m", "workers"]
    }


def test_every_file_is_applied_and_no_object_is_there_twice() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    assert len(OBJECTS) == sum(map(len, BY_KIND.values()))


def test_every_stage_of_the_fleet_has_one_deployment(shipped_fleet: Fleet) -> None:
    served = sorted(role for name in _workers() for role in PODS[name]["containers"][0]["command"][3:])
    assert served == sorted([ROUTE, *shipped_fleet.tiers, FALLBACK, INGEST, "feeder"])
    assert {f"pointsman-{stage}" for stage in (ROUTE, *shipped_fleet.tiers)} == BY_KIND["ScaledObject"].keys()


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_a_deployment_selects_its_own_pods_and_no_others(name: str) -> None:
    spec = DEPLOYMENTS[name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert [n for n, each in DEPLOYMENTS.items() if each["spec"]["template"]["metadata"]["labels"] == labels] == [name]


@pytest.mark.parametrize("name", sorted(PODS))
def test_every_container_runs_as_nobody_special_with_nothing_to_write_to(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # the image's: tests/unit/deploy/test_compose.py
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", sorted(PODS))
def test_what_is_mounted_is_there(name: str) -> None:
    pod = PODS[name]
    volumes = {each["name"] for each in pod.get("volumes", ())}
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        for source in container.get("envFrom", ()):
            assert source.keys() == {"configMapRef"}
            (reference,) = source.values()
            assert reference["name"] == "pointsman"  # the ConfigMap: secrets are files


def test_a_worker_has_the_time_to_finish_its_longest_call(shipped_fleet: Fleet) -> None:
    longest_s = max(provider.deadline_s for provider in shipped_fleet.providers.values())
    for name in _workers().keys() - {"pointsman-feeder"}:
        assert PODS[name]["terminationGracePeriodSeconds"] > longest_s


def _pods_with(secret: str) -> set[str]:
    """The pods that mount it, for others to read neither in the pod nor in its environment."""
    return {
        name
        for name, pod in PODS.items()
        for volume in pod["volumes"]
        if volume.get("secret") == {"secretName": secret, "defaultMode": 0o440}
    }


def test_only_what_calls_providers_sees_their_keys_and_only_the_migration_the_owners_login(
    shipped_fleet: Fleet,
) -> None:
    assert _pods_with("pointsman-providers") == {f"pointsman-{stage}" for stage in (ROUTE, *shipped_fleet.tiers)}
    assert _pods_with("pointsman-owner") == {"pointsman-migrate"}
    assert _pods_with("pointsman") == DEPLOYMENTS.keys()


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_every_pod_waits_for_the_schema_and_tells_when_it_is_ready(name: str) -> None:
    pod = PODS[name]
    assert pod["initContainers"][0]["command"] == ["python", "-m", "workers.schema_check"]
    (container,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    if "ports" in container:
        ports = {port["name"] for port in container["ports"]}
        assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} <= ports
    else:
        ready = BY_KIND["ConfigMap"]["pointsman"]["data"]["POINTSMAN_READY_FILE"]
        assert container["readinessProbe"]["exec"]["command"] == ["test", "-f", ready]


def test_every_component_that_has_several_pods_has_a_disruption_budget() -> None:
    budgets = BY_KIND["PodDisruptionBudget"]
    several = {name for name, each in DEPLOYMENTS.items() if each["spec"].get("replicas", 2) > 1}
    assert budgets.keys() == several
    for name, budget in budgets.items():
        assert budget["spec"]["selector"] == DEPLOYMENTS[name]["spec"]["selector"]


def test_what_keda_scales_has_no_replicas_of_its_own() -> None:
    for each in BY_KIND["ScaledObject"].values():
        target = DEPLOYMENTS[each["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]
        assert each["spec"]["minReplicaCount"] < each["spec"]["maxReplicaCount"]
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in BY_KIND["ScaledObject"].values()}
    assert {name for name, each in DEPLOYMENTS.items() if "replicas" not in each["spec"]} == scaled


def test_no_secret_stands_in_a_manifest() -> None:
    assert "Secret" not in BY_KIND
    for path in FOLDER.glob("*.yaml"):
        assert "password" not in path.read_text().lower()
