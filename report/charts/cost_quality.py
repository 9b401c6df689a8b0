"""Where a batch stands between cost and quality, beside policies that do not look at the query."""

import math
from typing import Final
from xml.etree.ElementTree import Element

from db.reports.batch_report import ChartPoint, CostQualityChart
from report.formatting import percent, usd
from report.html import element

WIDTH: Final = 980.0
HEIGHT: Final = 380.0
LEFT: Final = 58.0
RIGHT: Final = 30.0
TOP: Final = 20.0
BOTTOM: Final = 52.0
_APART: Final = 20.0


def cost_quality(picture: CostQualityChart, tiers: tuple[str, ...]) -> Element:
    """The picture: cost to the right, expected quality upwards; up and left is better."""
    places = [picture.batch, *picture.alone, *picture.mixed]
    x_step = _step(max(place.cost_usd for place in places) / 5)
    x_end = x_step * math.ceil(max(place.cost_usd for place in places) * 1.04 / x_step)
    y_end = 1.0
    y_start = math.floor((min(place.well for place in places) - 0.04) * 10) / 10

    def x(cost: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * cost / x_end

    def y(well: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (y_end - well) / (y_end - y_start)

    told = "; ".join(f"{place.name}: {usd(place.cost_usd)}, {percent(place.well)}" for place in places)
    root = element(
        "svg",
        element("title", "Cost and expected quality of this batch and of its controls"),
        element("desc", f"{told}."),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        class_="wide",
    )
    for n in range(round((y_end - y_start) * 10) + 1):
        well = y_start + n / 10
        root.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(well), y2=y(well), class_="grid"))
        root.append(element("text", percent(well, 0), x=LEFT - 10, y=y(well) + 4, class_="small", text_anchor="end"))
    for n in range(round(x_end / x_step) + 1):
        at = x(n * x_step)
        label = f"${n * x_step:,.6f}".rstrip("0").rstrip(".") if n else "$0"
        root.append(element("text", label, x=at, y=HEIGHT - BOTTOM + 20, class_="small", text_anchor="middle"))
    root.append(
        element("text", "cost of these queries →", x=WIDTH - RIGHT, y=HEIGHT - 8, class_="axis", text_anchor="end")
    )
    root.append(element("text", "↑ expected to be answered well", x=LEFT, y=HEIGHT - 8, class_="axis"))
    first, last = picture.alone[0], picture.alone[-1]
    root.append(
        element(
            "line",
            element("title", "a fixed split between the bottom and the top tier: every share of it"),
            x1=x(first.cost_usd),
            y1=y(first.well),
            x2=x(last.cost_usd),
            y2=y(last.well),
            class_="split",
        )
    )
    low = ChartPoint("", (4 * first.cost_usd + last.cost_usd) / 5, (4 * first.well + last.well) / 5)
    root.append(element("text", "fixed split", x=x(low.cost_usd) + 12, y=y(low.well) + 14, class_="small"))
    for place in picture.alone:
        tier = place.name.removeprefix("always ")
        colour = f"var(--tier-{tiers.index(tier) % 6})" if tier in tiers else "var(--faint)"
        root.extend(_point(place, x(place.cost_usd), y(place.well), colour, flip=place is last))
    above = -_APART
    for place in sorted(picture.mixed, key=lambda place: -place.well):
        # Two labels side by side would run into each other: the lower point's goes below it.
        close = y(place.well) - above < _APART
        above = y(place.well)
        root.extend(_point(place, x(place.cost_usd), above, "var(--faint)", hollow=True, low=close))
    batch = picture.batch
    at, up = x(batch.cost_usd), y(batch.well)
    root.append(element("circle", cx=at, cy=up, r=15, class_="halo"))
    root.append(
        element(
            "circle",
            element("title", f"this batch: {usd(batch.cost_usd)}, {percent(batch.well)}"),
            cx=at,
            cy=up,
            r=8,
            style="fill:var(--accent)",
        )
    )
    anchor = "start" if at < WIDTH * 0.66 else "end"
    shift = 22 if anchor == "start" else -22
    below = 8 if up > TOP + 26 else 24
    root.append(element("text", "this batch", x=at + shift, y=up + below - 10, class_="mark", text_anchor=anchor))
    root.append(
        element(
            "text",
            f"{usd(batch.cost_usd)} · {percent(batch.well)}",
            x=at + shift,
            y=up + below + 6,
            class_="small",
            text_anchor=anchor,
        )
    )
    return root


def _point(
    place: ChartPoint, x: float, y: float, colour: str, *, flip: bool = False, hollow: bool = False, low: bool = False
) -> list[Element]:
    style = f"fill:var(--paper);stroke:{colour};stroke-width:2" if hollow else f"fill:{colour}"
    title = element("title", f"{place.name}: {usd(place.cost_usd)}, {percent(place.well)}")
    anchor = "end" if flip or x > WIDTH * 0.8 else "start"
    shift = -12 if anchor == "end" else 12
    return [
        element("circle", title, cx=x, cy=y, r=6, style=style),
        element("text", place.name, x=x + shift, y=y + (18 if flip or low else 5), class_="label", text_anchor=anchor),
    ]


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least ``rough``."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(times * power for times in (1.0, 2.0, 5.0, 10.0) if times * power >= rough * 0.999)
