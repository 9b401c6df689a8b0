"""Trained routers and their evaluations, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.console import out, plain
from db.router_registry import Promotion, RegisteredRouter
from evaluation.data.call_costs import CallCosts
from evaluation.models.artifact_cache import DEFAULT
from evaluation.training.threshold_tuning import Knob, Proposal


def show_training(told: Mapping[str, Any]) -> None:
    """After training: what was made, and what it is worth on lines that it had not seen."""
    data = told["data"]
    out.print(Text.assemble(("Router ", "bold"), (plain(told["name"]), "bold cyan"), f" in {plain(told['out'])}"))
    out.print(f"Trained on {data['lines']:,} lines of {plain(data['name'])}, tiers {', '.join(told['tiers'])}.")
    own = told["metrics"]["classifier"]
    table = _table("on lines it had not seen", "ECE", "Brier", "calibration")
    for tier in told["tiers"]:
        row = own[tier]
        table.add_row(f"P({tier} answers well)", _num(row["ece"]), _num(row["brier"]), row["calibration"])
    if scorer := told["metrics"]["scorer"]:
        table.add_row("P(answer is right)", _num(scorer["ece"]), _num(scorer["brier"]), scorer["calibration"])
    out.print(table)
    out.print(f"By the query alone: APGR {_num(own['apgr'])}, CPT50 {_pct(own['cpt50'])}, CPT80 {_pct(own['cpt80'])}.")
    if scorer:
        out.print(f"Ranked by the answer scorer: APGR {_num(scorer['apgr_by_calls'])}, first calls not counted.")
    if told["registered"]:
        out.print(
            f"Registered as {plain(told['registered'])}. Serve it: pointsman routers promote {told['registered']}"
        )


def show_report(report: Mapping[str, Any]) -> None:
    """After an evaluation."""
    router, data = report["router"], report["data"]
    title = Text.assemble(("Router ", "bold"), (plain(router["name"]), "bold cyan"), f" on {plain(data['name'])}")
    out.print(title + Text(f", {report['n']:,} lines"))
    if report["kind"] == "labelled":
        _show_labels(report)
    else:
        _show_outcomes(report)
    out.print()
    for sentence in report["words"]:
        out.print(plain(sentence), style="yellow" if "NOT" in sentence or "flatter" in sentence else None)


def show_proposals(proposals: Sequence[Proposal], *, source: str, tariff: CallCosts, n: int) -> None:
    """After a calibration."""
    out.print(f"From {n:,} lines; predictions of {plain(source)}; {plain(tariff.source)}.")
    table = _table("set", "to", "reach large", "cost", "95 %", "quality", "95 %")
    for proposal in proposals:
        knob = "router.quality_weight" if proposal.knob == Knob.WEIGHT else f"tiers.{proposal.tier}.{proposal.knob}"
        table.add_row(
            knob,
            f"{proposal.value:g}",
            _pct(100 * proposal.to_large),
            f"{proposal.cost:.3f}",
            _range(None if proposal.cost_interval is None else proposal.cost_interval.as_list()),
            f"{proposal.quality:.3f}",
            _range(None if proposal.quality_interval is None else proposal.quality_interval.as_list()),
        )
    out.print(table)
    out.print("Cost and quality are over those of always asking the large model; every call is counted.")


def show_routers(entries: Sequence[RegisteredRouter], history: Sequence[Promotion], serves: Promotion | None) -> None:
    """The registry, and the history of what served."""
    table = _table("", "router", "trained on", "lines", "APGR", "added", "by", "version")
    table.add_row("→" if serves is None or serves.digest is None else "", DEFAULT, "shipped with Pointsman")
    for entry in entries:
        data = entry.manifest["data"]
        table.add_row(
            "→" if serves is not None and entry.digest == serves.digest else "",
            plain(entry.name),
            plain(str(data["name"])),
            f"{data['lines']:,}",
            # One that learned from the log knows its exam only: of no query are all outcomes known.
            _num(entry.manifest["metrics"].get("classifier", {}).get("apgr")),
            f"{entry.added_at:%Y-%m-%d %H:%M}",
            plain(entry.added_by),
            entry.digest[:12],
        )
    out.print(table)
    for one in history:
        undone = (
            "" if one.undone_at is None else f"; undone {one.undone_at:%Y-%m-%d %H:%M} by {plain(one.undone_by or '')}"
        )
        version = "" if one.digest is None else f" {one.digest[:12]}"
        told = (
            f"{one.promoted_at:%Y-%m-%d %H:%M}  {plain(one.name)}{version} promoted by {plain(one.promoted_by)}{undone}"
        )
        out.print(told, style="dim")


def _show_outcomes(report: Mapping[str, Any]) -> None:
    table = _table("ranked by", "APGR", "95 %", "CPT50", "CPT80", "AIQ", "best arena")
    _rank(table, "router, query alone", report, report["intervals"]["apgr"])
    cascade = report.get("cascade")
    if cascade is not None:
        _rank(table, "router, cascade (both calls paid)", cascade, cascade["intervals"]["apgr"])
    for name, own in report["controls"].items():
        if not name.startswith("always"):
            _rank(table, name.replace("_", " "), own, None)
    out.print(table)
    table = _table("as it stands", "right", "cost", "to large", "arena")
    for name in ("always_small", "always_large"):
        own = report["controls"][name]
        table.add_row(name.replace("_", " "), _pct(100 * own["quality"]), f"{own['cost']:.3f}", "", _num(own["arena"]))
    for name, told in (("query alone, default policy", report), ("cascade, threshold of the fleet", cascade)):
        if told is not None:
            own = told["point"]
            table.add_row(
                name, _pct(100 * own["quality"]), f"{own['cost']:.3f}", _pct(100 * own["to_large"]), _num(own["arena"])
            )
    if pipeline := report.get("pipeline"):
        n = report["n"]
        table.add_row(
            "the fleet's rules, replayed",
            _pct(100 * pipeline["right"] / n),
            f"{pipeline['cost_of_always_large']:.3f}",
            _pct(100 * pipeline["answered"][report["data"]["tiers"][-1]] / n),
            "",
        )
    out.print(table)
    table = _table("believed", "ECE", "by chance", "Brier")
    for trust in [*report["calibration"], *(cascade["calibration"] if cascade else [])]:
        table.add_row(f"P({trust['of']})", _num(trust["ece"]), _num(trust["ece_by_chance"]), _num(trust["brier"]))
    out.print(table)
    out.print(f"Costs are over always asking the large model, by {plain(report['tariff']['source'])}.", style="dim")


def _show_labels(report: Mapping[str, Any]) -> None:
    table = _table("policy", "right tier", "too high", "too low", "weighted loss")
    rows = {"router": report} | report["stages"] | report["controls"]
    for name, own in rows.items():
        inflation, loss = own["cost_inflation"], own["quality_loss"]
        table.add_row(
            name.replace("_", " "),
            _pct(100 * own["accuracy"]),
            f"{inflation['count']:,} ({_pct(100 * inflation['rate'])})",
            f"{loss['count']:,} ({_pct(100 * loss['rate'])})",
            _num(own["weighted_loss"]),
        )
    out.print(table)
    chosen = list(next(iter(report["confusion"].values())))
    table = _table("expected ↓ chosen →", *chosen)
    for due, row in report["confusion"].items():
        table.add_row(plain(due), *(f"{row[tier]:,}" for tier in chosen))
    out.print(table)
    if len(report["categories"]) > 1:
        table = _table("category", "lines", "right tier", "too high", "too low")
        for name, own in sorted(report["categories"].items()):
            table.add_row(
                plain(name),
                f"{own['n']:,}",
                _pct(100 * own["accuracy"]),
                f"{own['cost_inflation']['count']:,}",
                f"{own['quality_loss']['count']:,}",
            )
        out.print(table)


def _rank(table: Table, name: str, own: Mapping[str, Any], interval: Sequence[float] | None) -> None:
    figures = (_num(own["apgr"]), _range(interval), _pct(own["cpt50"]), _pct(own["cpt80"]), _num(own["aiq"]))
    table.add_row(name, *figures, _num(own["arena"]))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _num(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3f}"


def _pct(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f} %"


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
