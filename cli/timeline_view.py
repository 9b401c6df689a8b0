"""Tells the story of one query: from what the log has of it to sentences."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree
from sqlalchemy import Row

from cli.console import plain
from db.reports.json_views import cost_usd
from report.formatting import RULES
from routing.lifecycle import FALLBACK, ROUTE

_MARKS = {
    "done": ("✔", "green"),
    "failed": ("✘", "red"),
    "dead": ("✘", "red"),
    "cancelled": ("■", "yellow"),
    "expired": ("■", "yellow"),
}


def draw(query: Row[Any], events: Sequence[Row[Any]]) -> Tree:
    """The story as a tree: one branch per event, its reasons below it."""
    title = Text.assemble(
        ("Query ", "bold"),
        (plain(query.custom_id), "bold cyan"),
        f" · {query.handle} line {query.line} · no. {query.id}",
    )
    if query.simulated:
        title.append(" · simulated", "yellow")
    tree = Tree(title, guide_style="dim")
    tree.add(_told(0.0, "submitted", f"asked for {plain(query.pin)} by name" if query.pin else ""))
    for row in events:
        after_s = _after(query.submitted_at, row.at)
        heading, reasons = _call(row) if row.event == "call" else _decision(row)
        branch = tree.add(_told(after_s, *heading))
        for reason in reasons:
            branch.add(Text(plain(_clear(reason)), style="dim"))
    tree.add(_end(query, events))
    return tree


def _after(start: datetime, at: datetime) -> float:
    return max(0.0, (at - start).total_seconds())


def _told(after_s: float, what: str, words: str, style: str = "bold") -> Text:
    return Text.assemble((f"+{after_s:7.3f} s  ", "dim"), (f"{what:<10}", style), words)


def _call(row: Row[Any]) -> tuple[tuple[str, str, str], list[str]]:
    who = plain(f"{row.provider}/{row.model} ({row.tier})")
    if row.outcome is None:
        worst = f"${float(row.reserved_usd):.6f}"
        return ("call", f"{who}: no outcome yet, counted at its worst case {worst}", "bold yellow"), []
    took = f"{row.latency_ms:,.0f} ms" if row.latency_ms is not None else "?"
    spent = f"${float(row.cost_usd):.6f}"
    kind = "hedge" if row.kind == "hedge" else "call"
    if row.outcome == "ok":
        sure = f", model confidence {row.confidence:.2f}" if row.confidence is not None else ""
        tokens = f"{row.prompt_tokens:,} + {row.completion_tokens:,} tokens"
        kinds = (
            ("cached", row.cached_tokens),
            ("written to a cache", (row.cache_write_tokens or 0) + (row.cache_write_1h_tokens or 0)),
            ("reasoning", row.reasoning_tokens),
            ("sound", row.audio_tokens),
        )
        if told := ", ".join(f"{count:,} {kind}" for kind, count in kinds if count):
            tokens += f" ({told})"
        if row.service_tier:
            tokens += f", service tier {plain(row.service_tier)}"
        ended = f", ended by {plain(row.finish_reason)}" if row.finish_reason not in (None, "stop") else ""
        return (kind, f"{who}: {tokens}, {spent}, {took}{sure}{ended}", "bold"), []
    causes = [f"HTTP {row.status}" if row.status else "", row.cause or "", f"field {row.param}" if row.param else ""]
    cause = f" ({plain(', '.join(filter(None, causes)))})" if any(causes) else ""
    return (kind, f"{who}: {row.outcome.replace('_', ' ')}{cause}, {spent}, {took}", "bold red"), []


def _decision(row: Row[Any]) -> tuple[tuple[str, str, str], list[str]]:
    reasons = list(row.reasons)
    sure = f", confidence {row.confidence:.2f}" if row.confidence is not None else ""
    match row.kind:
        case "route":
            score = f"difficulty {row.score:.2f}" if row.score is not None else ""
            by = ", ".join(part for part in (_by(row.router), score) if part)
            return ("routed", f"to {plain(row.tier or row.to_stage)} {by}{sure}".rstrip(), "bold blue"), reasons
        case "judge":
            accepted = row.to_stage != FALLBACK
            verdict = "accepted" if accepted else "rejected"
            return ("judged", f"{verdict}{sure}", "bold green" if accepted else "bold magenta"), reasons
        case "fallback":
            return _fallback(row), reasons
        case "account":
            return ("held", f"at {plain(row.to_stage)}: the account is refused", "bold yellow"), reasons
        case _:
            to = "" if row.from_stage == row.to_stage else f" to {row.to_stage}"
            by = f" by {row.router}" if row.router else ""
            did = "" if row.move == row.kind and not to else f"{row.move}{to}, "
            return (plain(row.kind.replace("_", " ")), f"{did}now {row.to_state}{by}", "bold"), reasons


def _by(router: str | None) -> str:
    """Who routed it. A trained router is told as such: its name may be any word, such as "default"."""
    if not router:
        return ""
    return f"by {plain(router)}" if router in RULES else f"by the classifier ({plain(router)})"


def _clear(reason: str) -> str:
    # Said here and not in the log, which has this line for each of a million queries.
    loss = "expected loss: "
    return f"expected loss (lower is better): {reason.removeprefix(loss)}" if reason.startswith(loss) else reason


def _fallback(row: Row[Any]) -> tuple[str, str, str]:
    if row.move == "advance":
        return "escalated", f"to {plain(row.to_stage)}", "bold magenta"
    if row.to_state == "done":
        return "fallback", f"took the best answer there was ({plain(row.tier or '?')})", "bold yellow"
    return "fallback", "gave up", "bold red"


def _end(query: Row[Any], events: Sequence[Row[Any]]) -> Text:
    mark, style = _MARKS.get(query.state, ("…", "yellow"))
    spent = f"${cost_usd(events):.6f}"
    if query.state == "done":
        sure = f", confidence {query.answer_confidence:.2f}" if query.answer_confidence is not None else ""
        doubt = "" if query.accepted else ", the best that was to be had"
        told = f"answered by {plain(query.answer_model or '?')} ({plain(query.answer_tier or '?')}){sure}{doubt}"
    elif query.finished_at is not None:
        told = f"ended {query.state} at {_stage(query)}"
    else:
        told = f"{query.state} at {_stage(query)}"
    return Text.assemble((f"{mark} ", f"bold {style}"), f"{told} · {spent} in all")


def _stage(query: Row[Any]) -> str:
    return {ROUTE: "routing", FALLBACK: "the fallback"}.get(query.stage, f"tier {plain(query.stage)}")
