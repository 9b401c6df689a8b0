"""The way of a batch's queries as a Sankey diagram: who decided → first tier → last tier → outcome.

The layout is the plain one: columns of nodes, heights by the number of queries, one scale for all
columns, and in each node the bands in the order of where they come from or go to.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from xml.etree.ElementTree import Element

from db.reports.batch_report import QueryFlow
from report import colors
from report.formatting import decider, percent_of
from report.html import element

WIDTH: Final = 980.0
HEIGHT: Final = 400.0
TOP: Final = 34.0
NODE_WIDTH: Final = 12.0
GAP: Final = 30.0
"""Between two nodes of a column: room for a label of two lines however thin they are."""
LABEL: Final = 128.0
"""Room to the right of the last column."""
LEAST: Final = 2.0

COLUMNS: Final = ("Decided by", "First tier", "Ended at", "Outcome")


@dataclass(slots=True)
class Node:
    """One box; ``entered`` and ``left`` are how far its sides are taken by bands, from ``y``."""

    column: int
    name: str
    colour: str
    queries: int = 0
    y: float = 0.0
    height: float = 0.0
    entered: float = 0.0
    left: float = 0.0


@dataclass(frozen=True, slots=True)
class SankeyBand:
    """So many queries went from one node to another."""

    start: Node
    end: Node
    queries: int


@dataclass(slots=True)
class Layout:
    """Nodes by column, each with its place, and the bands between them."""

    columns: list[list[Node]]
    bands: list[SankeyBand]
    scale: float = field(default=0.0)


def layout(routes: Sequence[QueryFlow], tiers: Sequence[str]) -> Layout:
    """Where everything is. The queries of each column add up to all queries."""
    nodes: dict[tuple[int, str], Node] = {}
    bands: Counter[tuple[int, str, str]] = Counter()
    for route in routes:
        path = _path(route)
        for column, name in enumerate(path):
            key = (column, name)
            if key not in nodes:
                nodes[key] = Node(column, name, _colour(column, name, tiers))
            nodes[key].queries += route.queries
        for column, (start, end) in enumerate(pairwise(path)):
            bands[column, start, end] += route.queries
    columns = [
        sorted((node for node in nodes.values() if node.column == column), key=lambda node: _rank(node, tiers))
        for column in range(len(COLUMNS))
    ]
    total = sum(route.queries for route in routes)
    most = max((len(column) for column in columns), default=1)
    room = HEIGHT - TOP - GAP * most
    scale = room / total if total else 0.0
    for each in columns:
        _stack(each, scale)
    order = {id(node): place for column in columns for place, node in enumerate(column)}
    drawn = [SankeyBand(nodes[column, a], nodes[column + 1, b], count) for (column, a, b), count in bands.items()]
    drawn.sort(key=lambda band: (band.start.column, order[id(band.start)], order[id(band.end)]))
    return Layout(columns, drawn, scale)


def sankey(routes: Sequence[QueryFlow], tiers: Sequence[str]) -> Element:
    """The diagram."""
    plan = layout(routes, tiers)
    total = sum(node.queries for node in plan.columns[0])
    ways = "; ".join(
        f"{band.queries:,} from {band.start.name} to {band.end.name}" for band in plan.bands if band.start.column == 1
    )
    root = element(
        "svg",
        element("title", "The way of the queries: who decided, first tier, last tier, outcome"),
        element("desc", f"Of {total:,} queries, by first and last tier: {ways}." if total else "No queries."),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        class_="wide",
    )
    for column, title in enumerate(COLUMNS):
        root.append(element("text", title, x=_x(column), y=14, class_="axis"))
    for band in plan.bands:
        root.append(_band(band, plan.scale))
    for each in plan.columns:
        for node in each:
            root.extend(_box(node, total))
    return root


def _path(route: QueryFlow) -> tuple[str, str, str, str]:
    outcome = route.outcome
    if route.router is None:
        return ("not routed", "–", "–", outcome)
    first = route.first_tier or "–"
    return (decider(route.router), first, route.last_tier or first, outcome)


def _colour(column: int, name: str, tiers: Sequence[str]) -> str:
    if column == 3:
        return colors.of_outcome(name)
    return colors.tier_color(name, tiers) if column else "var(--ink-2)"


def _rank(node: Node, tiers: Sequence[str]) -> tuple[float, str]:
    if node.column == 3:
        return colors.OUTCOMES.index(node.name), node.name
    if node.column:
        return (tiers.index(node.name) if node.name in tiers else len(tiers)), node.name
    return -node.queries, node.name


def _stack(column: Sequence[Node], scale: float) -> None:
    y = TOP
    for node in column:
        node.y, node.height = y, max(LEAST, node.queries * scale)
        y += node.height + GAP


def _x(column: int) -> float:
    return column * (WIDTH - LABEL - NODE_WIDTH) / (len(COLUMNS) - 1)


def _band(band: SankeyBand, scale: float) -> Element:
    thick = max(1.0, band.queries * scale)
    x1, x2 = _x(band.start.column) + NODE_WIDTH, _x(band.end.column)
    y1, y2 = band.start.y + band.start.left, band.end.y + band.end.entered
    band.start.left += band.queries * scale
    band.end.entered += band.queries * scale
    bend = (x1 + x2) / 2
    way = (
        f"M{x1:.1f},{y1:.1f}C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
        f"V{y2 + thick:.1f}C{bend:.1f},{y2 + thick:.1f} {bend:.1f},{y1 + thick:.1f} {x1:.1f},{y1 + thick:.1f}Z"
    )
    colour = band.end.colour if band.start.column == 0 else band.start.colour
    told = f"{band.start.name} → {band.end.name}: {band.queries:,}"
    return element("path", element("title", told), d=way, class_="band", style=f"fill:{colour}")


def _box(node: Node, total: int) -> list[Element]:
    x = _x(node.column)
    share = f" · {percent_of(node.queries, total)}" if total else ""
    middle = node.y + max(node.height, LEAST) / 2
    return [
        element(
            "rect",
            element("title", f"{node.name}: {node.queries:,} of {total:,}"),
            x=x,
            y=node.y,
            width=NODE_WIDTH,
            height=node.height,
            rx=2,
            style=f"fill:{node.colour}",
        ),
        element("text", node.name, x=x + NODE_WIDTH + 7, y=middle - 2, class_="label"),
        element("text", f"{node.queries:,}{share}", x=x + NODE_WIDTH + 7, y=middle + 12, class_="small"),
    ]
