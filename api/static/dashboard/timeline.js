// The timeline of one query: its way through the stages as a map, and every event as text.
import { byId, h, s } from "./dom.js";
import { duration, latency, money, words } from "./format.js";
import { errorMessage, request } from "./key.js";
import { hue } from "./panels.js";

// Routers other than trained ones, whose names are free, such as "default".
const RULES = new Set(["gate", "pin", "rule", "ladder", "prior", "llm", "exploration", "budget", "pilot", "quality_policy", "endpoint", "none"]);

const LANE = 54, LEFT = 86, TOP = 44;

// Draws the timeline of a batch's query into the element `timeline`.
export async function showTimeline(batch, customId, tiers) {
  const place = byId("timeline");
  const response = await request(`/v1/pointsman/batches/${encodeURIComponent(batch)}/explain?custom_id=${encodeURIComponent(customId)}`);
  place.replaceChildren(...(response.ok ? timeline(await response.json(), tiers, place.clientWidth) : [h("p", { class: "bad" }, await errorMessage(response))]));
}

function timeline(query, tiers, width) {
  return [h("p", { class: "outcome" }, outcome(query), query.simulated ? [" ", h("span", { class: "tag" }, "simulated")] : null),
    h("p", { class: "below" }, `Line ${query.line} of `, h("code", {}, query.batch_id), `, ${money(query.cost_usd)} in total${query.audit_cost_usd ? `, and ${money(query.audit_cost_usd)} of the batch for its audit` : ""}`),
    map(query, tiers, width), list(query)];
}

function outcome(query) {
  if (query.state === "done") {
    const sure = query.confidence === null ? "" : `, confidence ${query.confidence.toFixed(2)}`;
    return `${query.custom_id}: answered by ${query.model} (${query.tier})${sure}${query.accepted === false ? ", the best available answer" : ""}`;
  }
  return query.finished_at ? `${query.custom_id}: ended ${query.state}` : `${query.custom_id}: ${query.state} at ${query.stage}`;
}

// The stops: where (a stage), what, why, and whether it succeeded (yes, no, or neither).
export function stops(query) {
  const found = [{ where: "route", what: "submitted", why: query.pin ? `pinned to ${query.pin}` : "", sign: "" }];
  for (const event of query.events) found.push(event.event === "call" ? call(event) : decision(event));
  const last = found.at(-1);
  const ok = query.state === "done";
  found.push({ where: query.finished_at ? (ok ? query.tier : last.where) : query.stage, what: query.finished_at ? query.state : `${query.state} …`,
    why: ok ? money(query.cost_usd) : "", sign: ok ? "✓" : query.finished_at ? "✕" : "", well: ok ? "yes" : query.finished_at ? "no" : "" });
  return found;
}

function call(event) {
  const ok = event.outcome === "ok";
  return { where: event.tier, what: event.model, why: (event.kind === "answer" ? "" : `${event.kind}, `) + (event.outcome === null || event.outcome === undefined ? "no outcome yet" : ok ? latency(event.latency_ms) : words(event.outcome)),
    sign: ok ? "" : "!", well: event.outcome && !ok ? "no" : "" };
}

function decision(event) {
  const sure = typeof event.confidence === "number" ? event.confidence.toFixed(2) : "";
  switch (event.kind) {
    case "route":
      return { where: "route", what: `to ${event.tier ?? event.to_stage}`, why: `by ${RULES.has(event.router ?? "none") ? event.router ?? "none" : "the classifier"}`, sign: "⇄" };
    case "judge": {
      const no = event.to_stage === "fallback";
      if (event.sampled) return { where: event.from_stage, what: "answered", why: "for the pilot", sign: "✓" };
      return { where: event.from_stage, what: no ? "rejected" : "accepted", why: no ? words(String(event.reasons?.[0] ?? "").split(":")[0]) : sure, sign: no ? "✕" : "✓", well: no ? "no" : "yes" };
    }
    case "fallback":
      return { where: "fallback", what: event.move === "advance" ? `${event.codes?.includes("pilot") ? "pilot asks" : "up to"} ${event.to_stage}` : event.to_state === "done" ? "best answer" : "gives up", why: "", sign: event.move === "advance" ? "↑" : "" };
    default:
      return { where: event.from_stage, what: words(event.kind), why: words(event.to_state ?? ""), sign: "" };
  }
}

function map(query, tiers, room) {
  const found = stops(query);
  const STEP = Math.max(88, Math.min(130, (room - LEFT) / found.length));
  const used = new Set(found.map((stop) => stop.where));
  const lanes = ["route", ...tiers.filter((tier) => used.has(tier)), "fallback"].filter((lane) => used.has(lane));
  for (const lane of used) if (!lanes.includes(lane)) lanes.push(lane);
  // More expensive tiers are higher; the fallback is at the bottom.
  const order = [...lanes.filter((lane) => tiers.includes(lane)).reverse(), ...lanes.filter((lane) => lane === "route"), ...lanes.filter((lane) => !tiers.includes(lane) && lane !== "route")];
  const [width, height] = [LEFT + found.length * STEP, TOP + order.length * LANE + 2];
  const x = (n) => LEFT + n * STEP + STEP / 2;
  const y = (lane) => TOP + order.indexOf(lane) * LANE;
  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Path: ${found.map((stop) => `${stop.where}: ${stop.what} ${stop.why}`).join("; then ")}` });
  for (const lane of order) {
    svg.append(s("path", { class: "lane", d: `M${LEFT} ${y(lane)}H${width - 8}` }), s("text", { class: "where", x: 0, y: y(lane) + 4 }, lane));
  }
  found.slice(1).forEach((stop, n) => {
    const [x0, y0, x1, y1] = [x(n), y(found[n].where), x(n + 1), y(stop.where)];
    const lane = tiers.includes(stop.where) ? stop.where : found[n].where;
    svg.append(s("path", { class: `way ${tiers.includes(lane) ? hue(lane) : ""}`, d: `M${x0} ${y0}C${x0 + STEP / 2} ${y0} ${x1 - STEP / 2} ${y1} ${x1} ${y1}` }));
  });
  found.forEach((stop, n) => {
    // Paths reach the fallback from above: its labels are below it.
    const [what, why] = stop.where === "fallback" ? [25, 39] : [-16, 23];
    svg.append(s("circle", { class: `stop ${stop.well ?? ""}`, cx: x(n), cy: y(stop.where), r: 9 }), s("text", { class: `sign ${stop.well ?? ""}`, x: x(n), y: y(stop.where) + 4 }, stop.sign),
      s("text", { class: "what", x: x(n), y: y(stop.where) + what }, cut(stop.what)), s("text", { class: "why", x: x(n), y: y(stop.where) + why }, cut(stop.why)));
  });
  return h("div", { class: "map", tabindex: "0", role: "group", "aria-label": "Path of the query" }, svg);
}

const cut = (text) => (text.length > 18 ? `${text.slice(0, 17)}…` : text);

function list(query) {
  const start = new Date(query.submitted_at).getTime();
  return h("ol", { class: "events" }, query.events.map((event) => {
    const stop = event.event === "call" ? call(event) : decision(event);
    const after = Math.max(0, (new Date(event.at).getTime() - start) / 1000);
    return h("li", {}, h("time", {}, `+${duration(after)}`), h("strong", {}, event.event === "call" && event.kind === "answer" ? "call" : words(event.kind)), h("span", { class: "about" }, about(event, stop)),
      event.reasons?.length ? h("ul", {}, event.reasons.map((reason) => h("li", {}, reason))) : null);
  }));
}

function about(event, stop) {
  if (event.event !== "call") return `${stop.where}: ${stop.what}${stop.why ? `, ${stop.why}` : ""}${typeof event.score === "number" ? `, difficulty ${event.score.toFixed(2)}` : ""}`;
  const spent = event.cost_usd ?? event.reserved_usd;
  const tokens = event.prompt_tokens === undefined ? "" : `, ${event.prompt_tokens} + ${event.completion_tokens} tokens`;
  return `${event.provider}/${event.model} (${event.tier}): ${words(event.outcome ?? "no outcome yet")}${tokens}, ${money(spent)}, ${latency(event.latency_ms)}`;
}
