// One batch, named by the fragment of the address: its report, read again every few seconds while it is open.
import { actions } from "./actions.js";
import { byId, draw, h, redraw, table } from "./dom.js";
import { NONE, count, duration, latency, money, percent } from "./format.js";
import { asked } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";

const EVERY_MS = 3000;
const id = decodeURIComponent(location.hash.slice(1));
const fact = (name, ...content) => [h("dt", {}, name), h("dd", {}, content)];
const empty = (words) => h("p", { class: "empty" }, words);

// The report as a row of the dashboard has it, for the buttons.
const row = (report) => ({ id: report.batch_id, source: report.source, ended_at: report.ended_at, cancelled_at: report.cancelled && report.open ? true : null,
  paused_at: report.paused, held: report.budget.held, open: report.open, failed: report.failed });

function sum(report) {
  const { budget, quality_measured: measured, quality_interval: interval } = report;
  const own = budget.budget;
  return [
    h("dl", { class: "facts", id: "facts" },
      fact("queries", `${count(report.completed)} done, ${count(report.failed)} failed, ${count(report.cancelled)} cancelled, ${count(report.open)} open of ${count(report.total)}`),
      fact("cost", h("b", {}, money(report.cost_usd)), ` in ${count(report.calls)} calls`),
      fact("top tier alone", `${money(report.baseline_cost_usd)}${report.saving_share === null ? "" : `; ${percent(Math.abs(report.saving_share))} ${report.saving_share < 0 ? "more" : "saved"}`}`),
      fact("budget", own ? `${money(own.left_usd)} left of ${money(own.cap_usd)}` : "none", budget.held ? `; ${count(budget.held)} queries held` : ""),
      fact("quality", report.quality_floor === null ? "no floor" : `${measured === null ? "not measured yet" : percent(measured)}${interval ? ` (${percent(interval[0])} to ${percent(interval[1])})` : ""}, floor ${percent(report.quality_floor, 0)}`),
      fact("escalated", `${count(report.escalated)} queries`),
      fact("time", `${duration(report.wall_s)}; ${report.ended_at ? "ended" : report.paused ? "paused" : "running"}`)),
    actions(row(report)),
  ];
}

const tiers = (rows) => table("Tiers", ["tier", "answers", "calls", "failed calls", "cost", "p50", "p95"], Object.entries(rows).map(([name, tier]) => [
  name, count(tier.answered), count(tier.calls), count(tier.failed_calls), money(tier.cost_usd), latency(tier.latency_ms?.p50), latency(tier.latency_ms?.p95)]));

const workloads = (rows) => (rows.length ? table("Workloads", ["workload", "queries", "answered", "escalated", "cost", "labels", "grade"], rows.map((one) => [
  one.workload || "none noted", count(one.queries), count(one.answered), count(one.escalated), money(one.cost_usd), count(one.labels), one.grade === null ? NONE : percent(one.grade)]))
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

addEventListener("hashchange", () => location.reload());
keyForm(() => { for (const part of ["sum", "tiers", "workloads", "failures"]) byId(part).replaceChildren(); redraw(); });
load();
