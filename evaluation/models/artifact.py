"""A trained router on disk: a folder with ``manifest.json`` and plain arrays in ``.npz`` files.

Nothing in it can be executed: the arrays are read with pickling off, and each file's SHA-256 stands
in the manifest and is checked before anything is read from it.
"""

import hashlib
import json
import os
import platform
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.data.array_types import Parts
from evaluation.data.dataset_errors import ArtifactError
from evaluation.models import answer_features, query_features
from evaluation.models.answer_scorer import AnswerScorer
from evaluation.models.classifier import Classifier

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CLASSIFIER: Final = "classifier.npz"
SCORER: Final = "scorer.npz"
LARGEST_BYTES: Final = 400_000_000
_DAMAGED: Final = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A trained router: its classifier, the answer scorer where the data held answers, and what is known of them."""

    manifest: dict[str, Any]
    classifier: Classifier = field(repr=False)
    scorer: AnswerScorer | None = field(repr=False)
    digest: str = ""
    """SHA-256 of the manifest, and through it of every file."""

    @property
    def name(self) -> str:
        """What the routing log calls it."""
        return str(self.manifest["name"])

    @property
    def workload(self) -> str | None:
        """What it was trained for: a workload's name, the simulator, or None for whatever its user has it serve."""
        named = self.manifest.get("workload")
        return None if named is None else str(named)


def save(artifact: Artifact, folder: Path) -> str:
    """Writes ``artifact`` into ``folder``, made where missing; returns its digest. Raises OSError.

    The manifest is written last and put in place at once, so that an interrupted save is not an artifact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    parts = {CLASSIFIER: artifact.classifier.parts()}
    if artifact.scorer is not None:
        parts[SCORER] = artifact.scorer.parts()
    else:
        (folder / SCORER).unlink(missing_ok=True)
    manifest = dict(artifact.manifest) | {"format": FORMAT, "shape": _shape_digest(), "versions": _versions()}
    manifest["files"] = {name: _write(folder / name, own) for name, own in parts.items()}
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    fresh = folder / f".{MANIFEST}.{os.getpid()}"
    fresh.write_bytes(text)
    fresh.replace(folder / MANIFEST)
    return hashlib.sha256(text).hexdigest()


def load(folder: Path) -> Artifact:
    """The artifact in ``folder``. Raises ArtifactError where it is missing, damaged or of another format."""
    manifest, digest = read_manifest(folder)
    if manifest.get("shape") != _shape_digest():
        raise ArtifactError(
            f"{folder} was trained by a version that reads texts in another way; train the router again"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or CLASSIFIER not in files:
        raise ArtifactError(f"{folder / MANIFEST} names no {CLASSIFIER}; train it again")
    try:
        classifier = Classifier.from_arrays(_read(folder / CLASSIFIER, files[CLASSIFIER]))
        scorer = AnswerScorer.from_arrays(_read(folder / SCORER, files[SCORER])) if SCORER in files else None
    except ArtifactError:
        raise
    except _DAMAGED as error:
        raise ArtifactError(f"{folder} cannot be read ({type(error).__name__}); train it again") from error
    return Artifact(manifest, classifier, scorer, digest)


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """What ``folder`` says of itself, and its digest. Raises ArtifactError."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{folder} holds no trained router (no readable {MANIFEST}); make one: pointsman train DATA --out {folder}"
        ) from error
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: it is not JSON; train it again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str):
        raise ArtifactError(f"{path} is damaged: it has no name; train it again")
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} is of format {manifest.get('format')!r}, this version reads {FORMAT}; train it again"
        )
    return manifest, hashlib.sha256(text).hexdigest()


def _write(path: Path, parts: Parts) -> str:
    fresh = path.with_name(f".{os.getpid()}.{path.name}")
    np.savez_compressed(fresh, allow_pickle=False, **parts)
    fresh.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path, sha256: object) -> Parts:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; train it again")
    if path.stat().st_size > LARGEST_BYTES:
        raise ArtifactError(f"{path} is larger than an artifact can be; train it again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ArtifactError(f"{path} is damaged: it is not the file that its manifest describes; train it again")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _shape_digest() -> str:
    names = "\n".join([*query_features.NAMES, "", *answer_features.NAMES])
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": version("scikit-learn")}
