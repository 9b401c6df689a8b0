"""The commands of ``pointsman``. A module is imported only when its command is used, because imports take most of the
start-up time."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

MODULES: Final = {
    "run": ("run", "try"),
    "batches": ("submit", "status", "results", "cancel", "resume", "pause", "batches"),
    "budget": ("budget",),
    "explain": ("explain",),
    "label": ("label",),
    "report": ("report",),
    "stack": ("up", "down"),
    "doctor": ("doctor",),
    "check_fleet": ("check-fleet",),
    "keys": ("keys",),
    "purge": ("purge",),
    "reconcile": ("reconcile",),
    "spend": ("spend",),
    "routers": ("train", "evaluate", "calibrate", "routers"),
    "learn": ("off-policy", "retrain"),
    "calibrate_confidence": ("calibrate-confidence",),
    "shadow": ("shadow",),
    "drift": ("drift",),
    "version": ("version",),
    "audit": ("audit",),
    "render": ("render",),
}
"""The commands of each module of `cli.commands`, in the order of ``--help``."""

_MODULE_OF: Final = {name: module for module, names in MODULES.items() for name in names}


class LazyCommands(Mapping[str, Any]):
    """Click's commands by name."""

    def __getitem__(self, name: str) -> Any:
        return commands_of(_MODULE_OF[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULE_OF)

    def __len__(self) -> int:
        return len(_MODULE_OF)


class LazyGroup(TyperGroup):
    """A group of `LazyCommands`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()  # type: ignore[assignment]  # nothing adds to them


def commands_of(module: str) -> dict[str, Any]:
    group = typer.Typer(rich_markup_mode=None)
    group.add_typer(import_module(f"cli.commands.{module}").app)
    return dict(typer.main.get_group(group).commands)
