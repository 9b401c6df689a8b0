"""Rendering of docker-compose.yml and the Kubernetes manifests from a deployment plan."""

from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from cli.deployment.deployment_plan import DeploymentPlan

_MANIFESTS: Final = ("config", "migrate", "workers", "feeder", "api", "disruption", "keda", "network")
KUSTOMIZATION: Final = "kustomization.yaml"


def render_compose(plan: DeploymentPlan, *, fleet_file: str) -> str:
    """Return the text of docker-compose.yml. ``fleet_file`` is a path relative to the checkout."""
    return _environment().get_template("docker-compose.yml.jinja").render(plan=plan, fleet_file=fleet_file)


def render_kubernetes(plan: DeploymentPlan, *, fleet_file: str, image: str) -> dict[str, str]:
    """Return the texts of the manifests and of the kustomization, by file name. ``image`` is ``NAME:TAG``."""
    rendered = {
        f"{name}.yaml": _environment().get_template(f"kubernetes/{name}.yaml.jinja").render(plan=plan)
        for name in _MANIFESTS
    }
    name, _, tag = image.rpartition(":")
    kustomization = _environment().get_template(f"kubernetes/{KUSTOMIZATION}.jinja")
    rendered[KUSTOMIZATION] = kustomization.render(
        plan=plan, fleet_file=fleet_file, files=list(rendered), image_name=name, image_tag=tag
    )
    return rendered


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701  # YAML, no HTML
        loader=PackageLoader(__package__, "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["compose"] = lambda text: text.replace("$", "$$")
    environment.filters["one_line"] = lambda text: " ".join(text.split())
    return environment
