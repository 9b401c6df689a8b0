"""Two pictures: cost–quality curves with their controls, and the reliability diagram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.metrics.confidence_intervals import wilson
from evaluation.metrics.cost_quality_curve import Curve
from evaluation.metrics.outcome_evaluation import Trust, Way

INK: Final = "#1f2933"
FAINT: Final = "#9aa5b1"
GRID: Final = "#e4e7eb"
COLOURS: Final = ("#0b6bcb", "#c2410c")
"""Blue and burnt orange: distinct to color-blind eyes and in gray."""
FIRM: Final = 10
"""Minimum queries of a bin that is drawn filled. A bin with fewer says little, and is drawn hollow."""

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
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(13.2, 6.6), gridspec_kw={"width_ratios": [1.5, 1]})
        try:
            _curves(left, ways)
            _reliability(right, [trust for way in ways for trust in way.trust])
            figure.suptitle(title, x=0.012, y=0.985, ha="left", fontsize=14, fontweight="bold", color=INK)
            figure.tight_layout(rect=(0, 0, 1, 1), w_pad=3)
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
        suffix = "" if way.router.apgr is None else f" — APGR {way.router.apgr:.3f}"
        axes.plot(cost, 100 * quality, color=colour, linewidth=2.4, label=f"{way.title.removeprefix('as a ')}{suffix}")
        axes.plot(
            100 * way.point.cost, 100 * way.point.quality, marker="o", markersize=9, markerfacecolor="white",
            markeredgecolor=colour, markeredgewidth=2.2, linestyle="none", zorder=5,
        )  # fmt: skip
    for height, words, x, side in ((large, "always large", 1, "left"), (small, "always small", 100, "right")):
        axes.axhline(100 * height, color=INK, linewidth=0.9)
        axes.annotate(
            f"{words} {100 * height:.1f} %", (x, 100 * height), xytext=(0, 4), textcoords="offset points",
            ha=side, va="bottom", fontsize=10, color=INK,
            bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
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
        [*(labels[i] for i in order), "the default policy; bands: 95 %"],
        loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, columnspacing=1.4,
    )  # fmt: skip


def _points(curve: Curve, way: Way) -> tuple[np.ndarray, np.ndarray]:
    cost = curve.first_call + curve.share if curve.first_call else _spent(curve.share, way)
    return 100 * cost, curve.quality


def _spent(share: np.ndarray, way: Way) -> np.ndarray:
    floor = way.constants[0].cost
    spent: np.ndarray = floor + share * (1.0 - floor)
    return spent


def _reliability(axes: Any, trusts: Sequence[Trust]) -> None:
    colours = (COLOURS[0], "#3f7d20", COLOURS[1])
    most = max(each.count for trust in trusts for each in trust.bins)
    for trust, colour in zip(trusts, colours, strict=False):
        firm = [each for each in trust.bins if each.count >= FIRM]
        predicted, came = [100 * each.predicted for each in firm], [100 * each.came for each in firm]
        spans = [wilson(each.came, each.count) for each in firm]
        errors = [[came[i] - 100 * low for i, (low, _) in enumerate(spans)],
                  [100 * high - came[i] for i, (_, high) in enumerate(spans)]]  # fmt: skip
        axes.errorbar(predicted, came, yerr=errors, color=colour, linewidth=1.8, elinewidth=1, capsize=2.5)
        sizes = [20 + 130 * each.count / most for each in firm]
        axes.scatter(predicted, came, s=sizes, color=colour, zorder=4, edgecolor="white", linewidth=0.8)
        loose = [each for each in trust.bins if each.count < FIRM]
        axes.scatter(
            [100 * each.predicted for each in loose], [100 * each.came for each in loose], s=18, facecolor="white",
            edgecolor=colour, linewidth=1, zorder=3, clip_on=False,
        )  # fmt: skip
        axes.plot([], [], color=colour, marker="o", linewidth=1.8, label=f"{trust.of} — ECE {trust.ece:.3f}")
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1.3, linestyle=(0, (4, 3)), label="ideal", zorder=1)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("Predicted probability, %")
    axes.set_ylabel("Observed, %")
    axes.set_title("Reliability")
    note = f"size: queries; bars: 95 %; hollow: under {FIRM} queries"
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), title=note, title_fontsize=10)
