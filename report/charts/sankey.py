"""The flow of a batch's queries as a Sankey diagram: router → first tier → last tier → outcome.

The layout is simple: columns of nodes, heights by the number of queries, one scale for all
columns, and bands in each node in the order of their other ends.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from db.reports.batch_report import QueryFlow
from report import colors
from report.formatting import decider, percent_of
from report.svg import element, rect, svg, text

WIDTH: Final = 980.0
HEIGHT: Final = 400.0
TOP: Final = 34.0
NODE_WIDTH: Final = 12.0
GAP: Final = 30.0
"""Space between two nodes of a column, for labels of two lines."""
LABEL: Final = 128.0
"""Space to the right of the last column."""
MIN_HEIGHT: Final = 2.0

COLUMNS: Final = ("Decided by", "First tier", "Ended at", "Outcome")


@dataclass(slots=True)
class Node:
    """A box. ``entered`` and ``left`` are the parts of its sides, from ``y``, taken by bands."""

    column: int
    name: str
    color: str
    queries: int = 0
    y: float = 0.0
    height: float = 0.0
    entered: float = 0.0
    left: float = 0.0


@dataclass(frozen=True, slots=True)
class SankeyBand:
    """Queries that went from one node to another."""

    start: Node
    end: Node
    queries: int


@dataclass(slots=True)
class Layout:
    """Placed nodes by column, and the bands between them."""

    columns: list[list[Node]]
    bands: list[SankeyBand]
    scale: float = field(default=0.0)


def layout(routes: Sequence[QueryFlow], tiers: Sequence[str]) -> Layout:
    """Place nodes and bands. The queries of each column add up to all queries."""
    nodes: dict[tuple[int, str], Node] = {}
    bands: Counter[tuple[int, str, str]] = Counter()
    for route in routes:
        path = _path(route)
        for column, name in enumerate(path):
            key = (column, name)
            if key not in nodes:
                nodes[key] = Node(column, name, _color(column, name, tiers))
            nodes[key].queries += route.queries
        for column, (start, end) in enumerate(pairwise(path)):
            bands[column, start, end] += route.queries
    columns = [
        sorted((node for node in nodes.values() if node.column == column), key=lambda node: _rank(node, tiers))
        for column in range(len(COLUMNS))
    ]
    total = sum(route.queries for route in routes)
    longest = max((len(column) for column in columns), default=1)
    scale = (HEIGHT - TOP - GAP * longest) / total if total else 0.0
    for nodes_of_column in columns:
        _stack(nodes_of_column, scale)
    order = {id(node): place for column in columns for place, node in enumerate(column)}
    placed = [SankeyBand(nodes[column, a], nodes[column + 1, b], count) for (column, a, b), count in bands.items()]
    placed.sort(key=lambda band: (band.start.column, order[id(band.start)], order[id(band.end)]))
    return Layout(columns, placed, scale)


def sankey(routes: Sequence[QueryFlow], tiers: Sequence[str]) -> Markup:
    plan = layout(routes, tiers)
    total = sum(node.queries for node in plan.columns[0])
    flows = "; ".join(
        f"{band.queries:,} from {band.start.name} to {band.end.name}" for band in plan.bands if band.start.column == 1
    )
    shapes = [text(title, _x(column), 14, "axis") for column, title in enumerate(COLUMNS)]
    shapes += [_band(band, plan.scale) for band in plan.bands]
    for node in (node for column in plan.columns for node in column):
        shapes += _box(node, total)
    desc = f"{total:,} queries by first and last tier: {flows}." if total else "No queries."
    return svg("Flow of the queries: router, first tier, last tier, outcome", WIDTH, HEIGHT, *shapes, desc=desc)


def _path(route: QueryFlow) -> tuple[str, str, str, str]:
    outcome = route.outcome
    if route.router is None:
        return ("not routed", "–", "–", outcome)
    first = route.first_tier or "–"
    return (decider(route.router), first, route.last_tier or first, outcome)


def _color(column: int, name: str, tiers: Sequence[str]) -> str:
    if column == 3:
        return colors.outcome_color(name)
    return colors.tier_color(name, tiers) if column else "var(--ink-2)"


def _rank(node: Node, tiers: Sequence[str]) -> tuple[float, str]:
    if node.column == 3:
        return colors.OUTCOMES.index(node.name), node.name
    if node.column:
        return colors.rank(node.name, tiers), node.name
    return -node.queries, node.name


def _stack(column: Sequence[Node], scale: float) -> None:
    y = TOP
    for node in column:
        node.y, node.height = y, max(MIN_HEIGHT, node.queries * scale)
        y += node.height + GAP


def _x(column: int) -> float:
    return column * (WIDTH - LABEL - NODE_WIDTH) / (len(COLUMNS) - 1)


def _band(band: SankeyBand, scale: float) -> Markup:
    thick = max(1.0, band.queries * scale)
    x1, x2 = _x(band.start.column) + NODE_WIDTH, _x(band.end.column)
    y1, y2 = band.start.y + band.start.left, band.end.y + band.end.entered
    band.start.left += band.queries * scale
    band.end.entered += band.queries * scale
    bend = (x1 + x2) / 2
    path = (
        f"M{x1:.1f},{y1:.1f}C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
        f"V{y2 + thick:.1f}C{bend:.1f},{y2 + thick:.1f} {bend:.1f},{y1 + thick:.1f} {x1:.1f},{y1 + thick:.1f}Z"
    )
    color = band.end.color if band.start.column == 0 else band.start.color
    title = f"{band.start.name} → {band.end.name}: {band.queries:,}"
    return element("path", element("title", title), d=path, class_="band", style=f"fill:{color}")


def _box(node: Node, total: int) -> list[Markup]:
    x = _x(node.column)
    share = f" · {percent_of(node.queries, total)}" if total else ""
    middle = node.y + max(node.height, MIN_HEIGHT) / 2
    title = f"{node.name}: {node.queries:,} of {total:,}"
    return [
        rect(x, node.y, NODE_WIDTH, node.height, node.color, title, rx=2),
        text(node.name, x + NODE_WIDTH + 7, middle - 2, "label"),
        text(f"{node.queries:,}{share}", x + NODE_WIDTH + 7, middle + 12, "small"),
    ]
