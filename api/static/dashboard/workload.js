// One workload over all batches of the tenant, named by the fragment of the address.
import { byId, draw, h, named, redraw, table } from "./dom.js";
import { NONE, count, day, money, percent, words } from "./format.js";
import { asked, key } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import { measure, quality, spendByDay, useTiers } from "./panels.js";
import { learnRole, may, tenant } from "./role.js";
import { promote, rollBack, serves } from "./routers.js";

const EVERY_MS = 60000;
const PARTS = ["spend", "versions", "undo", "grades"];
const name = named();
let last = null;
let registered = null; // what serves, for an admin of the fleet
const empty = (words) => h("p", { class: "empty" }, words);
const below = (...content) => h("span", { class: "below" }, content);
const inOrder = (tiers) => [...new Set([...last.tiers, ...tiers])].filter((tier) => tiers.includes(tier));
const labeled = ({ grade, interval, labels }) => `${measure(grade, interval)} of ${count(labels)}`;

function grades(rows) {
  if (!rows.length) return empty("None of its answers was labeled in the last 30 days.");
  const tiers = inOrder(rows.map((row) => row.tier));
  const days = Map.groupBy(rows, (row) => row.day);
  return table("Quality over time", ["day (UTC)", ...tiers], [...days].reverse().map(([at, found]) => [day(at), ...tiers.map((tier) => {
    const one = found.find((row) => row.tier === tier);
    return one ? labeled(one) : NONE;
  })]));
}

const policy = (row) => h("span", {}, h("span", { class: "source" }, row.quality.policy ? `policy ${words(row.quality.policy)}` : "no policy yet"),
  below(`pilot of ${count(row.quality.pilot_queries)} in ${row.source}`, row.ended_at ? "" : ", still open"),
  h("a", { class: "below", href: `/dashboard/batch.html#${encodeURIComponent(row.batch_id)}` }, h("code", {}, row.batch_id)));

const router = (row) => h("span", {}, words(row.router), " ", row.version && row.router === registered?.promoted ? serves() : null,
  below(row.version ? ["trained router ", h("code", {}, row.version)] : "not trained"));

const isRegistered = (row, routers) => Boolean(row.version) && (row.router === "default" || routers.routers.some((one) => one.name === row.router));

function versions({ versions: rows, routers }) {
  const idle = (routers?.routers ?? []).filter((one) => one.workload === name && !rows.some((row) => row.version && one.digest.startsWith(row.version)))
    .map((one) => ({ router: one.name, version: one.digest.slice(0, 12), made_at: one.added_at, answers: 0, tiers: {}, labels: { labels: 0 } }));
  const all = [...rows, ...idle];
  if (!all.length) return empty("None of its batches ended in the last 30 days. A batch appears here within two minutes of its end.");
  const tiers = inOrder(all.flatMap((row) => Object.keys(row.tiers)));
  return table("How it was routed", ["router", ["made", "left"], ["quality", "left"], "answers", ...tiers, "cost", "top tier alone", "saved", ...(routers ? ["change"] : [])], all.map((row) => [
    row.quality ? policy(row) : router(row),
    [row.made_at ? day(row.made_at) : row.version ? "shipped" : NONE, "left"],
    [row.quality ? h("span", {}, quality(row.quality), below(`at ${percent(row.quality.confidence, 0)} confidence`), row.sampled ? [below(`this workload ${measure(row.sampled.quality, row.sampled.interval)}`), below(`on ${count(row.sampled.queries)} sampled queries, not certified separately`)] : null) : row.labels.labels ? h("span", {}, measure(row.labels.grade, row.labels.interval), below(`right, by ${count(row.labels.labels)} labels`)) : h("span", { class: "quiet" }, "no labels"), "left"],
    count(row.answers), ...tiers.map((tier) => (row.tiers[tier] ? percent(row.tiers[tier] / row.answers) : NONE)),
    money(row.cost_usd), money(row.baseline_usd), [percent(row.saving_share), row.saving_share < 0 ? "bad" : ""],
    ...(routers ? [isRegistered(row, routers) ? promote(row.router, routers.promoted, drawRouters) : ""] : [])]));
}

async function load() {
  const whose = key();
  try {
    const found = await asked(`/v1/pointsman/workload?name=${encodeURIComponent(name)}`);
    const fleet = may("admin") && tenant() === "default" ? await asked("/v1/pointsman/routers") : null;
    if (key() !== whose) return; // of another tenant, perhaps
    last = found;
    drawRouters(fleet);
  } catch (error) {
    if (key() !== whose) return;
    if (error.status === 401) openKeyForm();
    byId("of").textContent = error.message;
  }
}

function drawRouters(fleet) {
  registered = fleet;
  draw("undo", fleet, () => (fleet ? rollBack(fleet.history, drawRouters) : ""));
  show(last);
}

function show(found) {
  document.title = `${name} · Pointsman`;
  byId("workload-title").textContent = name;
  byId("of").textContent = `spend of the last 30 days (UTC), by tier and day${found.spend.simulated ? ", simulated" : ""}`;
  useTiers(found.tiers);
  draw("spend", found.spend, (spend, width) => (spend.calls ? spendByDay(spend, width) : empty("None of its calls ended in the last 30 days.")));
  draw("versions", { versions: found.versions, routers: registered }, versions);
  draw("grades", found.grades, grades);
}

const learn = () => learnRole().then(load);

new ResizeObserver(() => last && show(last)).observe(document.body);

addEventListener("hashchange", () => location.reload());
keyForm(() => {
  for (const part of PARTS) byId(part).replaceChildren();
  last = null;
  redraw();
  learn();
});
learn();
setInterval(load, EVERY_MS);
