"""The evaluations of the routing log as tables."""

from collections.abc import Mapping
from typing import Any

from cli.console import out, plain, table


def show_log(report: Mapping[str, Any]) -> None:
    """Print the tables of ``evaluate --from-log``."""
    if report["n"]:
        for heading, rows in (
            ("decided by", {**report["stages"], "all": report["routed"]}),
            ("sent to", report["tiers"]),
        ):
            columns = ("queries", "share", "accepted at once", "escalated", "95 %", "unaccepted", "cost")
            grid = table((heading,), columns)
            for name, own in rows.items():
                grid.add_row(plain(name), *_row(own, report["n"]))
            out.print(grid)
        grid = table(("route confidence",), ("queries", "escalated", "95 %"))
        for own in report["confidence"]:
            name = f"{own['stage']} {own['from']:.1f}–{own['to']:.1f}"
            grid.add_row(name, f"{own['queries']:,}", _pct(own["escalation_rate"]), _range(own["escalation_interval"]))
        out.print(grid)
        _show_judge(report)
        if report["shapes"]:
            _show_shapes(report)
    for sentence in report["words"]:
        out.print(plain(sentence), style="yellow" if "NOT" in sentence or "SIMULATED" in sentence else None)


def show_replay(report: Mapping[str, Any]) -> None:
    """Print the tables of ``evaluate --replay``."""
    if report["n"]:
        tiers = sorted({now for row in report["confusion"].values() for now in row} | set(report["confusion"]))
        grid = table((f"then ↓ now, by {plain(report['router'])} →",), tiers)
        for then, row in report["confusion"].items():
            grid.add_row(plain(then), *(f"{row.get(tier, 0):,}" for tier in tiers))
        out.print(grid)
        if report["largest_moves"]:
            grid = table(("largest moves", "then", "now"), ("first call",))
            for move in report["largest_moves"]:
                then, now = move["then"], move["now"]
                grid.add_row(
                    plain(f"{move['query'].rpartition('/')[2]}: {move['text']}"),
                    plain(f"{then['tier']} ({then['router']})"),
                    plain(f"{now['tier']} ({now['router']}, {now['confidence']:.2f})"),
                    f"{move['usd']:+.6f} $",
                )
            out.print(grid)
    for sentence in report["words"]:
        out.print(plain(sentence), style="yellow" if "NOT" in sentence else None)


def _show_judge(report: Mapping[str, Any]) -> None:
    columns = ("answers", "mean", "rejected", "next accepted", "same as final", "95 %", "right")
    grid = table(("judge's confidence",), columns)
    for own in report["judge"]:
        span = "none" if own["from"] is None else f"{own['from']:.1f}–{own['to']:.1f}"
        grid.add_row(
            f"{plain(own['source'])} {span}",
            f"{own['judged']:,}",
            "" if own["confidence"] is None else f"{own['confidence']:.3f}",
            f"{own['rejected']:,}",
            f"{own['next_stood']:,} of {own['followed']:,}" if own["followed"] else "",
            f"{own['agreed']:,} of {own['compared']:,}" if own["compared"] else "",
            "" if own["agreement_interval"] is None else _range(own["agreement_interval"]),
            f"{_pct(own['right'])} of {own['labels']:,}" if own["labels"] else "",
        )
    out.print(grid)


def _show_shapes(report: Mapping[str, Any]) -> None:
    columns = ("corrected", "repairs", "accepted", "cost", "cost of a climb", "saved")
    grid = table(("wrong shapes of", "tier"), columns)
    for own in report["shapes"]:
        grid.add_row(
            plain(own["workload"] or "no workload"),
            plain(own["tier"]),
            f"{own['corrected']:,}",
            f"{own['repaired']:,}",
            f"{own['stood']:,}",
            f"${own['repair_usd']:.6f}",
            "" if own["climb_usd"] is None else f"${own['climb_usd']:.6f}",
            "" if own["saved_usd"] is None else f"${own['saved_usd']:.6f}",
        )
    out.print(grid)


def _row(own: Mapping[str, Any], n: int) -> tuple[str, ...]:
    return (
        f"{own['queries']:,}",
        _pct(own["queries"] / n),
        f"{own['stood']:,}",
        f"{own['escalated']:,} ({_pct(own['escalation_rate'])})",
        _range(own["escalation_interval"]),
        f"{own['doubtful']:,}",
        f"${own['cost_usd']:.4f}",
    )


def _pct(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f} %"
