"""The picture of docs/quality.md: ``python -m benchmarks.quality_floor --validity --picture FILE.png`` draws it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLOORS = (0.85, 0.9, 0.95)


def draw_savings(results: Sequence[dict[str, Any]], out: Path) -> None:
    """One panel for each floor at a confidence of 0.95 and `correct` as the grader: certified and hindsight saving."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kept = [each for each in results if each["grader"] == "outcomes" and each["confidence"] == 0.95]
    names = sorted({each["file"] for each in kept}, key=lambda name: _saving(kept, name, 0.9))
    figure, panels = plt.subplots(1, len(FLOORS), figsize=(11, 4.2), sharey=True, layout="constrained")
    for panel, floor in zip(panels, FLOORS, strict=True):
        rows = {each["file"]: each for each in kept if each["floor"] == floor}
        places = range(len(names))
        savings = [rows[name]["saving"] for name in names]
        panel.barh(places, savings, color=["#2f6f9f" if saving > 0 else "#b04a3a" for saving in savings], height=0.6)
        panel.scatter(
            [rows[name]["saving_hindsight"] for name in names], places, marker="|", s=170, color="#222222", linewidth=2
        )
        for place, name in enumerate(names):
            broken = f"{100 * rows[name]['violations']:.1f} %"
            panel.text(1.02, place, broken, va="center", fontsize=8, color="#555555")
        panel.set_title(f"floor {floor:g}", fontsize=11)
        panel.set_xlim(-0.06, 1.17)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
        panel.axvline(0, color="#222222", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_yticks(list(places), names, fontsize=9)
    figure.supxlabel(
        "net saving at 2,000 lines, pilot paid (bar); the best in hindsight, without a pilot (mark);"
        " share of pilots whose floor broke, 5 % allowed (right)",
        fontsize=9,
    )
    figure.savefig(out, dpi=150)
    plt.close(figure)


def _saving(results: Sequence[dict[str, Any]], name: str, floor: float) -> float:
    return next(float(each["saving"]) for each in results if each["file"] == name and each["floor"] == floor)
