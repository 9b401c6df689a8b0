"""The timeline of one query as a tree of sentences."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from rich.text import Text
from rich.tree import Tree
from sqlalchemy import Row

from cli.console import plain
from db.reports.json_views import alias_of, cost_usd
from report.failed_calls import failure
from report.formatting import PURPOSES, RULES
from routing.lifecycle import FALLBACK, ROUTE
from routing.reason import ReasonCode, is_sampled

_MARKS = {
    "done": ("✔", "green"),
    "failed": ("✘", "red"),
    "dead": ("✘", "red"),
    "cancelled": ("■", "yellow"),
    "expired": ("■", "yellow"),
}
_IGNORE_DIFFICULTY = frozenset({"pin", "rule", "endpoint", "pilot", "quality_policy"})
"""Routers that do not look at a query's difficulty."""


def draw(query: Row[Any], events: Sequence[Row[Any]]) -> Tree:
    """Draw one branch per event, with its reasons below."""
    title = Text.assemble(
        ("Query ", "bold"),
        (plain(query.custom_id), "bold cyan"),
        f" · {query.public_id} line {query.line} · no. {query.id}",
    )
    if query.simulated:
        title.append(" · simulated", "yellow")
    tree = Tree(title, guide_style="dim")
    pinned = f"pinned to {plain(query.pin)}" if query.pin else ""
    if (alias := alias_of(query)) is not None:
        pinned = f"{pinned or 'to be routed'} (by the fleet's alias for {plain(alias)})"
    tree.add(_line(0.0, "submitted", pinned))
    for row in events:
        after_s = max(0.0, (row.at - query.submitted_at).total_seconds())
        heading, reasons = _call(row) if row.event == "call" else _decision(row)
        branch = tree.add(_line(after_s, *heading))
        for reason in reasons:
            branch.add(Text(plain(reason), style="dim"))
    tree.add(_end(query, events))
    return tree


def _line(after_s: float, event: str, text: str, style: str = "bold") -> Text:
    return Text.assemble((f"+{after_s:7.3f} s  ", "dim"), (f"{event:<9} ", style), text)


def _call(row: Row[Any]) -> tuple[tuple[str, str, str], list[str]]:
    lane = f", lane {row.lane}" if row.lane else ""
    model = plain(f"{row.provider}/{row.model} ({row.tier}{lane})")
    kind = row.kind if row.kind in PURPOSES else "call"
    reasons = [*filter(None, [PURPOSES.get(row.kind)]), *(row.reasons or ())]
    if row.outcome is None:
        worst = f"${float(row.reserved_usd):.6f}"
        return (kind, f"{model}: no outcome yet, counted at its maximum cost {worst}", "bold yellow"), reasons
    latency = f"{row.latency_ms:,.0f} ms" if row.latency_ms is not None else "?"
    if row.lane == "batch":
        latency = "in a provider batch"
    cost = f"${float(row.cost_usd):.6f}"
    if row.outcome == "ok":
        confidence = f", model confidence {row.confidence:.2f}" if row.confidence is not None else ""
        tokens = f"{row.prompt_tokens:,} + {row.completion_tokens:,} tokens"
        kinds = (
            ("cached", row.cached_tokens),
            ("written to a cache", (row.cache_write_tokens or 0) + (row.cache_write_1h_tokens or 0)),
            ("reasoning", row.reasoning_tokens),
            ("sound", row.audio_tokens),
        )
        if parts := ", ".join(f"{count:,} {label}" for label, count in kinds if count):
            tokens += f" ({parts})"
        if row.service_tier:
            tokens += f", service tier {plain(row.service_tier)}"
        ended = f", ended by {plain(row.finish_reason)}" if row.finish_reason not in (None, "stop") else ""
        return (kind, f"{model}: {tokens}, {cost}, {latency}{confidence}{ended}", "bold"), reasons
    failed = failure(row.outcome, row.status, row.cause, row.param)
    return (kind, f"{model}: {failed}, {cost}, {latency}", "bold red"), reasons


def _decision(row: Row[Any]) -> tuple[tuple[str, str, str], list[str]]:
    reasons = [_explained(code, reason) for code, reason in zip_longest(row.codes, row.reasons, fillvalue="")]
    confidence = f", confidence {row.confidence:.2f}" if row.confidence is not None else ""
    match row.kind:
        case "route":
            is_read = row.score is not None and row.router not in _IGNORE_DIFFICULTY
            score = f"difficulty {row.score:.2f}" if is_read else ""
            by = ", ".join(part for part in (_by(row.router), score) if part)
            return ("routed", f"to {plain(row.tier or row.to_stage)} {by}{confidence}".rstrip(), "bold blue"), reasons
        case "judge":
            accepted = row.to_stage != FALLBACK
            if not accepted and is_sampled(row.codes):
                return ("answered", f"for the pilot, so the next tier is asked too{confidence}", "bold blue"), reasons
            verdict = "accepted" if accepted else "rejected"
            return ("judged", f"{verdict}{confidence}", "bold green" if accepted else "bold magenta"), reasons
        case "embed":
            return ("accepted", "without a judge", "bold green"), reasons
        case "fallback":
            return _fallback(row), reasons
        case "account":
            return (
                "held",
                f"at {plain(row.to_stage)}, because the provider refuses the account",
                "bold yellow",
            ), reasons
        case _:
            to = "" if row.from_stage == row.to_stage else f" to {row.to_stage}"
            by = f" by {row.router}" if row.router else ""
            move = "" if row.move == row.kind and not to else f"{row.move}{to}, "
            return (plain(row.kind.replace("_", " ")), f"{move}now {row.to_state}{by}", "bold"), reasons


def _by(router: str | None) -> str:
    """Return the router. A trained one is marked, because its name may be any word, such as "default"."""
    if not router:
        return ""
    return f"by {plain(router)}" if router in RULES else f"by the classifier ({plain(router)})"


def _explained(code: str, reason: str) -> str:
    # Added here, not in the log, which holds this line for each of a million queries.
    return f"{reason} (lower is better)" if code == ReasonCode.EXPECTED_LOSS else reason


def _fallback(row: Row[Any]) -> tuple[str, str, str]:
    if row.move == "advance" and ReasonCode.PILOT in row.codes:
        return "pilot", f"asks {plain(row.to_stage)} too", "bold blue"
    if row.move == "advance":
        return "escalated", f"to {plain(row.to_stage)}", "bold magenta"
    if row.to_state == "done":
        return "fallback", f"kept the best answer ({plain(row.tier or '?')})", "bold yellow"
    return "fallback", "failed", "bold red"


def _end(query: Row[Any], events: Sequence[Row[Any]]) -> Text:
    mark, style = _MARKS.get(query.state, ("…", "yellow"))
    if query.state == "done":
        confidence = f", confidence {query.answer_confidence:.2f}" if query.answer_confidence is not None else ""
        doubt = "" if query.accepted else ", not accepted by the judge"
        model, tier = plain(query.answer_model or "?"), plain(query.answer_tier or "?")
        text = f"answered by {model} ({tier}){confidence}{doubt}"
    elif query.follows is not None:
        text = f"waits for the answer to the identical query {plain(query.follows)}"
    else:
        stage = {ROUTE: "routing", FALLBACK: "the fallback"}.get(query.stage, f"tier {plain(query.stage)}")
        text = f"{'ended ' if query.finished_at is not None else ''}{query.state} at {stage}"
    audit_usd = cost_usd(events, audits=True)
    audit = f", and ${audit_usd:.6f} of the batch for its audit" if audit_usd else ""
    return Text.assemble((f"{mark} ", f"bold {style}"), f"{text} · ${cost_usd(events):.6f} in total{audit}")
