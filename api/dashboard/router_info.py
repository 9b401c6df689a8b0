"""The serving router: its name and its evaluation on held-out lines.

They are read from its manifest, without the packages that a router needs to run.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.router_registry import promoted, registered
from routing.fleet import Fleet
from routing.policy.routing_case import SIMULATOR
from settings import ROOT

_SHIPPED = ROOT / "evaluation" / "artifacts" / "default" / "manifest.json"
_DEFAULT = "default"


async def router_card(engine: AsyncEngine, fleet: Fleet) -> dict[str, Any]:
    """Return ``{"name", "stages", "workload", "evaluation"}`` of the serving classifier, or None if there is none.

    ``workload`` is the only one that it routes. None: it routes any. Without recorded figures, and for a classifier of
    the simulator that decides nothing on ``fleet``, evaluation is None.
    """
    card: dict[str, Any] = {"name": None, "stages": list(fleet.router.stages), "workload": None, "evaluation": None}
    if "classifier" in fleet.router.stages:
        card["name"], manifest = await _serving(engine, fleet)
        card["workload"] = manifest.get("workload")
        if card["workload"] != SIMULATOR or fleet.makes_up_answers:
            card["evaluation"] = evaluation_card(manifest)
    return card


async def _serving(engine: AsyncEngine, fleet: Fleet) -> tuple[str, Mapping[str, Any]]:
    name = fleet.router.classifier
    if name == _DEFAULT:
        promotion = await promoted(engine)
        name = promotion.name if promotion and promotion.digest else _DEFAULT
    for router in await registered(engine):
        if router.name == name:
            return name, router.manifest
    try:
        return name, json.loads(_SHIPPED.read_text()) if name == _DEFAULT else {}
    except (OSError, ValueError):
        return name, {}


def evaluation_card(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the held-out figures of a router, or None if its manifest records none."""
    try:
        metrics, data = manifest["metrics"]["classifier"], manifest["data"]
        tiers = {tier: metrics[tier] for tier in manifest["tiers"] if isinstance(metrics.get(tier), dict)}
    except (KeyError, TypeError, AttributeError):
        return None
    return {
        "data": data.get("name"),
        "lines": data.get("lines"),
        "note": manifest["metrics"].get("note"),
        "apgr": metrics.get("apgr"),
        "tiers": {tier: {"brier": figures.get("brier"), "ece": figures.get("ece")} for tier, figures in tiers.items()},
    }
