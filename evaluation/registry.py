"""Which routers there are and which one is promoted: a folder of artefacts with ``registry.json``.

The folder is the truth here; a table of the database can stand behind the same four verbs later.
An artefact is copied in, so that what was promoted stays what it was.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from evaluation.artefact import Artefact, load, read_manifest
from evaluation.faults import RegistryError
from evaluation.router import TrainedPredictor, TrainedScorer, predictor_of, scorer_of
from routing.fleet import Fleet

DEFAULT: Final = "default"
SHIPPED: Final = Path(__file__).parent / "artefacts" / "default"
INDEX: Final = "registry.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered router."""

    name: str
    folder: str
    """Within the registry's folder."""
    digest: str
    added_at: str
    manifest: dict[str, Any] = field(repr=False)


class Registry:
    """The registry in ``home``; the folder is made with the first entry."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def entries(self) -> list[Entry]:
        """The registered routers, oldest first."""
        return [Entry(**entry) for entry in self._read()["routers"]]

    def promoted(self) -> str:
        """The name of the promoted router; ``default`` where none was promoted."""
        history = self._read()["promoted"]
        return str(history[-1]) if history else DEFAULT

    def check_name(self, name: str) -> None:
        """Raises RegistryError where ``name`` cannot be given to a new artefact."""
        if name == DEFAULT or not _NAME.fullmatch(name):
            raise RegistryError(f"{name!r} is no name for a router: use letters, digits, '.', '_', '-', not 'default'")
        if name == self.promoted():
            raise RegistryError(f"{name} is promoted and stays as it is; choose another name, or promote another first")

    def add(self, folder: Path, *, now: datetime) -> Entry:
        """Registers the artefact in ``folder`` under its own name, in place of its namesake. Raises RegistryError."""
        manifest, digest = read_manifest(folder)
        name = str(manifest["name"])
        self.check_name(name)
        target = self.home / f"{name}-{digest[:12]}"
        if not target.exists():
            fresh = self.home / f".{os.getpid()}-{name}"
            shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns(".*"))
            fresh.rename(target)
        entry = Entry(name, target.name, digest, now.isoformat(timespec="seconds"), manifest)
        index = self._read()
        index["routers"] = [other for other in index["routers"] if other["name"] != name] + [asdict(entry)]
        self._write(index)
        return entry

    def promote(self, name: str) -> None:
        """Makes ``name`` the router that serves. Raises RegistryError or ArtefactError where it cannot be read."""
        self.load(name)
        index = self._read()
        if self.promoted() != name:
            index["promoted"] = [*index["promoted"], name]
            self._write(index)

    def rollback(self) -> str:
        """Back to the router that served before; returns its name. Raises RegistryError where there is none."""
        index = self._read()
        if not index["promoted"]:
            raise RegistryError("nothing was promoted: the default router serves already")
        index["promoted"] = index["promoted"][:-1]
        self._write(index)
        return self.promoted()

    def folder_of(self, name: str) -> Path:
        """Where the artefact ``name`` is. Raises RegistryError."""
        if name == DEFAULT:
            return SHIPPED
        for entry in self.entries():
            if entry.name == name:
                return self.home / entry.folder
        known = ", ".join([DEFAULT, *(entry.name for entry in self.entries())])
        raise RegistryError(f"no router is named {name!r}; there are: {known}")

    def load(self, name: str) -> Artefact:
        """The artefact ``name``, as it was registered. Raises RegistryError, ArtefactError."""
        artefact = load(self.folder_of(name))
        for entry in self.entries():
            if entry.name == name and entry.digest != artefact.digest:
                raise RegistryError(f"{name} is not what was registered under this name; register it anew")
        return artefact

    def _read(self) -> dict[str, Any]:
        path = self.home / INDEX
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"routers": [], "promoted": []}
        except ValueError as error:
            raise RegistryError(f"{path} is damaged: it is not JSON") from error
        if not isinstance(index, dict) or not {"routers", "promoted"} <= set(index):
            raise RegistryError(f"{path} is damaged: it lacks its routers")
        return index

    def _write(self, index: dict[str, Any]) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        fresh = self.home / f".{INDEX}.{os.getpid()}"
        fresh.write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
        fresh.replace(self.home / INDEX)


def open_router(named: str, registry: Registry) -> Artefact:
    """The artefact that ``named`` means: a folder, or a registered name, or ``default``. Raises EvaluationError."""
    path = Path(named).expanduser()
    if path.is_dir() or os.sep in named:
        return load(path)
    return registry.load(named)


def serving(fleet: Fleet, home: Path) -> tuple[TrainedPredictor, TrainedScorer | None]:
    """What serves ``fleet``: its classifier, and its answer scorer where one is named. Raises EvaluationError.

    ``home`` is the registry's folder. ``default`` means the promoted router, or the shipped one
    while nothing was promoted; any other name, or a folder, means that artefact.
    """
    registry = Registry(home)

    def named(name: str) -> Artefact:
        return registry.load(registry.promoted()) if name == DEFAULT else open_router(name, registry)

    classifier = named(fleet.router.classifier)
    if fleet.router.scorer is None:
        return predictor_of(classifier), None
    source = classifier if fleet.router.scorer == fleet.router.classifier else named(fleet.router.scorer)
    scorer = scorer_of(source)
    if scorer is None:
        raise RegistryError(f"router {source.name} has no answer scorer: it was trained without answers")
    return predictor_of(classifier), scorer
