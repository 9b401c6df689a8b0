"""A chart of a batch's cost and quality, with policies that ignore the query for comparison."""

import math
from typing import Final

from markupsafe import Markup

from db.reports.batch_report import ChartPoint, CostQualityChart
from report import colors
from report.formatting import percent, usd
from report.svg import element, line, svg, text

WIDTH: Final = 980.0
HEIGHT: Final = 380.0
LEFT: Final = 58.0
RIGHT: Final = 30.0
TOP: Final = 20.0
BOTTOM: Final = 52.0
_MIN_DISTANCE: Final = 20.0


def cost_quality(chart: CostQualityChart, tiers: tuple[str, ...]) -> Markup:
    """Draw cost to the right and expected quality upwards. Up and left is better."""
    points = [chart.batch, *chart.alone, *chart.mixed]
    x_step = _step(max(point.cost_usd for point in points) / 5)
    x_end = x_step * math.ceil(max(point.cost_usd for point in points) * 1.04 / x_step)
    y_start = math.floor((min(point.well for point in points) - 0.04) * 10) / 10

    def x(cost_usd: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * cost_usd / x_end

    def y(quality: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - quality) / (1.0 - y_start)

    shapes = []
    for n in range(round((1.0 - y_start) * 10) + 1):
        at = y(y_start + n / 10)
        shapes.append(line(LEFT, at, WIDTH - RIGHT, at, "grid"))
        shapes.append(text(percent(y_start + n / 10, 0), LEFT - 10, at + 4, "small", "end"))
    for n in range(round(x_end / x_step) + 1):
        label = f"${n * x_step:,.6f}".rstrip("0").rstrip(".") if n else "$0"
        shapes.append(text(label, x(n * x_step), HEIGHT - BOTTOM + 20, "small", "middle"))
    shapes.append(text("cost of these queries →", WIDTH - RIGHT, HEIGHT - 8, "axis", "end"))
    shapes.append(text("↑ expected quality", LEFT, HEIGHT - 8, "axis"))
    first, last = chart.alone[0], chart.alone[-1]
    split = "every fixed split between the bottom and the top tier"
    shapes.append(line(x(first.cost_usd), y(first.well), x(last.cost_usd), y(last.well), "split", split))
    label_x, label_y = x((4 * first.cost_usd + last.cost_usd) / 5), y((4 * first.well + last.well) / 5)
    shapes.append(text("fixed split", label_x + 12, label_y + 14, "small"))
    for point in chart.alone:
        color = colors.tier_color(point.name.removeprefix("always "), tiers)
        shapes += _point(point, x(point.cost_usd), y(point.well), f"fill:{color}", flip=point is last)
    above = -_MIN_DISTANCE
    for point in sorted(chart.mixed, key=lambda point: -point.well):
        # The label of a point close to the one above goes below the point.
        is_close = y(point.well) - above < _MIN_DISTANCE
        above = y(point.well)
        style = "fill:var(--paper);stroke:var(--faint);stroke-width:2"
        shapes += _point(point, x(point.cost_usd), above, style, low=is_close)
    shapes += _batch_point(chart.batch, x(chart.batch.cost_usd), y(chart.batch.well))
    listed = "; ".join(_label(point) for point in points)
    return svg(
        "Cost and expected quality of this batch and of the baselines", WIDTH, HEIGHT, *shapes, desc=f"{listed}."
    )


def _label(point: ChartPoint) -> str:
    return f"{point.name}: {usd(point.cost_usd)}, {percent(point.well)}"


def _batch_point(point: ChartPoint, x: float, y: float) -> list[Markup]:
    anchor, shift = ("start", 22) if x < WIDTH * 0.66 else ("end", -22)
    below = 8 if y > TOP + 26 else 24
    return [
        element("circle", cx=x, cy=y, r=15, class_="halo"),
        element("circle", element("title", _label(point)), cx=x, cy=y, r=8, style="fill:var(--accent)"),
        text("this batch", x + shift, y + below - 10, "mark", anchor),
        text(f"{usd(point.cost_usd)} · {percent(point.well)}", x + shift, y + below + 6, "small", anchor),
    ]


def _point(point: ChartPoint, x: float, y: float, style: str, *, flip: bool = False, low: bool = False) -> list[Markup]:
    anchor, shift = ("end", -12) if flip or x > WIDTH * 0.8 else ("start", 12)
    return [
        element("circle", element("title", _label(point)), cx=x, cy=y, r=6, style=style),
        text(point.name, x + shift, y + (18 if flip or low else 5), "label", anchor),
    ]


def _step(minimum: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least ``minimum``."""
    if minimum <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(minimum))
    return next(times * power for times in (1.0, 2.0, 5.0, 10.0) if times * power >= minimum * 0.999)
