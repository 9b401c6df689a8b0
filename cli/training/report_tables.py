"""Trained routers and their evaluations as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.console import out, plain, table
from db.router_registry import Promotion, RegisteredRouter
from evaluation.data.call_costs import CallCosts
from evaluation.models.artifact_cache import DEFAULT
from evaluation.training.threshold_tuning import Knob, Proposal


def show_training(report: Mapping[str, Any]) -> None:
    """Print a new router, with its figures on lines that it did not see."""
    data = report["data"]
    out.print(Text.assemble(("Router ", "bold"), (plain(report["name"]), "bold cyan"), f" in {plain(report['out'])}"))
    out.print(f"Trained on {data['lines']:,} lines of {plain(data['name'])}, tiers {', '.join(report['tiers'])}.")
    own = report["metrics"]["classifier"]
    grid = table(("on unseen lines",), ("ECE", "Brier", "calibration"))
    for tier in report["tiers"]:
        row = own[tier]
        grid.add_row(f"P({tier} answers well)", _num(row["ece"]), _num(row["brier"]), row["calibration"])
    if scorer := report["metrics"]["scorer"]:
        grid.add_row("P(answer is right)", _num(scorer["ece"]), _num(scorer["brier"]), scorer["calibration"])
    out.print(grid)
    out.print(f"Query alone: APGR {_num(own['apgr'])}, CPT50 {_pct(own['cpt50'])}, CPT80 {_pct(own['cpt80'])}.")
    if scorer:
        out.print(f"Ranked by the answer scorer: APGR {_num(scorer['apgr_by_calls'])}, first calls not counted.")
    if report["registered"]:
        out.print(
            f"Registered as {plain(report['registered'])}. Serve it: pointsman routers promote {report['registered']}"
        )


def show_report(report: Mapping[str, Any]) -> None:
    """Print an evaluation of a router."""
    router, data = report["router"], report["data"]
    title = Text.assemble(("Router ", "bold"), (plain(router["name"]), "bold cyan"), f" on {plain(data['name'])}")
    out.print(title + Text(f", {report['n']:,} lines"))
    if report["kind"] == "labelled":
        _show_labels(report)
    else:
        _show_outcomes(report)
    out.print()
    for sentence in report["words"]:
        out.print(plain(sentence), style="yellow" if "NOT" in sentence or "too good" in sentence else None)


def show_proposals(proposals: Sequence[Proposal], *, source: str, tariff: CallCosts, n: int) -> None:
    """Print the proposals of a calibration."""
    out.print(f"{n:,} lines; predictions of {plain(source)}; {plain(tariff.source)}.")
    grid = table(("set",), ("to", "reach large", "cost", "95 %", "quality", "95 %"))
    for proposal in proposals:
        knob = "router.quality_weight" if proposal.knob == Knob.WEIGHT else f"tiers.{proposal.tier}.{proposal.knob}"
        grid.add_row(
            knob,
            f"{proposal.value:g}",
            _pct(100 * proposal.to_large),
            f"{proposal.cost:.3f}",
            _range(None if proposal.cost_interval is None else proposal.cost_interval.as_list()),
            f"{proposal.quality:.3f}",
            _range(None if proposal.quality_interval is None else proposal.quality_interval.as_list()),
        )
    out.print(grid)
    out.print("Cost and quality are relative to always using the large model. The cost includes every call.")


def show_routers(entries: Sequence[RegisteredRouter], history: Sequence[Promotion], serves: Promotion | None) -> None:
    grid = table(("",), ("router", "trained on", "lines", "APGR", "added", "by", "version"))
    grid.add_row("→" if serves is None or serves.digest is None else "", DEFAULT, "shipped with Pointsman")
    for entry in entries:
        data = entry.manifest["data"]
        grid.add_row(
            "→" if serves is not None and entry.digest == serves.digest else "",
            plain(entry.name),
            plain(str(data["name"])),
            f"{data['lines']:,}",
            # A router trained on the log has no APGR: no query has all outcomes.
            _num(entry.manifest["metrics"].get("classifier", {}).get("apgr")),
            f"{entry.added_at:%Y-%m-%d %H:%M}",
            plain(entry.added_by),
            entry.digest[:12],
        )
    out.print(grid)
    for promotion in history:
        version = "" if promotion.digest is None else f" {promotion.digest[:12]}"
        name = f"{plain(promotion.name)}{version}"
        line = f"{promotion.promoted_at:%Y-%m-%d %H:%M}  {name} promoted by {plain(promotion.promoted_by)}"
        if promotion.undone_at is not None:
            line += f"; undone {promotion.undone_at:%Y-%m-%d %H:%M} by {plain(promotion.undone_by or '')}"
        out.print(line, style="dim")


def _show_outcomes(report: Mapping[str, Any]) -> None:
    grid = table(("ranked by",), ("APGR", "95 %", "CPT50", "CPT80", "AIQ", "best arena"))
    _rank(grid, "router, query alone", report, report["intervals"]["apgr"])
    cascade = report.get("cascade")
    if cascade is not None:
        _rank(grid, "router, cascade (both calls paid)", cascade, cascade["intervals"]["apgr"])
    for name, own in report["controls"].items():
        if not name.startswith("always"):
            _rank(grid, name.replace("_", " "), own, None)
    out.print(grid)
    grid = table(("as it stands",), ("right", "cost", "to large", "arena"))
    for name in ("always_small", "always_large"):
        own = report["controls"][name]
        grid.add_row(name.replace("_", " "), _pct(100 * own["quality"]), f"{own['cost']:.3f}", "", _num(own["arena"]))
    for name, policy in (("query alone, default policy", report), ("cascade, the fleet's threshold", cascade)):
        if policy is not None:
            own = policy["point"]
            grid.add_row(
                name, _pct(100 * own["quality"]), f"{own['cost']:.3f}", _pct(100 * own["to_large"]), _num(own["arena"])
            )
    if pipeline := report.get("pipeline"):
        n = report["n"]
        grid.add_row(
            "the fleet's rules, replayed",
            _pct(100 * pipeline["right"] / n),
            f"{pipeline['cost_of_always_large']:.3f}",
            _pct(100 * pipeline["answered"][report["data"]["tiers"][-1]] / n),
            "",
        )
    out.print(grid)
    grid = table(("predicted",), ("ECE", "by chance", "Brier"))
    for bins in [*report["calibration"], *(cascade["calibration"] if cascade else [])]:
        grid.add_row(f"P({bins['of']})", _num(bins["ece"]), _num(bins["ece_by_chance"]), _num(bins["brier"]))
    out.print(grid)
    out.print(f"Costs are relative to the large model alone, by {plain(report['tariff']['source'])}.", style="dim")


def _show_labels(report: Mapping[str, Any]) -> None:
    grid = table(("policy",), ("right tier", "too high", "too low", "weighted loss"))
    rows = {"router": report} | report["stages"] | report["controls"]
    for name, own in rows.items():
        inflation, loss = own["cost_inflation"], own["quality_loss"]
        grid.add_row(
            name.replace("_", " "),
            _pct(100 * own["accuracy"]),
            f"{inflation['count']:,} ({_pct(100 * inflation['rate'])})",
            f"{loss['count']:,} ({_pct(100 * loss['rate'])})",
            _num(own["weighted_loss"]),
        )
    out.print(grid)
    chosen = list(next(iter(report["confusion"].values())))
    grid = table(("expected ↓ chosen →",), chosen)
    for expected, row in report["confusion"].items():
        grid.add_row(plain(expected), *(f"{row[tier]:,}" for tier in chosen))
    out.print(grid)
    if len(report["categories"]) > 1:
        grid = table(("category",), ("lines", "right tier", "too high", "too low"))
        for name, own in sorted(report["categories"].items()):
            grid.add_row(
                plain(name),
                f"{own['n']:,}",
                _pct(100 * own["accuracy"]),
                f"{own['cost_inflation']['count']:,}",
                f"{own['quality_loss']['count']:,}",
            )
        out.print(grid)


def _rank(grid: Table, name: str, own: Mapping[str, Any], interval: Sequence[float] | None) -> None:
    figures = (_num(own["apgr"]), _range(interval), _pct(own["cpt50"]), _pct(own["cpt80"]), _num(own["aiq"]))
    grid.add_row(name, *figures, _num(own["arena"]))


def _num(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3f}"


def _pct(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f} %"


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
