"""Trained routers at hand: the one that is shipped, folders, and a shelf of copies from the database.

Which routers there are and which one serves is in the database (`db.router_registry`). Here are their
copies on this machine, each in a folder named after its digest, so that a copy is either the
version that is meant or damaged, never another.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evaluation.data.dataset_errors import ArtifactError, RegistryError
from evaluation.models.artifact import MANIFEST, Artifact, load, read_manifest
from evaluation.models.predictors import TrainedPredictor, TrainedScorer, predictor_of, scorer_of
from routing.fleet import Fleet

DEFAULT: Final = "default"
SHIPPED: Final = Path(__file__).parents[1] / "artifacts" / "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ArtifactBundle:
    """An artifact as it travels: what it is, and the bytes of its files."""

    name: str
    digest: str
    manifest: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)


class ArtifactCache:
    """The copies in ``home``; the folder is made with the first one."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def has(self, digest: str) -> bool:
        """Whether a whole copy of that version is here."""
        try:
            self.load(digest)
        except (ArtifactError, RegistryError):
            return False
        return True

    def load(self, digest: str) -> Artifact:
        """The artifact of that version. Raises ArtifactError where it is missing or damaged."""
        artifact = load(self._folder(digest))
        if artifact.digest != digest:
            raise ArtifactError(f"{self._folder(digest)} is not the version that its name says; delete it")
        return artifact

    def put(self, digest: str, files: Mapping[str, bytes]) -> Artifact:
        """Lays a copy down, in place of a damaged one. Raises ArtifactError where the files are not that version."""
        folder = self._folder(digest)
        fresh = self.home / f".{os.getpid()}-{digest}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            for name, content in files.items():
                if Path(name).name != name:
                    raise ArtifactError(f"version {digest[:12]} holds a file that is not a plain name")
                (fresh / name).write_bytes(content)
            if load(fresh).digest != digest:
                raise ArtifactError(f"version {digest[:12]} is damaged where it is stored; train it again")
            try:
                fresh.rename(folder)
            except OSError:
                # Another process of this machine was faster, and may be reading it; or the copy there is damaged.
                if not self.has(digest):
                    shutil.rmtree(folder, ignore_errors=True)
                    fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return self.load(digest)

    def _folder(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise RegistryError(f"{digest[:70]!r} is not a digest")
        return self.home / digest


def check_name(name: str) -> None:
    """Raises RegistryError where ``name`` cannot be given to a new artifact."""
    if name == DEFAULT or not _NAME.fullmatch(name):
        raise RegistryError(f"{name!r} is not a name for a router: use letters, digits, '.', '_', '-', not 'default'")


def bundle(folder: Path) -> ArtifactBundle:
    """The artifact in ``folder``, whole and checked. Raises ArtifactError."""
    artifact = load(folder)
    manifest, digest = read_manifest(folder)
    if digest != artifact.digest:
        raise ArtifactError(f"{folder} changed while it was read; try again")
    names = [MANIFEST, *manifest["files"]]
    return ArtifactBundle(
        str(manifest["name"]), digest, manifest, {name: (folder / name).read_bytes() for name in names}
    )


def is_folder(named: str) -> bool:
    """Whether ``named`` means a folder, not a registered name."""
    return os.sep in named or Path(named).expanduser().is_dir()


def open_folder(named: str) -> Artifact:
    """The artifact in the folder ``named``, or the shipped one for ``default``. Raises EvaluationError."""
    if named == DEFAULT and not Path(named).is_dir():
        return load(SHIPPED)
    if is_folder(named):
        return load(Path(named).expanduser())
    raise RegistryError(f"no router is named {named!r} here; registered ones are in the database")


def load_serving_models(
    fleet: Fleet, named: Callable[[str], Artifact]
) -> tuple[TrainedPredictor, TrainedScorer | None]:
    """What serves ``fleet``: its classifier, and its answer scorer where one is named.

    ``named`` gives the artifact of a name in the fleet. Raises EvaluationError.
    """
    classifier = named(fleet.router.classifier)
    if fleet.router.scorer is None:
        return predictor_of(classifier), None
    source = classifier if fleet.router.scorer == fleet.router.classifier else named(fleet.router.scorer)
    scorer = scorer_of(source)
    if scorer is None:
        raise RegistryError(f"router {source.name} has no answer scorer: it was trained without answers")
    return predictor_of(classifier), scorer
