"""``pointsman render``: writes the files that run a fleet in containers."""

import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command_errors import UsageError
from cli.console import notice
from cli.deployment.deployment_plan import DeploymentPlan
from cli.open_services import read_settings
from cli.output_files import STDOUT
from cli.param_types import FileOption, FleetOption
from fleet_config import check_fleet

app = typer.Typer()
render = typer.Typer(help="Write the files to run a fleet in containers.", no_args_is_help=True)
app.add_typer(render, name="render")

_IMAGE: Final = re.compile(r"[a-z0-9]+([._:/-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DEFAULT_IMAGE: Final = "registry.example.com/pointsman:0.1.0"

FolderOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="The output directory. It is created if missing, and existing files of the same names are replaced.",
    ),
]
ImageOption = Annotated[str, typer.Option("--image", metavar="NAME:TAG", help="The image that the cluster pulls.")]


@render.command()
def compose(fleet: FleetOption = None, output: FileOption = None) -> None:
    """Write docker-compose.yml for a fleet, with one service per stage, and the keys of its providers as secrets.

    It mounts files of the checkout, so run it there.
    """
    from cli.deployment.rendering import render_compose  # Jinja2, which most commands do without

    path, plan = _plan(fleet)
    text = render_compose(plan, fleet_file=path)
    if output is None or output == STDOUT:
        sys.stdout.write(text)
        return
    _write(output, text)
    notice(f"{output}: {len(plan.workers)} stages of the fleet {plan.fleet}")


@render.command()
def kubernetes(output: FolderOption, fleet: FleetOption = None, image: ImageOption = DEFAULT_IMAGE) -> None:
    """Write the Kubernetes objects for a fleet, and a kustomization.yaml for them."""
    if not _IMAGE.fullmatch(image):
        raise UsageError(
            f"{image!r} is not the name of an image with a tag.", hint=f"Use a name such as {DEFAULT_IMAGE}."
        )
    from cli.deployment.rendering import render_kubernetes

    path, plan = _plan(fleet)
    texts = render_kubernetes(plan, fleet_file=path, image=image)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output} cannot be created: {error.strerror}.", hint="Choose another directory.") from error
    for name, text in texts.items():
        _write(output / name, text)
    notice(f"{output}: {len(texts)} files for the fleet {plan.fleet}")


def _plan(fleet: Path | None) -> tuple[str, DeploymentPlan]:
    """Return the fleet's file as seen from here, and its plan. Raises FleetError."""
    path = read_settings(fleet).fleet_path
    here = Path.cwd()
    # Without the simulator's address: which provider is simulated stays visible.
    plan = DeploymentPlan.of(check_fleet(path, {}).fleet)
    return str(path.relative_to(here) if path.is_relative_to(here) else path), plan


def _write(path: Path, text: str) -> None:
    """Write plain files with the user's umask: they contain no secret, and others may have to read them."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", hint="Choose another directory.") from error
