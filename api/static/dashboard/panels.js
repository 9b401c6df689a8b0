// One function per panel: from its part of the snapshot to elements.
import { histogram, sparkline, stacked } from "./charts.js";
import { h, rail, table } from "./dom.js";
import { NONE, compact, count, duration, latency, money, percent, rate, time, words } from "./format.js";

let ladder = [];
export const useTiers = (tiers) => { ladder = tiers; };
export function hue(tier) {
  const place = ladder.indexOf(tier);
  return place < 0 || place > 5 ? "tier-other" : `tier-${place}`;
}

const empty = (...said) => h("p", { class: "empty" }, said);
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
    tile("Open queries", count(all.open), "", all.open ? `${count(running(all))} of them running` : "nothing waits"),
    tile("Throughput", rate(all.queries_per_s), "queries/s", null,
      sparkline(all.rates, wide, `Queries per second over the last two minutes, now ${rate(all.queries_per_s)}`)),
    tile("Time to finish", all.open ? duration(all.eta_s) : NONE, "", all.open ? "at the present rate" : "nothing is open"),
    tile("Cost", money(cost.usd), "", all.reserved.calls ? `last hour; ${money(all.reserved.usd)} reserved` : "last hour"),
    tile("Saved", saving === null ? NONE : percent(saving, 0), "", saving === null ? `against all by ${all.fleet.top}`
      : `${money(cost.saving_usd)} against all by ${all.fleet.top}`),
    tile("Escalated", percent(share), "", judged ? `${count(escalated)} of ${count(judged)} judged answers` : "nothing was judged"),
  ];
}

const running = (all) => all.stages.reduce((total, stage) => total + stage.running, 0);

export function queues(stages) {
  return table("Queues", ["stage", "ready", "queued", "running", "held", ["oldest wait", "wraps"], ["calls in flight / slots", "narrow-off"]],
    stages.map((stage) => [
      stage.kind === "tier" ? named(stage.stage) : h("span", { class: "name" }, stage.stage),
      number(stage.ready), number(stage.queued), number(stage.running), number(stage.held),
      [duration(stage.oldest_wait_s), stage.oldest_wait_s === null ? "zero" : stage.oldest_wait_s > 60 ? "warn" : ""],
      [stage.slots === null ? worker(stage)
        : h("span", { class: `meter ${hue(stage.stage)}` }, rail([[stage.running / (stage.slots || 1), ""]]),
          stage.workers ? `${count(Math.min(stage.running, stage.slots))} / ${count(stage.slots)}` : h("span", { class: "bad" }, "no worker")), "narrow-off"],
    ]));
}

const worker = (stage) =>
  stage.workers ? h("span", { class: "quiet" }, `${stage.workers} worker${stage.workers > 1 ? "s" : ""}`) : h("span", { class: "bad" }, "no worker");

export function batches(rows) {
  if (!rows.length) return empty("No batch yet. Submit one: ", h("code", {}, "pointsman submit FILE"));
  return table("Batches", [["batch"], ["progress", "left"], "done", "failed", ["open", "narrow-off"], ["queries/s", "narrow-off"], "time"],
    rows.map((batch) => [
      [h("span", { class: "source" }, batch.source, " ", batch.simulated ? h("span", { class: "tag" }, "simulated") : null),
        h("code", { class: "below" }, batch.id)].reduce((whole, part) => (whole.append(part), whole), h("span")),
      [h("span", { class: "meter" }, rail([[batch.done / batch.total, ""], [batch.failed / batch.total, "failed"], [batch.cancelled / batch.total, "cancelled"]]),
        h("span", {}, percent((batch.total - batch.open) / batch.total, 0))), "progress left"],
      number(batch.done),
      [count(batch.failed), batch.failed ? "bad" : "zero"],
      [batch.held ? `${count(batch.open)} (${count(batch.held)} held)` : count(batch.open), `narrow-off ${batch.open ? "" : "zero"}`],
      [batch.open ? rate(batch.queries_per_s) : rate(batch.done / batch.wall_s), "narrow-off"],
      status(batch),
    ]));
}

function status(batch) {
  if (batch.ended_at) {
    const how = batch.cancelled_at ? "cancelled" : batch.failed ? "ended with failures" : "ended";
    return h("span", {}, how, h("span", { class: "below" }, `after ${duration(batch.wall_s)}`));
  }
  const left = batch.eta_s === null ? "no rate yet" : `${duration(batch.eta_s)} left`;
  return h("span", {}, batch.cancelled_at ? "cancelling" : "running", h("span", { class: "below" }, left));
}

export function mix({ mix: spans, answered }, width, span) {
  const { from, step_s: stepS, steps, tiers } = spans[span];
  const total = sum(answered);
  if (!total) return empty("Nothing was answered in the last hour.");
  const series = Object.entries(tiers).map(([tier, values]) => [tier, hue(tier), values]);
  const shown = Object.fromEntries(series.map(([tier, , values]) => [tier, values.reduce((a, b) => a + b, 0)]));
  const all = sum(shown);
  const said = Object.entries(shown).map(([tier, n]) => `${tier} ${percent(n / (all || 1))}`).join(", ");
  return [
    h("p", { class: "quiet below" }, `answers per ${stepS === 10 ? "10 s" : "minute"}`),
    stacked(series, { from, stepS, steps, width, label: `Answers per tier over time: ${said || "none in this time"}` }),
    h("ul", { class: "legend" }, Object.entries(shown).map(([tier, n]) =>
      h("li", {}, h("span", { class: `name ${hue(tier)}` }, h("span", {}, tier, " ", h("b", {}, percent(all ? n / all : null)), " ", h("span", { class: "quiet" }, count(n))))))),
  ];
}

export function cost({ cost: told, answered }, top) {
  if (!told || (!told.usd && !told.baseline_usd)) return empty("Nothing was called in the last hour.");
  const most = Math.max(told.usd, told.baseline_usd, 1e-12);
  const lost = told.saving_usd < 0;
  return [
    h("p", { class: "lead" }, h("b", { class: lost ? "bad" : "good" }, percent(told.saving_share)),
      lost ? ` more than all by ${told.baseline_model}` : ` saved, ${money(told.saving_usd)} of ${money(told.baseline_usd)}`),
    h("ul", { class: "bars" },
      h("li", {}, "as routed", rail(Object.entries(told.by_tier).map(([tier, usd]) => [usd / most, hue(tier)])), h("span", { class: "n" }, money(told.usd))),
      h("li", {}, `all by ${top}`, rail([[told.baseline_usd / most, hue(top)]]), h("span", { class: "n" }, money(told.baseline_usd)))),
    h("ul", { class: "legend" }, Object.entries(told.by_tier).map(([tier, usd]) =>
      h("li", {}, h("span", { class: `name ${hue(tier)}` }, h("span", {}, tier, " ", h("b", {}, money(usd)), " ",
        h("span", { class: "quiet" }, answered[tier] ? `${money(usd / answered[tier])} per answer` : "no answer")))))),
    h("p", { class: "below after" }, `Routing by models is ${money(told.router_usd)} of it. “All by ${top}” takes the price of ${told.baseline_model} for the same tokens.`),
  ];
}

export function escalation({ judged, rejected, escalated, escalation_rate: share, reasons, doubted, escalated_to: up }) {
  if (!judged) return empty("No answer was judged in the last hour.");
  if (!rejected) return empty(`Each of ${count(judged)} judged answers stood.`);
  return [
    h("p", { class: "lead" }, h("b", {}, percent(share)), ` went up: ${count(escalated)} of ${count(judged)} judged answers; ${count(rejected)} were doubted`),
    h("ul", { class: "bars" }, reasons.map(({ reason, n, tiers }) =>
      h("li", {}, words(reason), rail(Object.entries(tiers).map(([tier, part]) => [part / reasons[0].n, hue(tier)])), h("span", { class: "n" }, count(n), " ", h("span", { class: "quiet" }, percent(n / rejected, 0)))))),
    h("ul", { class: "legend" }, Object.entries(doubted).map(([tier, told]) =>
      h("li", {}, named(tier, " doubted ", h("b", {}, count(told.rejected)), h("span", { class: "quiet" }, ` of ${count(told.judged)}, ${percent(told.rejected / (told.judged || 1))}`))))),
    h("p", { class: "below after" }, `Went up: ${Object.entries(up).map(([tier, n]) => `${count(n)} to ${tier}`).join(", ") || "none"}.`),
  ];
}

export function confidence(tiers, width) {
  const shown = Object.entries(tiers ?? {});
  if (!shown.length) return empty("No answer was judged in the last hour.");
  const across = width > 700 ? Math.max(shown.length, 4) : 2;
  const each = Math.min((width - 24 * (across - 1)) / across, 260);
  return [
    h("div", { class: "many" }, shown.map(([tier, told]) => {
      const [yes, no] = [sum(told.accepted), sum(told.rejected)];
      return h("figure", {}, h("figcaption", {}, named(tier)),
        yes + no ? histogram(told, hue(tier), each, `Confidence at ${tier}: ${count(yes)} accepted, ${count(no)} rejected, threshold ${told.threshold}`) : empty("no confidence is told"),
        h("p", { class: "below" }, yes + no ? `${count(yes)} accepted, ${count(no)} rejected${told.untold ? `, ${count(told.untold)} untold` : ""}` : `${count(told.untold)} judged without`));
    })),
    h("p", { class: "below after" }, "Filled: accepted. Outline: rejected. Dashed: the tier's threshold."),
  ];
}

export function router({ router: told, recent }) {
  const routed = recent.routed?.by_router ?? {};
  const total = sum(routed);
  return h("div", { class: "three" }, h("div", {}, h("h3", {}, "Who decided"), total
    ? h("ul", { class: "bars" }, Object.entries(routed).map(([name, n]) => h("li", {}, routerName(name, told), rail([[n / total, ""]]), h("span", { class: "n" }, count(n), " ", h("span", { class: "quiet" }, percent(n / total, 0))))))
    : empty("Nothing was routed in the last hour.")), accuracy(told), drift(recent.drift));
}

const routerName = (name, told) => (name === told.name ? `classifier “${name}”` : { gate: "gate", llm: "LLM router", pin: "pinned by user", budget: "budget policy", none: "nobody" }[name] ?? name);

function accuracy({ labels, evaluation, name }) {
  const rows = [];
  if (labels) {
    rows.push(["labelled right", `${percent(labels.grade)} of ${count(labels.total)}`]);
    for (const [tier, each] of Object.entries(labels.tiers ?? {})) rows.push([`… at ${tier}`, `${percent(each.grade)} of ${count(each.total)}`]);
  } else rows.push(["from labels", "no labels yet"]);
  if (evaluation) {
    if (evaluation.apgr !== null) rows.push(["APGR, held out", evaluation.apgr.toFixed(2)]);
    for (const [tier, each] of Object.entries(evaluation.tiers)) rows.push([`Brier / ECE at ${tier}`, `${fixed(each.brier)} / ${fixed(each.ece)}`]);
  } else rows.push(["from evaluation", "none recorded"]);
  return h("div", {}, h("h3", {}, "How well"), h("dl", { class: "facts" }, rows.map(([what, figure]) => [h("dt", {}, what), h("dd", {}, figure)])),
    evaluation ? h("p", { class: "below after" }, `Router “${name}”, on ${count(evaluation.lines)} lines of “${evaluation.data}” that it had not seen. APGR: 1 is as good as the top tier always. Brier, ECE: 0 is best.`) : null);
}

const fixed = (x) => (typeof x === "number" ? x.toFixed(2) : NONE);

function drift(told) {
  if (!told) return h("div", {}, h("h3", {}, "Drift"), empty("No figures yet."));
  const verdict = told.psi === null ? ["quiet", "too few queries to tell"] : told.psi < 0.1 ? ["good", "stable"] : told.psi < 0.25 ? ["warn", "shifting"] : ["bad", "shifted"];
  const bar = (counts) => { const all = sum(counts) || 1; return rail(Object.entries(counts).map(([tier, n]) => [n / all, hue(tier)])); };
  return h("div", {}, h("h3", {}, "Drift of the tier mix"),
    h("p", {}, told.psi === null ? "" : `PSI ${told.psi.toFixed(3)}, `, h("strong", { class: verdict[0] }, verdict[1])),
    h("div", { class: "pair" }, h("span", {}, `last ${told.minutes} min`), bar(told.recent), count(sum(told.recent)),
      h("span", {}, "before"), bar(told.before), count(sum(told.before))),
    h("p", { class: "below after" }, "Queries by the tier they were routed to; before: the rest of the hour. Below 0.1 is stable, above 0.25 a shift."));
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
  if (row.circuit === null) return h("span", { class: "quiet" }, "not known");
  const [css, sign, said] = CIRCUITS[row.circuit];
  const more = row.circuit === "open" && row.probe_in_s ? `probe in ${duration(row.probe_in_s)}` : row.rest_s ? `rests ${duration(row.rest_s)}` : null;
  return h("span", {}, h("span", { class: `state ${css}` }, h("span", { "aria-hidden": "true" }, sign), said), more ? h("span", { class: "below" }, more) : null);
}

function limit(used, most, tier) {
  if (!most) return [h("span", {}, compact(used), h("span", { class: "below" }, "no limit")), "zero"];
  return h("span", { class: `meter ${hue(tier)}` }, rail([[used / most, ""]]), h("span", {}, percent(used / most, 0), h("span", { class: "below" }, `of ${compact(most)}`)));
}

export const seen = (all) => `Last seen ${time(all.at * 1000)}${all.recent.whole === false ? `; the last hour is counted from ${time(all.recent.since)} on so far` : ""}.`;
