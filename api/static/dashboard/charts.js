// Small SVG charts. Each has a label for screen readers; exact figures are in the text beside it.
import { s } from "./dom.js";
import { compact, minute } from "./format.js";

export function sparkline(points, width, label) {
  const height = 30;
  const most = Math.max(...points.map(([, y]) => y), 1);
  const last = points.at(-1)?.[0] ?? 0;
  const x = (at) => width - (last - at) * (width / 120);
  const y = (value) => height - 2 - (value / most) * (height - 4);
  const shown = points.filter(([at]) => x(at) >= 0);
  const line = shown.map(([at, value], n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (shown.length > 1) {
    svg.append(s("path", { class: "under", d: `${line}L${width} ${height}L${x(shown[0][0]).toFixed(1)} ${height}Z` }),
      s("path", { class: "spark", d: line }));
  } else svg.append(s("path", { class: "grid", d: `M0 ${height - 2}H${width}` }));
  return svg;
}

// Bars of several series on top of each other, one bar per step of time. `series`: [name, class, figures].
export function stacked(series, { from, stepS, steps, width, label, least = 2, left = 38, figure = compact, ends = clock }) {
  const [bottom, top, height] = [20, 8, 200];
  const totals = Array.from({ length: steps }, (_, n) => series.reduce((sum, [, , values]) => sum + values[n], 0));
  const most = nice(Math.max(...totals), least);
  const inner = width - left;
  const step = inner / steps;
  const y = (value) => height - bottom - (value / most) * (height - bottom - top);
  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of [0, most / 2, most]) {
    svg.append(s("path", { class: "grid", d: `M${left} ${y(value)}H${width}` }),
      s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
  }
  for (let n = 0; n < steps; n++) {
    let below = 0;
    for (const [, css, values] of series) {
      if (!values[n]) continue;
      const high = y(below) - y(below + values[n]);
      svg.append(s("rect", { class: `bar ${css}`, x: (left + n * step + 0.5).toFixed(1), width: Math.max(step - 1, 1).toFixed(1),
        y: y(below + values[n]).toFixed(1), height: Math.max(high - 0.5, 0.5).toFixed(1) }));
      below += values[n];
    }
  }
  const start = new Date(from).getTime();
  for (const share of [0, 0.5, 1]) {
    const at = start + share * steps * stepS * 1000;
    svg.append(s("text", { x: left + share * inner, y: height - 4, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, ends(at, share === 1)));
  }
  return svg;
}

// Ten bars from 0 to 1: accepted filled, rejected outlined on top; a dashed line at the threshold.
export function histogram({ accepted, rejected, threshold }, css, width, label) {
  const [height, bottom, step] = [92, 16, width / 10];
  const most = Math.max(...accepted.map((n, at) => n + rejected[at]), 1);
  const y = (n) => height - bottom - (n / most) * (height - bottom - 6);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, class: css });
  svg.append(s("path", { class: "grid", d: `M0 ${y(0)}H${width}` }));
  accepted.forEach((n, at) => {
    const x = at * step + 1.5;
    if (n) svg.append(s("rect", { class: "bar", x, width: step - 3, y: y(n).toFixed(1), height: Math.max(y(0) - y(n), 1).toFixed(1) }));
    const r = rejected[at];
    if (r) svg.append(s("rect", { class: "hatch", x: x + 0.6, width: step - 4.2, y: (y(n + r) + 0.6).toFixed(1), height: Math.max(y(n) - y(n + r) - 1.2, 0.5).toFixed(1) }));
  });
  if (threshold !== null && threshold !== undefined) svg.append(s("path", { class: "limit", d: `M${threshold * width} 2V${y(0)}` }));
  svg.append(s("text", { x: 0, y: height - 3 }, "0"), s("text", { x: width / 2, y: height - 3, "text-anchor": "middle" }, "0.5"),
    s("text", { x: width, y: height - 3, "text-anchor": "end" }, "1"));
  return svg;
}

const clock = (at, isNow) => (isNow ? `now, ${minute(at)}` : minute(at));

function nice(value, least) {
  if (value <= 0) return least;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 4, 6, 8, 10].find((step) => value <= step * power);
  return Math.max(step * power, least);
}

