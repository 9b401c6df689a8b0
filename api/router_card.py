"""What is known of the router that serves: its name, and how it did on lines that it had not seen.

Read from the files of the registry, without the packages that a router needs to run.
"""

import json
from pathlib import Path
from typing import Any

from routing.fleet import Fleet
from settings import ROOT

_SHIPPED = ROOT / "evaluation" / "artefacts" / "default"


def router_card(fleet: Fleet, registry: Path) -> dict[str, Any]:
    """``{"name", "stages", "evaluation"}``; evaluation is None where no classifier takes part or none is told."""
    card: dict[str, Any] = {"name": None, "stages": list(fleet.router.stages), "evaluation": None}
    if "classifier" not in fleet.router.stages:
        return card
    name, folder = _promoted(fleet, registry)
    card["name"] = name
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        metrics = dict(manifest["metrics"]["classifier"])
    except (OSError, ValueError, KeyError, TypeError):
        return card
    tiers = {tier: metrics[tier] for tier in manifest.get("tiers", []) if isinstance(metrics.get(tier), dict)}
    card["evaluation"] = {
        "data": manifest["data"].get("name"),
        "lines": manifest["data"].get("lines"),
        "note": manifest["metrics"].get("note"),
        "apgr": metrics.get("apgr"),
        "tiers": {tier: {"brier": told.get("brier"), "ece": told.get("ece")} for tier, told in tiers.items()},
    }
    return card


def _promoted(fleet: Fleet, registry: Path) -> tuple[str, Path]:
    wanted = fleet.router.classifier
    try:
        index = json.loads((registry / "registry.json").read_text())
        name = wanted if wanted != "default" else str((index["promoted"] or ["default"])[-1])
        folders = {entry["name"]: entry["folder"] for entry in index["routers"]}
        return (name, registry / folders[name]) if name in folders else ("default", _SHIPPED)
    except (OSError, ValueError, KeyError, TypeError):
        return wanted, _SHIPPED
