"""The picture of docs/lanes.md: ``python -m benchmarks.lanes --picture FILE.png`` draws it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

PLANNED, NAIVE, BOUND = "#2f6f9f", "#b04a3a", "#222222"
TICKS = (1, 2, 4, 8, 24)


def draw_deadlines(days: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Left: each day's cost over all-standard by its deadline. Right: the share of days with late queries."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plain = [day for day in days if not day["has_flex"]]
    figure, (cost, late) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(3, 2))
    hours = [day["within_h"] for day in plain]
    cost.axhline(1.0, color=BOUND, linewidth=0.8)
    cost.text(24, 1.005, "all standard", ha="right", va="bottom", fontsize=9)
    cost.scatter(hours, [_share(day, "planned_usd") for day in plain], s=14, color=PLANNED, alpha=0.7, label="planned")
    cost.scatter(
        hours, [_share(day, "clairvoyant_usd") for day in plain], s=26, marker="_", color=BOUND, label="clairvoyant"
    )
    cost.set_ylim(0.45, 1.05)
    cost.set_ylabel("cost over all-standard")
    cost.legend(frameon=False, fontsize=9, loc="center right")
    edges = (1, 1.5, 2, 3, 4, 6, 8, 12, 24)
    for key, color, label in (("batch_late", NAIVE, "all batch"), ("late", PLANNED, "planned")):
        shares, centers = [], []
        for low, high in pairwise(edges):
            part = [day for day in plain if low <= day["within_h"] < high]
            if part:
                shares.append(sum(day[key] > 0 for day in part) / len(part))
                centers.append((low * high) ** 0.5)
        late.plot(centers, shares, color=color, marker="o", markersize=4, label=label)
    late.set_ylabel("days with queries late that standard answers in time", fontsize=9)
    late.set_ylim(-0.03, 1.0)
    late.legend(frameon=False, fontsize=9)
    for panel in (cost, late):
        panel.set_xscale("log")
        panel.set_xticks(TICKS, [f"{tick} h" for tick in TICKS])
        panel.minorticks_off()
        panel.set_xlabel("deadline")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def _share(day: Mapping[str, Any], policy: str) -> float:
    return float(day[policy]) / float(day["standard_usd"])
