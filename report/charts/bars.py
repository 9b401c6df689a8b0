"""Bars: latencies of a tier, confidences, cost by model, a provider's calls over time."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Final
from xml.etree.ElementTree import Element

from db.reports.batch_report import SLOTS, ConfidenceBin, HealthSlot, LatencyBin
from report import colors
from report.formatting import ms, percent_of, usd
from report.html import element

_WIDTH: Final = 300.0


def latency_histogram(
    tier: str, bins: Sequence[LatencyBin], span: tuple[float, float], colour: str, marks: tuple[float, float, float]
) -> Element:
    """How long the calls of one tier took, on the logarithmic scale of ``span`` that all tiers share, in ms."""
    height, base = 120.0, 96.0
    root = _svg(f"Latencies of {tier}", _WIDTH, height)
    root.append(element("desc", f"p50 {ms(marks[0])} ms, p95 {ms(marks[1])} ms, p99 {ms(marks[2])} ms"))
    most = max(each.calls for each in bins)
    slots = max(1, round(_octaves(span[0], span[1]) * 4))
    width = _WIDTH / slots
    for each in bins:
        x = _octaves(span[0], each.from_ms) * 4 * width
        tall = max(1.0, 74 * each.calls / most)
        told = f"{ms(each.from_ms)} to {ms(each.to_ms)} ms: {each.calls:,} calls"
        root.append(
            element(
                "rect",
                element("title", told),
                x=x + 1,
                y=base - tall,
                width=max(1.0, width - 2),
                height=tall,
                rx=1.5,
                style=f"fill:{colour}",
            )
        )
    root.append(element("line", x1=0, x2=_WIDTH, y1=base, y2=base, class_="grid"))
    for n, (name, value) in enumerate(zip(("p50", "p95"), marks, strict=False)):
        x = min(_WIDTH - 1, _octaves(span[0], value) * 4 * width)
        root.append(element("line", x1=x, x2=x, y1=6, y2=base, class_="mark-line"))
        root.append(element("text", name, x=x + (-3 if n == 0 else 3), y=13, class_="tiny", text_anchor=_side(n)))
    root.append(element("text", f"{ms(span[0])} ms", x=0, y=height - 8, class_="tiny"))
    root.append(element("text", f"{ms(span[1])} ms", x=_WIDTH, y=height - 8, class_="tiny", text_anchor="end"))
    return root


def confidence_histogram(bins: Sequence[ConfidenceBin], tiers: Sequence[str]) -> Element:
    """How sure the judge was of the answers, in tenths, the tiers stacked; those without a confidence stand apart."""
    width, height, base = 980.0, 190.0, 158.0
    root = _svg("The judge's confidence in the answers, by tier", width, height, class_="wide")
    heights = [sum(each.answers for each in bins if each.tenth == tenth) for tenth in (*range(10), None)]
    most = max(heights, default=0) or 1
    slot = width / 11.6
    for place, tenth in enumerate((*range(10), None)):
        x = slot * (place + (0.6 if tenth is None else 0))
        y = base
        name = "not told" if tenth is None else f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}"
        for each in sorted((b for b in bins if b.tenth == tenth), key=lambda b: _place(b.tier, tiers)):
            tall = 128 * each.answers / most
            y -= tall
            told = f"{each.tier}, {name}: {each.answers:,} answers, {each.unaccepted:,} of them not accepted"
            colour = colors.tier_color(each.tier, tiers)
            root.append(
                element(
                    "rect",
                    element("title", told),
                    x=x + 3,
                    y=y,
                    width=slot - 6,
                    height=max(0.5, tall - 1),
                    rx=1.5,
                    style=f"fill:{colour}",
                )
            )
        if heights[place]:
            middle = x + slot / 2
            root.append(element("text", f"{heights[place]:,}", x=middle, y=y - 5, class_="small", text_anchor="middle"))
        root.append(element("text", name, x=x + slot / 2, y=base + 17, class_="small", text_anchor="middle"))
    root.append(element("line", x1=0, x2=width, y1=base, y2=base, class_="grid"))
    return root


def cost_bars(costs: Mapping[str, float], colours: Mapping[str, str]) -> Element:
    """What each deployment cost, the dearest first; a name may stand in two tiers."""
    width, row = 980.0, 30.0
    root = _svg("Cost by model", width, row * len(costs) + 4, class_="wide")
    most = max(costs.values(), default=0.0) or 1.0
    total = sum(costs.values())
    for n, (name, cost) in enumerate(costs.items()):
        y = n * row + 4
        long = max(1.0, 500 * cost / most)
        root.append(element("text", name, x=0, y=y + 16, class_="label"))
        root.append(
            element(
                "rect",
                element("title", f"{name}: {usd(cost)}"),
                x=300,
                y=y + 2,
                width=long,
                height=18,
                rx=2,
                style=f"fill:{colours[name]}",
            )
        )
        root.append(element("text", f"{usd(cost)} · {percent_of(cost, total)}", x=310 + long, y=y + 16, class_="small"))
    return root


def health_strip(provider: str, slots: Sequence[HealthSlot], most: int) -> Element:
    """A provider's calls over the batch's time: answered ones upwards, failed ones below the line."""
    width, base, tall = 980.0, 46.0, 42.0
    failed = sum(slot.failed for slot in slots)
    root = _svg(f"{provider}: calls over time", width, 68.0, class_="wide")
    root.append(element("desc", f"{sum(slot.calls for slot in slots):,} calls, {failed:,} of them failed"))
    step = width / SLOTS
    for slot in slots:
        told = f"part {slot.slot + 1} of {SLOTS}: {slot.calls:,} calls, {slot.failed:,} failed"
        up, down = tall * (slot.calls - slot.failed) / most, tall * slot.failed / most
        x = slot.slot * step + 1
        bar = element("g", element("title", told))
        if up:
            bar.append(element("rect", x=x, y=base - up, width=step - 2, height=up, rx=1.5, style="fill:var(--good)"))
        if down:
            deep = min(20.0, max(3.0, down))
            bar.append(element("rect", x=x, y=base + 2, width=step - 2, height=deep, rx=1.5, style="fill:var(--bad)"))
        root.append(bar)
    root.append(element("line", x1=0, x2=width, y1=base + 1, y2=base + 1, class_="grid"))
    return root


def _svg(title: str, width: float, height: float, class_: str | None = None) -> Element:
    return element("svg", element("title", title), viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", class_=class_)


def _octaves(low: float, high: float) -> float:
    return log2(max(high, 1e-9) / max(low, 1e-9))


def _side(n: int) -> str:
    return "end" if n == 0 else "start"


def _place(tier: str, tiers: Sequence[str]) -> int:
    return tiers.index(tier) if tier in tiers else len(tiers)
