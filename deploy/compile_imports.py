"""Compiles the modules that the image's processes import, so that none of them compiles anything at its start.

A cached module of this kind names no time of its source: two builds write the same bytes.
"""

import importlib
import py_compile
import sys
from pathlib import Path
from typing import Final

ENTRY_POINTS: Final = (
    "alembic.config",
    "api.__main__",
    "cli.main",
    "evaluation.models.predictors",
    "flower.command",
    "simulator.__main__",
    "tasks.celery_tasks",
    "telemetry.spans",
    "workers.__main__",
    "workers.celery_worker",
    "workers.flower",
    "workers.liveness",
)


def main(folder: Path) -> None:
    """Import every entry point, then compile what was imported from ``folder``."""
    for name in ENTRY_POINTS:
        importlib.import_module(name)
    sources = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    for source in sorted(sources):
        if source.suffix == ".py" and source.is_relative_to(folder):
            py_compile.compile(
                str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
