// One batch, named by the fragment of the address: its report, read again every few seconds while it is open.
import { actions } from "./actions.js";
import { byId, draw, h, named, redraw, table } from "./dom.js";
import { NONE, count, duration, latency, money, percent } from "./format.js";
import { asked } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import { measure, useTiers, workloadLink } from "./panels.js";
import { learnRole } from "./role.js";
import { showTimeline } from "./timeline.js";

const EVERY_MS = 3000;
const FOUND = 50;
const id = named();
let ladder = [];
let searches = 0;
const fact = (name, ...content) => [h("dt", {}, name), h("dd", {}, content)];
const empty = (words) => h("p", { class: "empty" }, words);

// The report as a row of the dashboard has it, for the buttons.
const row = (report) => ({ id: report.batch_id, source: report.source, ended_at: report.ended_at, cancelled_at: report.cancelled && report.open ? true : null,
  paused_at: report.paused, held: report.budget.held, open: report.open, failed: report.failed });

// As a share of the top tier's cost, and its range; before the top tier has answered, only the range is known.
export function saving({ saving_share: share, saving_range: range, baseline_is_guess: isGuess }) {
  if (share === null) return "";
  const isLoss = share < 0 && !isGuess;
  const ends = range && (isLoss ? [-range[1], -range[0]] : range).map((end) => percent(end)).join(" to ");
  if (isGuess) return ends ? `; saving ${ends}` : "";
  return `; ${percent(Math.abs(share))} ${isLoss ? "more" : "saved"}${ends ? ` (${ends})` : ""}`;
}

function sum(report) {
  const { budget, quality_measured: measured, quality_interval: interval } = report;
  const own = budget.budget;
  return [
    h("dl", { class: "facts", id: "facts" },
      fact("queries", `${count(report.completed)} done, ${count(report.failed)} failed, ${count(report.cancelled)} cancelled, ${count(report.open)} open of ${count(report.total)}`),
      fact("cost", h("b", {}, money(report.cost_usd)), ` in ${count(report.calls)} calls`),
      fact("top tier alone", report.embeddings.calls ? "does not return embeddings" : [report.baseline_is_guess ? "not known until it has answered" : money(report.baseline_cost_usd - report.unconfirmed.baseline_usd + report.unconfirmed.usual_baseline_usd), report.baseline_range_usd ? `, ${report.baseline_range_usd.map(money).join(" to ")}` : "",
        saving(report)]),
      fact("budget", own ? `${money(own.left_usd)} left of ${money(own.cap_usd)}` : "none", budget.held ? `; ${count(budget.held)} queries held` : ""),
      fact("quality", report.quality_floor === null ? "no floor" : `${report.certificate?.outcome === "top_tier" ? "answered by the top tier alone" : measured === null ? "not measured yet" : measure(measured, interval)}, floor ${percent(report.quality_floor, 0)}${report.quality_departures ? `: not promised, because ${count(report.quality_departures)} queries departed from the policy to stay within the budget` : ""}`),
      fact("escalated", `${count(report.escalated)} queries`),
      fact("time", `${duration(report.wall_s)}; ${report.ended_at ? "ended" : report.paused ? "paused" : "running"}`)),
    actions(row(report)),
  ];
}

const tiers = (rows) => table("Tiers", ["tier", "answers", "calls", "failed calls", "cost", "p50", "p95"], Object.entries(rows).map(([name, tier]) => [
  name, count(tier.answered), count(tier.calls), count(tier.failed_calls), money(tier.cost_usd), latency(tier.latency_ms?.p50), latency(tier.latency_ms?.p95)]));

const workloads = (rows) => (rows.length ? table("Workloads", ["workload", "queries", "answered", "escalated", "cost", "labels", "grade"], rows.map((one) => [
  workloadLink(one.workload), count(one.queries), count(one.answered), count(one.escalated), money(one.cost_usd), count(one.labels), one.grade === null ? NONE : percent(one.grade)]))
  : empty("None yet."));

const failures = (rows) => (rows.length ? table("Failed lines", ["reason", ["state", "left"], "lines", ["for example", "left"]], rows.map((one) => [
  [one.reason, "wraps"], [one.state, "left"], count(one.queries), [h("code", {}, one.example), "left"]]))
  : empty("No line has failed."));

async function load() {
  try {
    const report = await asked(`/v1/pointsman/batches/${encodeURIComponent(id)}/report`);
    document.title = `${report.source} · Pointsman`;
    byId("batch-title").textContent = report.source;
    byId("of").textContent = `${report.batch_id}${report.simulated ? ", simulated" : ""}`;
    ladder = Object.keys(report.tiers);
    useTiers(ladder);
    draw("sum", report, sum);
    draw("tiers", report.tiers, tiers);
    draw("workloads", report.workloads, workloads);
    draw("failures", report.failures, failures);
  } catch (error) {
    if (error.status === 401) openKeyForm();
    byId("of").textContent = error.message;
  }
  setTimeout(load, EVERY_MS);
}

const matches = (rows) => table("Queries found", [["custom_id", "left"], ["state", "left"], ["tier", "left narrow-off"], ["escalations", "narrow-off"], ["reason", "left"]], rows.map((row) => [
  h("button", { type: "button", "aria-label": `Timeline of ${row.custom_id}`, onclick: () => showTimeline(id, row.custom_id, ladder) }, row.custom_id),
  [row.state, "left"], [row.tier ?? NONE, "left narrow-off"], [count(row.escalations), "narrow-off"], [row.reason ?? NONE, "left reason"]]));

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const part of ["matches", "timeline"]) byId(part).replaceChildren();
  byId("found").textContent = "Searching…";
  const search = ++searches;
  const wanted = [["custom_id", "custom-id"], ["reason", "reason"], ["state", "state"]].map(([name, field]) => [name, byId(field).value.trim()]).filter(([, value]) => value);
  try {
    const { data, has_more: more } = await asked(`/v1/pointsman/batches/${encodeURIComponent(id)}/queries?${new URLSearchParams([...wanted, ["limit", FOUND]])}`);
    if (search !== searches) return; // an earlier one, or of another key
    byId("found").textContent = more ? `The first ${count(data.length)}; there are more.` : `${count(data.length)} found.`;
    if (data.length) byId("matches").replaceChildren(matches(data));
  } catch (error) {
    if (search !== searches) return;
    byId("found").textContent = `Search failed: ${error.message}`;
  }
});

// What is drawn before the role is known has no buttons.
const learn = () => learnRole().then(redraw);

addEventListener("hashchange", () => location.reload());
keyForm(() => {
  searches++;
  for (const part of ["sum", "tiers", "workloads", "failures", "found", "matches", "timeline"]) byId(part).replaceChildren();
  redraw();
  learn();
});
learn().then(load);
