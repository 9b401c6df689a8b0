"""Bar charts: latencies of a tier, confidences, cost by model, calls of a provider over time."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Final

from markupsafe import Markup

from db.reports.batch_report import SLOTS, ConfidenceBin, HealthSlot, LatencyBin
from report import colors
from report.formatting import ms, percent_of, usd
from report.svg import element, line, rect, svg, text

_SMALL: Final = 300.0
_WIDE: Final = 980.0


def latency_histogram(
    tier: str,
    bins: Sequence[LatencyBin],
    span: tuple[float, float],
    color: str,
    percentiles: tuple[float, float, float],
) -> Markup:
    """Draw latencies of the calls of one tier, on the logarithmic scale of ``span``, in ms, that all tiers share."""
    height, base = 120.0, 96.0
    peak = max(bin_.calls for bin_ in bins)
    width = _SMALL / max(1, round(_octaves(span[0], span[1]) * 4))
    shapes = []
    for bin_ in bins:
        bar = max(1.0, 74 * bin_.calls / peak)
        title = f"{ms(bin_.from_ms)} to {ms(bin_.to_ms)} ms: {bin_.calls:,} calls"
        x = _octaves(span[0], bin_.from_ms) * 4 * width + 1
        shapes.append(rect(x, base - bar, max(1.0, width - 2), bar, color, title))
    shapes.append(line(0, base, _SMALL, base, "grid"))
    for name, value, shift, anchor in (("p50", percentiles[0], -3, "end"), ("p95", percentiles[1], 3, "start")):
        x = min(_SMALL - 1, _octaves(span[0], value) * 4 * width)
        shapes += [line(x, 6, x, base, "mark-line"), text(name, x + shift, 13, "tiny", anchor)]
    shapes.append(text(f"{ms(span[0])} ms", 0, height - 8, "tiny"))
    shapes.append(text(f"{ms(span[1])} ms", _SMALL, height - 8, "tiny", "end"))
    desc = "p50 {} ms, p95 {} ms, p99 {} ms".format(*map(ms, percentiles))
    return svg(f"Latencies of {tier}", _SMALL, height, *shapes, desc=desc, wide=False)


def confidence_histogram(bins: Sequence[ConfidenceBin], tiers: Sequence[str]) -> Markup:
    """Draw the judge's confidence in tenths, with tiers stacked. Answers without a confidence have their own bar."""
    base = 158.0
    tenths = (*range(10), None)
    totals = [sum(bin_.answers for bin_ in bins if bin_.tenth == tenth) for tenth in tenths]
    peak = max(totals, default=0) or 1
    slot = _WIDE / 11.6
    shapes = []
    for place, (tenth, total) in enumerate(zip(tenths, totals, strict=True)):
        x = slot * (place + (0.6 if tenth is None else 0))
        y = base
        name = tenth_label(tenth)
        for bin_ in sorted((bin_ for bin_ in bins if bin_.tenth == tenth), key=lambda b: colors.rank(b.tier, tiers)):
            bar = 128 * bin_.answers / peak
            y -= bar
            title = f"{bin_.tier}, {name}: {bin_.answers:,} answers, {bin_.unaccepted:,} not accepted"
            color = colors.tier_color(bin_.tier, tiers)
            shapes.append(rect(x + 3, y, slot - 6, max(0.5, bar - 1), color, title))
        if total:
            shapes.append(text(f"{total:,}", x + slot / 2, y - 5, "small", "middle"))
        shapes.append(text(name, x + slot / 2, base + 17, "small", "middle"))
    shapes.append(line(0, base, _WIDE, base, "grid"))
    return svg("The judge's confidence in the answers, by tier", _WIDE, 190, *shapes)


def tenth_label(tenth: int | None) -> str:
    """Return the range of confidence of a `ConfidenceBin`."""
    return "none" if tenth is None else f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}"


def cost_bars(costs: Mapping[str, float], fills: Mapping[str, str]) -> Markup:
    """Draw the cost of each deployment. A name may occur in two tiers."""
    row = 30.0
    peak = max(costs.values(), default=0.0) or 1.0
    total = sum(costs.values())
    shapes = []
    for n, (name, cost) in enumerate(costs.items()):
        y = n * row + 4
        bar = max(1.0, 500 * cost / peak)
        shapes.append(text(name, 0, y + 16, "label"))
        shapes.append(rect(300, y + 2, bar, 18, fills[name], f"{name}: {usd(cost)}", rx=2))
        shapes.append(text(f"{usd(cost)} · {percent_of(cost, total)}", 310 + bar, y + 16, "small"))
    return svg("Cost by model", _WIDE, row * len(costs) + 4, *shapes)


def health_strip(provider: str, slots: Sequence[HealthSlot], peak: int) -> Markup:
    """Draw calls of a provider over the time of the batch: answered calls above the line, failed ones below."""
    base, height = 46.0, 42.0
    width = _WIDE / SLOTS - 2
    shapes = []
    for slot in slots:
        title = f"part {slot.slot + 1} of {SLOTS}: {slot.calls:,} calls, {slot.failed:,} failed"
        up, down = height * (slot.calls - slot.failed) / peak, height * slot.failed / peak
        x = slot.slot * (width + 2) + 1
        bars = [rect(x, base - up, width, up, "var(--good)")] if up else []
        bars += [rect(x, base + 2, width, min(20.0, max(3.0, down)), "var(--bad)")] if down else []
        shapes.append(element("g", element("title", title), *bars))
    shapes.append(line(0, base + 1, _WIDE, base + 1, "grid"))
    desc = f"{sum(slot.calls for slot in slots):,} calls, {sum(slot.failed for slot in slots):,} failed"
    return svg(f"{provider}: calls over time", _WIDE, 68, *shapes, desc=desc)


def _octaves(low: float, high: float) -> float:
    return log2(max(high, 1e-9) / max(low, 1e-9))
