"""The package `pointsman-client` in a fresh venv, and its recipes, against a whole running system.

The venv is filled from the package index; without one these tests are skipped, and say so.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kept_venv import NoIndex, kept_python, pip_install
from routing.fleet import Fleet
from settings import ROOT, Settings
from workers.local_stack import LocalStack

pytestmark = pytest.mark.long
CLIENT = ROOT / "client"
RECIPES = CLIENT / "recipes"
ROLES = [("route", "small", "medium", "large", "special", "fallback", "ingest"), ("feeder",)]
APPLICATION = {
    # What FastAPI's and Django's tutorials make: top-level names that the service has too.
    "api/__init__.py": 'NAME = "the application\'s own api"\n',
    "settings.py": 'SECRET = "the application\'s own settings"\n',
    "db/__init__.py": "",
    "tasks.py": "",
}
PROOF = """
import api, db, settings, tasks
assert api.NAME.startswith("the application") and settings.SECRET.startswith("the application")
"""


@pytest.fixture(scope="module")
def url(shipped_fleet: Fleet) -> Iterator[str]:
    """A running service with one worker for all stages."""
    with tempfile.TemporaryDirectory(prefix="pointsman-client-") as place:
        Path(place).chmod(0o711)  # Postgres is another user
        settings = Settings.load({"POINTSMAN_HOME": f"{place}/home"})
        with LocalStack(settings, shipped_fleet, roles=ROLES, api=True) as running:
            yield running.urls["api"]
            running.check()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a venv with the client, as its wheel installs it, what it needs, and pandas."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CLIENT, place / "client")  # a build leaves files beside its sources
    needs = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", place, place / "client"], check=True, capture_output=True, timeout=300)
    (wheel,) = place.glob("*.whl")
    try:
        python = kept_python("client", *needs, "pandas")
    except NoIndex as error:
        say_and_skip(f"THE CLIENT'S PACKAGE WAS NOT RUN: {error}")
    pip_install(python, "--force-reinstall", "--no-deps", "--no-index", str(wheel))
    return python


def say_and_skip(words: str) -> None:
    """A test that did not run is not to be taken for one that passed."""
    print(f"\n{words}", file=sys.__stderr__)
    pytest.skip(words)


def run(python: Path, code: str, *, url: str, where: Path) -> str:
    environ = {"PATH": os.environ["PATH"], "POINTSMAN_BASE_URL": url}
    ran = subprocess.run([python, "-c", code], cwd=where, env=environ, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def application(tmp_path: Path) -> Path:
    for name, content in APPLICATION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_readme_runs_as_it_stands_beside_an_application(fresh: Path, url: str, application: Path) -> None:
    first, second = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.S)
    answers = run(fresh, first + PROOF, url=url, where=application).splitlines()
    assert [line.split("?")[0] for line in answers] == [
        "What is 2 + 2",
        "What is the capital of France",
        "Which planet is the largest",
    ]
    assert all(re.search(r"\? .+ \[(small|medium|large), \$0\.0\d+]$", line) for line in answers), answers
    later = run(fresh, second + PROOF, url=url, where=application)
    assert re.search(r"^T-1 (billing|bug) \w+ ", later, re.M), later


def test_the_package_installs_nothing_but_itself(fresh: Path) -> None:
    names = 'from importlib.metadata import files; print(*{f.parts[0] for f in files("pointsman-client")})'
    installed = subprocess.run([fresh, "-c", names], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in installed if not name.endswith(".dist-info")} == {"pointsman_client"}


def test_the_notebook_runs(fresh: Path, url: str, tmp_path: Path) -> None:
    cells = json.loads((RECIPES / "notebook.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shown = run(fresh, f"{code}\nprint(labeled.to_csv())", url=url, where=tmp_path)
    assert re.search(r"^T-2,The app crashes.,(billing|bug),\w+,", shown, re.M), shown


# Recipes. Where the orchestrator is not installed, its decorators are stood in for by ones that only call.


def decorator(*given: Any, **options: Any) -> Any:
    """A decorator, bare or with options, that changes nothing."""
    return given[0] if given and callable(given[0]) else lambda function: function


class DagsterContext:
    """What the recipe uses of Dagster's."""

    run_id = "run-1"
    log = types.SimpleNamespace(info=lambda words: None)

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def add_output_metadata(self, metadata: dict[str, Any]) -> None:
        self.metadata |= metadata


def airflow_task(**options: Any) -> Any:
    """Airflow gives a task its day."""
    return lambda function: lambda: function(ds="2026-11-29")


STUBS = {
    "airflow": types.SimpleNamespace(dag=decorator, task=airflow_task),
    "dagster": types.SimpleNamespace(asset=decorator, AssetExecutionContext=DagsterContext),
    "prefect": types.SimpleNamespace(flow=decorator, task=decorator),
}


def run_recipe(orchestrator: str, *, is_stub: bool) -> Any:
    """What its task returned."""
    (file,) = RECIPES.glob(f"{orchestrator}_*.py")
    module: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(file.read_text(), file.name, "exec"), module)
    match orchestrator:
        case "airflow":
            return module["label_tickets"]() if is_stub else module["label_tickets"]().test()
        case "dagster" if is_stub:
            context = DagsterContext()
            labels = module["ticket_labels"](context, module["tickets"]())
            assert context.metadata["cost_usd"] > 0
            return labels
        case "dagster":
            made = module["dagster"].materialize([module["tickets"], module["ticket_labels"]])
            return made.output_for_node("ticket_labels")
        case _:
            return module["label_tickets"]("2026-11-29")


@pytest.mark.parametrize("orchestrator", STUBS)
def test_a_recipe_that_is_run_again_labels_the_tickets_once(
    orchestrator: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_BASE_URL", url)
    is_stub = importlib.util.find_spec(orchestrator) is None
    if is_stub:
        for name in (orchestrator, f"{orchestrator}.sdk"):
            monkeypatch.setitem(sys.modules, name, STUBS[orchestrator])  # type: ignore[arg-type]
    first, again = run_recipe(orchestrator, is_stub=is_stub), run_recipe(orchestrator, is_stub=is_stub)
    assert first == again
    if isinstance(first, dict):  # Airflow keeps what its tasks return
        assert first.keys() == {"T-1", "T-2"}
        assert set(first.values()) <= {"billing", "bug"}
    if is_stub:
        say_and_skip(f"{orchestrator.upper()} ITSELF WAS NOT RUN: its recipe ran against a stub of its decorators")
