"""Two pictures: cost–quality curves beside their controls, and the reliability diagram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.curve import Curve
from evaluation.outcomes import Trust, Way

INK: Final = "#1f2933"
FAINT: Final = "#9aa5b1"
GRID: Final = "#e4e7eb"
COLOURS: Final = ("#0b6bcb", "#c2410c")
"""Blue and burnt orange: told apart by colour-blind eyes and in grey."""
CONTROLS: Final = {
    "best_fixed_split": ("fixed split", "#7b8794", (0, (1, 2))),
    "query_length": ("query length alone", "#6b4fa0", (0, (5, 2))),
    "oracle": ("oracle (hindsight)", "#3f7d20", (0, (6, 2, 1, 2))),
}


def draw(ways: Sequence[Way], *, title: str, path: Path) -> None:
    """Writes a PNG (or whatever ``path`` ends in) with both pictures. Raises OSError, ValueError for its suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(13.2, 5.9), gridspec_kw={"width_ratios": [1.45, 1]})
        try:
            _curves(left, ways)
            _reliability(right, [trust for way in ways for trust in way.trust])
            figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)
            figure.tight_layout(rect=(0, 0, 1, 0.96), w_pad=3)
            figure.savefig(path, dpi=150)
        finally:
            pyplot.close(figure)


_STYLE: Final[Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def _curves(axes: Any, ways: Sequence[Way]) -> None:
    small, large = ways[0].router.curve.small, ways[0].router.curve.large
    for name, (label, colour, dashes) in CONTROLS.items():
        ranked = next(each for each in ways[0].rankings if each.name == name)
        cost, quality = _points(ranked.curve, ways[0])
        axes.plot(cost, 100 * quality, color=colour, linestyle=dashes, linewidth=1.6, label=label)
    for way, colour in zip(ways, COLOURS, strict=False):
        cost, quality = _points(way.router.curve, way)
        offset = way.router.curve.first_call
        share = way.band.share + offset if offset else _spent(way.band.share, way)
        axes.fill_between(100 * share, 100 * way.band.low, 100 * way.band.high, color=colour, alpha=0.13, linewidth=0)
        told = "" if way.router.apgr is None else f" — APGR {way.router.apgr:.3f}"
        axes.plot(cost, 100 * quality, color=colour, linewidth=2.4, label=f"{way.title}{told}")
        axes.plot(
            100 * way.point.cost, 100 * way.point.quality, marker="o", markersize=9, markerfacecolor="white",
            markeredgecolor=colour, markeredgewidth=2.2, linestyle="none", zorder=5,
        )  # fmt: skip
    for height, words in ((large, "always large"), (small, "always small")):
        axes.axhline(100 * height, color=INK, linewidth=0.9)
        axes.annotate(
            f"{words} {100 * height:.1f} %", (100, 100 * height), xytext=(0, 4), textcoords="offset points",
            ha="right", va="bottom", fontsize=10, color=INK,
        )  # fmt: skip
    axes.set_xlim(0, 101)
    axes.set_ylim(100 * (small - 0.2 * abs(large - small)) - 0.5, None)
    axes.set_xlabel("Cost, % of asking the large model about everything (every call counted)")
    axes.set_ylabel("Right answers, %")
    axes.set_title("Cost and quality")
    handles, labels = axes.get_legend_handles_labels()
    order = [*range(len(CONTROLS), len(labels)), *range(len(CONTROLS))]
    hint = axes.plot([], [], marker="o", markerfacecolor="white", markeredgecolor=INK, color="none")[0]
    axes.legend(
        [*(handles[i] for i in order), hint],
        [*(labels[i] for i in order), "where the default policy stands; bands: 95 %"],
        loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2,
    )  # fmt: skip


def _points(curve: Curve, way: Way) -> tuple[np.ndarray, np.ndarray]:
    cost = curve.first_call + curve.share if curve.first_call else _spent(curve.share, way)
    return 100 * cost, curve.quality


def _spent(share: np.ndarray, way: Way) -> np.ndarray:
    floor = way.constants[0].cost
    spent: np.ndarray = floor + share * (1.0 - floor)
    return spent


def _reliability(axes: Any, trusts: Sequence[Trust]) -> None:
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        "exactly as told", (12, 12), xytext=(4, -12), textcoords="offset points", color="#52606d", fontsize=10
    )
    colours = (COLOURS[0], "#3f7d20", COLOURS[1])
    most = max(each.count for trust in trusts for each in trust.bins)
    for trust, colour in zip(trusts, colours, strict=False):
        told = [100 * each.told for each in trust.bins]
        came = [100 * each.came for each in trust.bins]
        axes.errorbar(
            told, came, yerr=[100 * _half_width(each.came, each.count) for each in trust.bins],
            color=colour, linewidth=1.8, elinewidth=1, capsize=2.5, label=f"{trust.of} — ECE {trust.ece:.3f}",
        )  # fmt: skip
        sizes = [20 + 130 * each.count / most for each in trust.bins]
        axes.scatter(told, came, s=sizes, color=colour, zorder=4, edgecolor="white", linewidth=0.8)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("Probability told, %")
    axes.set_ylabel("Came true, %")
    axes.set_title("Reliability (size: queries in the bin; bars: 95 %)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _half_width(share: float, count: int) -> float:
    """Of the 95 % interval of a share, Agresti and Coull's."""
    p = (share * count + 2) / (count + 4)
    return 1.96 * float(np.sqrt(p * (1 - p) / (count + 4)))
