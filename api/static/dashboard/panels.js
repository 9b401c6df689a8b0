// One function per panel: turns its part of the snapshot into elements.
import { actions } from "./actions.js";
import { histogram, sparkline, stacked } from "./charts.js";
import { h, rail, table } from "./dom.js";
import { NONE, compact, count, day, duration, latency, money, percent, rate, time, words } from "./format.js";
import { tenant } from "./role.js";

let ladder = [];
export const useTiers = (tiers) => { ladder = tiers; };
export function hue(tier) {
  const place = ladder.indexOf(tier);
  return place < 0 || place > 5 ? "tier-other" : `tier-${place}`;
}

const empty = (...content) => h("p", { class: "empty" }, content);
const sum = (counts) => Object.values(counts).reduce((total, n) => total + n, 0);
const number = (n) => [count(n), n ? "" : "zero"];
const named = (tier, ...more) => h("span", { class: `name ${hue(tier)}` }, h("span", {}, tier, more));

function tile(name, figure, unit, note, chart) {
  return h("dl", { class: "tile" }, h("dt", {}, name),
    h("dd", { class: "big" }, figure, unit ? h("small", {}, unit) : null),
    note ? h("dd", { class: "note" }, note) : null, chart ? h("dd", {}, chart) : null);
}

export function tiles(all, width) {
  const { cost = {}, escalated, judged, escalation_rate: share } = all.recent;
  const wide = Math.max(90, width / (width > 900 ? 6 : width > 600 ? 3 : 2) - 42);
  const saving = cost.saving_share ?? null;
  return [
    tile("Open queries", count(all.open), "", all.open ? `${count(total(all, "running"))} running${total(all, "waiting") ? `, ${count(total(all, "waiting"))} wait for a pilot or an identical query` : ""}` : "no query is waiting"),
    tile("Throughput", rate(all.queries_per_s), "queries/s", null,
      sparkline(all.rates, wide, `Queries per second over the last two minutes, now ${rate(all.queries_per_s)}`)),
    tile("Time to finish", all.open ? duration(all.eta_s) : NONE, "", !all.open ? "no open queries" : all.eta_s === null ? "not known yet" : "at the current rate"),
    tile("Cost", money(cost.usd), "", all.reserved.calls ? `last hour; ${money(all.reserved.usd)} reserved` : "last hour"),
    tile("Saved", saving === null ? NONE : percent(saving, 0), "", saving === null ? `compared with ${all.fleet.top} alone`
      : `${money(cost.saving_usd)} compared with ${all.fleet.top} alone`),
    tile("Escalated", percent(share), "", judged ? `${count(escalated)} of ${count(judged)} judged answers` : "no judged answers"),
  ];
}

const total = (all, state) => sum(all.stages.map((stage) => stage[state]));

export function queues(stages) {
  return table("Queues", ["stage", "ready", "queued", "running", "batched", "held", ["oldest wait", "wraps"], ["calls in flight / slots", "narrow-off"]],
    stages.map((stage) => [
      stage.kind === "tier" ? named(stage.stage) : h("span", { class: "name" }, stage.stage),
      number(stage.ready), number(stage.queued), number(stage.running), number(stage.batched), number(stage.held),
      [duration(stage.oldest_wait_s), stage.oldest_wait_s === null ? "zero" : stage.oldest_wait_s > 60 ? "warn" : ""],
      [stage.slots === null ? worker(stage)
        : h("span", { class: `meter ${hue(stage.stage)}` }, rail([[stage.running / (stage.slots || 1), ""]]),
          stage.workers ? `${count(Math.min(stage.running, stage.slots))} / ${count(stage.slots)}` : h("span", { class: "bad" }, "no worker")), "narrow-off"],
    ]));
}

const worker = (stage) =>
  stage.workers ? h("span", { class: "quiet" }, `${stage.workers} worker${stage.workers > 1 ? "s" : ""}`) : h("span", { class: "bad" }, "no worker");

export function batches(rows) {
  if (!rows.length) return empty("No batches yet. Submit one: ", h("code", {}, "pointsman submit FILE"));
  const floors = rows.some((batch) => batch.quality);
  return table("Batches", [["batch"], ["progress", "left"], "done", "failed", ["open", "narrow-off"], ["queries/s", "narrow-off"], ...(floors ? ["quality"] : []), "time"],
    rows.map((batch) => [
      [h("span", { class: "source" }, batch.source, " ", batch.simulated ? h("span", { class: "tag" }, "simulated") : null),
        h("a", { class: "below", id: `${batch.id}-page`, href: `/dashboard/batch.html#${encodeURIComponent(batch.id)}` }, h("code", {}, batch.id))].reduce((whole, part) => (whole.append(part), whole), h("span")),
      [h("div", {}, h("span", { class: "meter" }, rail([[batch.done / batch.total, ""], [batch.failed / batch.total, "failed"], [batch.cancelled / batch.total, "cancelled"]]),
        h("span", {}, percent((batch.total - batch.open) / batch.total, 0))), actions(batch)), "progress left"],
      number(batch.done),
      [count(batch.failed), batch.failed ? "bad" : "zero"],
      [batch.held ? `${count(batch.open)} (${count(batch.held)} held)` : count(batch.open), `narrow-off ${batch.open ? "" : "zero"}`],
      [batch.open ? rate(batch.queries_per_s) : rate(batch.done / batch.wall_s), "narrow-off"],
      ...(floors ? [quality(batch.quality)] : []),
      status(batch),
    ]));
}

export const chats = (figures) => (figures ? `Chat completions in the last hour: ${count(figures.asked)} requested, ${count(figures.open)} open, ${count(figures.cancelled)} cancelled${figures.mean_s === null ? "" : `, answered after ${duration(figures.mean_s)} on average`}.` : "");

const STANDINGS = { certified: ["certified", "good"], too_small: ["too small for a pilot", "quiet"], no_gain: ["a pilot would not pay", "quiet"], top_tier: ["not certified: top tier", "warn"], broken: ["floor broken: top tier", "bad"],
  departed: ["not promised", "warn"] };

/* As in the report: an upper end above 100 % that is cut off at the estimate is no bound. */
export function measure(share, interval) {
  if (!interval) return percent(share);
  const [low, high] = interval;
  return `${percent(share)} (${percent(low)} ${high > 1 && high <= share ? "or more" : `to ${percent(high)}`})`;
}

/* Measured by audits where there are enough, else by the pilot; never the router's own estimate. */
export function quality(figures) {
  if (!figures) return h("span", { class: "quiet" }, "no floor");
  const [words, tone] = STANDINGS[figures.standing] || [figures.standing.replace("_", " "), "quiet"];
  const measured = figures.standing === "departed" ? `certified, but ${count(figures.departures)} departed from the policy to stay within the budget; floor ${percent(figures.floor, 0)}`
    : figures.standing === "top_tier" ? `answered by the top tier alone, floor ${percent(figures.floor, 0)}`
    : figures.measured === null ? `floor ${percent(figures.floor, 0)}`
    : `${measure(figures.measured, figures.interval)}, floor ${percent(figures.floor, 0)}`;
  return h("span", {}, h("span", { class: tone }, words), h("span", { class: "below" }, measured));
}

function status(batch) {
  if (batch.ended_at) {
    const how = batch.cancelled_at ? "cancelled" : batch.failed ? "ended with failures" : "ended";
    return h("span", {}, how, h("span", { class: "below" }, `after ${duration(batch.wall_s)}`));
  }
  const left = batch.in_pilot ? "time known after the pilot" : batch.eta_s === null ? "no rate yet" : `${duration(batch.eta_s)} left`;
  return h("span", {}, batch.cancelled_at ? "cancelling" : batch.paused_at ? "paused" : "running", h("span", { class: "below" }, batch.paused_at ? "" : left));
}

export function waves(rows) {
  return table("Waves", [["batch"], "tier", "lane", ["at the provider", "left"], "state", "age", ["answered", "wraps"], "cost", "saved"],
    rows.map((wave) => [
      h("span", {}, h("span", { class: "source" }, wave.source), h("code", { class: "below" }, wave.batch)),
      wave.tier ? named(wave.tier) : NONE,
      wave.lane,
      [wave.provider ? h("span", {}, `${wave.provider} · ${wave.deployment}`, h("code", { class: "below" }, wave.remote_id ?? "not submitted yet")) : h("span", { class: "quiet" }, "direct calls"), "left"],
      wave.state ? waveState(wave) : NONE,
      duration(wave.age_s),
      wave.state ? `${count(wave.state === "done" ? wave.answered : null)} / ${count(wave.queries)}` : count(wave.queries),
      money(wave.cost_usd),
      [money(wave.saved_usd), wave.saved_usd > 0 ? "good" : "zero"],
    ]));
}

function waveState(wave) {
  const ended = wave.state === "done" || wave.state === "collecting";
  const tone = wave.state !== "done" ? "" : wave.outcome === "ended" ? "quiet" : "warn";
  const left = wave.waits_s === null || wave.waits_s === undefined ? "" : `given up in ${duration(Math.max(wave.waits_s, 0))}`;
  return h("span", { title: wave.why }, h("span", { class: tone }, words(ended ? wave.outcome ?? wave.state : wave.state)),
    h("span", { class: "below" }, wave.is_given_up ? "given up" : left));
}

export function mix({ mix: spans, answered }, width, span) {
  const { from, step_s: stepS, steps, tiers } = spans[span];
  const total = sum(answered);
  if (!total) return empty("No answers in the last hour.");
  const series = Object.entries(tiers).map(([tier, values]) => [tier, hue(tier), values]);
  const shown = Object.fromEntries(series.map(([tier, , values]) => [tier, values.reduce((a, b) => a + b, 0)]));
  const all = sum(shown);
  const shares = Object.entries(shown).map(([tier, n]) => `${tier} ${percent(n / (all || 1))}`).join(", ");
  return [
    h("p", { class: "quiet below" }, `answers per ${stepS === 10 ? "10 s" : "minute"}`),
    stacked(series, { from, stepS, steps, width, label: `Answers per tier over time: ${shares || "none in this span"}` }),
    h("ul", { class: "legend" }, Object.entries(shown).map(([tier, n]) =>
      h("li", {}, h("span", { class: `name ${hue(tier)}` }, h("span", {}, tier, " ", h("b", {}, percent(all ? n / all : null)), " ", h("span", { class: "quiet" }, count(n))))))),
  ];
}

export function cost({ cost: figures, answered }, top) {
  if (!figures || (!figures.usd && !figures.baseline_usd)) return empty("No calls in the last hour.");
  const most = Math.max(figures.usd, figures.baseline_usd, 1e-12);
  const lost = figures.saving_usd < 0;
  return [
    h("p", { class: "lead" }, h("b", { class: lost ? "bad" : "good" }, percent(figures.saving_share)),
      lost ? ` more than ${figures.baseline_model} alone` : ` saved: ${money(figures.saving_usd)} of ${money(figures.baseline_usd)}`),
    h("ul", { class: "bars" },
      h("li", {}, "as routed", rail(Object.entries(figures.by_tier).map(([tier, usd]) => [usd / most, hue(tier)])), h("span", { class: "n" }, money(figures.usd))),
      h("li", {}, `${top} alone`, rail([[figures.baseline_usd / most, hue(top)]]), h("span", { class: "n" }, money(figures.baseline_usd)))),
    h("ul", { class: "legend" }, Object.entries(figures.by_tier).map(([tier, usd]) =>
      h("li", {}, h("span", { class: `name ${hue(tier)}` }, h("span", {}, tier, " ", h("b", {}, money(usd)), " ",
        h("span", { class: "quiet" }, answered[tier] ? `${money(usd / answered[tier])} per answer` : "no answer")))))),
    h("p", { class: "below after" }, `Includes ${money(figures.router_usd)} for LLM routing. “${top} alone” is the baseline of each batch's report: the cost of the same queries at ${figures.baseline_model}, as far as the length of its answers is known.`),
  ];
}

const DAY_MS = 86400000;
const SHOWN = 8;

// `days` and `split`: the answers of /v1/pointsman/spend by day, and by what the reader chose.
export const spend = ({ days, split }, width) => (days.calls ? [spendByDay(days, width), spenders(days, split)].flat() : empty("There are no sums yet. The feeder sums the cost of calls once a minute."));

export function spendByDay(days, width) {
  const steps = Math.round((Date.parse(days.to) - Date.parse(days.from)) / DAY_MS) + 1;
  const tiers = {};
  for (const one of days.data) {
    const place = Math.round((Date.parse(one.day) - Date.parse(days.from)) / DAY_MS);
    for (const [tier, usd] of Object.entries(one.tiers)) (tiers[tier] ??= Array(steps).fill(0))[place] = usd;
  }
  const series = [...ladder.filter((tier) => tiers[tier]), ...Object.keys(tiers).filter((tier) => !ladder.includes(tier))].map((tier) => [tier, hue(tier), tiers[tier]]);
  const costliest = days.data.reduce((most, one) => (one.cost_usd > most.cost_usd ? one : most));
  return [
    h("p", { class: "lead" }, h("b", {}, money(days.cost_usd)), ` in ${count(days.calls)} calls${days.tenant === null ? " of all tenants" : ""}; most on ${day(costliest.day)}: ${money(costliest.cost_usd)}`),
    stacked(series, { from: days.from, stepS: DAY_MS / 1000, steps, width, least: 0, left: 66, figure: money, ends: (at, isNow) => (isNow ? "today" : day(at)),
      label: `Spend per day and tier: ${series.map(([tier, , values]) => `${tier} ${money(sum(values))}`).join(", ")}` }),
    h("ul", { class: "legend" }, series.map(([tier, , values]) => h("li", {}, named(tier, " ", h("b", {}, money(sum(values))))))),
  ];
}

function spenders(days, split) {
  const rows = split.data.slice(0, SHOWN);
  const rest = split.cost_usd - sum(rows.map((row) => row.cost_usd));
  return [
    h("ul", { class: "bars after" }, [...rows.map((row) => [spender(row, split), row.cost_usd]), ...(split.data.length > SHOWN ? [[`${count(split.data.length - SHOWN)} more`, rest]] : [])].map(([name, usd]) =>
      h("li", {}, h("span", { class: "source" }, name), rail([[usd / (days.cost_usd || 1), ""]]), h("span", { class: "n" }, money(usd), " ", h("span", { class: "quiet" }, percent(usd / (days.cost_usd || 1), 0)))))),
    h("p", { class: "below after" }, `Includes calls that ended by ${time(days.summed_at)}, each on the day it began.`),
  ];
}

function spender(row, { by, tenant: only }) {
  const whose = only === null && by !== "tenant" ? ` (${row.tenant})` : "";
  const name = { tenant: row.tenant, workload: row.tenant === tenant() ? workloadLink(row.workload) : row.workload ?? "no workload", key: row.key === null ? "without a key" : `${row.name} pm-${row.key}` }[by];
  return [name, whose];
}

export const workloadLink = (name) => (name ? h("a", { href: `/dashboard/workload.html#${encodeURIComponent(name)}` }, name) : "no workload");

export function escalation({ judged, rejected, escalated, escalation_rate: share, reasons, doubted, escalated_to: up }) {
  if (!judged) return empty("No answer was judged in the last hour.");
  if (!rejected) return empty(`All ${count(judged)} judged answers were accepted.`);
  return [
    h("p", { class: "lead" }, h("b", {}, percent(share)), ` escalated: ${count(escalated)} of ${count(judged)} judged answers; ${count(rejected)} rejected`),
    h("ul", { class: "bars" }, reasons.map(({ reason, n, tiers }) =>
      h("li", {}, words(reason), rail(Object.entries(tiers).map(([tier, part]) => [part / reasons[0].n, hue(tier)])), h("span", { class: "n" }, count(n), " ", h("span", { class: "quiet" }, percent(n / rejected, 0)))))),
    h("ul", { class: "legend" }, Object.entries(doubted).map(([tier, counts]) =>
      h("li", {}, named(tier, " rejected ", h("b", {}, count(counts.rejected)), h("span", { class: "quiet" }, ` of ${count(counts.judged)}, ${percent(counts.rejected / (counts.judged || 1))}`))))),
    h("p", { class: "below after" }, `Escalated: ${Object.entries(up).map(([tier, n]) => `${count(n)} to ${tier}`).join(", ") || "none"}.`),
  ];
}

export function confidence(tiers, width) {
  const shown = Object.entries(tiers ?? {});
  if (!shown.length) return empty("No answer was judged in the last hour.");
  const across = width > 700 ? Math.max(shown.length, 4) : 2;
  const chartWidth = Math.min((width - 24 * (across - 1)) / across, 260);
  return [
    h("div", { class: "many" }, shown.map(([tier, figures]) => {
      const [yes, no] = [sum(figures.accepted), sum(figures.rejected)];
      return h("figure", {}, h("figcaption", {}, named(tier)),
        yes + no ? histogram(figures, hue(tier), chartWidth, `Confidence at ${tier}: ${count(yes)} accepted, ${count(no)} rejected, threshold ${figures.threshold}`) : empty("no confidence available"),
        h("p", { class: "below" }, yes + no ? `${count(yes)} accepted, ${count(no)} rejected${figures.unknown ? `, ${count(figures.unknown)} without confidence` : ""}` : `${count(figures.unknown)} judged without confidence`));
    })),
    h("p", { class: "below after" }, "Filled: accepted. Outline: rejected. Dashed: the tier's threshold."),
  ];
}

export function router({ router: info, recent }) {
  const routed = recent.routed?.by_router ?? {};
  const total = sum(routed);
  return h("div", { class: "three" }, h("div", {}, h("h3", {}, "Decisions"), total
    ? h("ul", { class: "bars" }, Object.entries(routed).map(([name, n]) => h("li", {}, routerName(name, info), rail([[n / total, ""]]), h("span", { class: "n" }, count(n), " ", h("span", { class: "quiet" }, percent(n / total, 0))))))
    : empty("No routing decisions in the last hour.")), accuracy(info), drift(recent.drift));
}

const routerName = (name, info) => (name === info.name ? `classifier “${name}”` : { gate: "gate", llm: "LLM router", pin: "pinned by user", budget: "budget policy", none: "none" }[name] ?? words(name));

function accuracy({ labels, evaluation, name, workload }) {
  const rows = [];
  if (labels) {
    rows.push(["labeled right", `${percent(labels.grade)} of ${count(labels.total)}`]);
    for (const [tier, labeled] of Object.entries(labels.tiers ?? {})) rows.push([`… at ${tier}`, `${percent(labeled.grade)} of ${count(labeled.total)}`]);
  } else rows.push(["from labels", "no labels yet"]);
  if (evaluation) {
    if (evaluation.apgr !== null) rows.push(["APGR, held out", evaluation.apgr.toFixed(2)]);
    for (const [tier, scores] of Object.entries(evaluation.tiers)) rows.push([`Brier / ECE at ${tier}`, `${fixed(scores.brier)} / ${fixed(scores.ece)}`]);
  } else rows.push(["from evaluation", "none"]);
  const note = evaluation
    ? `Router “${name}” on ${count(evaluation.lines)} held-out lines of “${evaluation.data}”${workload === null ? "" : `, of the ${workload === "simulator" ? workload : `workload ${workload}`}`}. APGR: 1 equals the top tier. Brier, ECE: 0 is best.`
    : workload === "simulator" ? `Router “${name}” was trained on the simulator, and makes no decisions for real models.` : null;
  return h("div", {}, h("h3", {}, "Quality"), h("dl", { class: "facts" }, rows.map(([what, figure]) => [h("dt", {}, what), h("dd", {}, figure)])),
    note ? h("p", { class: "below after" }, note) : null);
}

const fixed = (x) => (typeof x === "number" ? x.toFixed(2) : NONE);

function drift(mix) {
  if (!mix) return h("div", {}, h("h3", {}, "Drift"), empty("No data yet."));
  const verdict = mix.psi === null ? ["quiet", "too few queries"] : mix.psi < 0.1 ? ["good", "stable"] : mix.psi < 0.25 ? ["warn", "shifting"] : ["bad", "shifted"];
  const bar = (counts) => { const all = sum(counts) || 1; return rail(Object.entries(counts).map(([tier, n]) => [n / all, hue(tier)])); };
  return h("div", {}, h("h3", {}, "Drift of the tier mix"),
    h("p", {}, mix.psi === null ? "" : `PSI ${mix.psi.toFixed(3)}, `, h("strong", { class: verdict[0] }, verdict[1])),
    h("div", { class: "pair" }, h("span", {}, `last ${mix.minutes} min`), bar(mix.recent), count(sum(mix.recent)),
      h("span", {}, "before"), bar(mix.before), count(sum(mix.before))),
    h("p", { class: "below after" }, "Routed queries by tier; before: the rest of the hour. PSI below 0.1: stable; above 0.25: shifted."));
}

const CIRCUITS = { closed: ["good", "●", "closed"], half_open: ["warn", "◐", "half open"], open: ["bad", "○", "open"] };

export function providers(rows) {
  return table("Providers", [["model"], ["tier", "left"], ["breaker", "left"], "calls", "failed", "p50", "p95", "of requests/min", "of tokens/min"],
    rows.map((row) => {
      const failed = sum(row.failures);
      return [
        h("span", {}, row.deployment, h("span", { class: "below" }, row.provider)),
        [named(row.tier), "left"],
        [breaker(row), "left"],
        number(row.calls),
        [failed ? h("span", {}, `${count(failed)} · ${percent(failed / row.calls)}`, h("span", { class: "below" }, Object.keys(row.failures).slice(0, 2).map(words).join(", "))) : "0", failed ? "bad" : "zero"],
        latency(row.p50_ms), latency(row.p95_ms),
        limit(row.last_minute.calls, row.limits.requests_per_min, row.tier), limit(row.last_minute.tokens, row.limits.tokens_per_min, row.tier),
      ];
    }));
}

function breaker(row) {
  if (row.circuit === null) return h("span", { class: "quiet" }, "unknown");
  const [css, sign, label] = CIRCUITS[row.circuit];
  const more = row.circuit === "open" && row.probe_in_s ? `probe in ${duration(row.probe_in_s)}` : row.rest_s ? `cooldown ${duration(row.rest_s)}` : null;
  return h("span", {}, h("span", { class: `state ${css}` }, h("span", { "aria-hidden": "true" }, sign), label), more ? h("span", { class: "below" }, more) : null);
}

function limit(used, most, tier) {
  if (!most) return [h("span", {}, compact(used), h("span", { class: "below" }, "no limit")), "zero"];
  return h("span", { class: `meter ${hue(tier)}` }, rail([[used / most, ""]]), h("span", {}, percent(used / most, 0), h("span", { class: "below" }, `of ${compact(most)}`)));
}

export const seen = (all) => `Updated ${time(all.at * 1000)}${all.recent.whole === false ? `; hourly figures so far cover the time since ${time(all.recent.since)}` : ""}.`;
