"""Several deadlines side by side: what a batch costs by each, when it ends, and how likely it is late."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cli.console import plain, table
from cli.progress import duration


def deadline_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `submission.dry_run.compare_deadlines`; the deadline that is asked for in bold."""
    grid = table(("within", "first waves"), ("cost", "saving", "ends after", "P(late)"))
    for row in rows:
        lanes = ", ".join(f"{plain(tier)} {lane}" for tier, lane in row["lanes"].items())
        if len(used := set(row["lanes"].values())) == 1:
            lanes = used.pop()
        grid.add_row(
            duration(row["within_s"]),
            lanes,
            f"${row['cost_usd']:.6f}",
            f"{100 * row['saving']:.1f} %",
            duration(row["finish_s"]),
            "< 0.01 %" if row["p_late"] < 1e-4 else f"{100 * row['p_late']:.2g} %",
            style="bold" if row["is_asked_for"] else None,
        )
    return grid
