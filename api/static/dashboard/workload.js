// One workload over all batches of the tenant, named by the fragment of the address.
import { byId, draw, h, redraw, table } from "./dom.js";
import { NONE, count, day, percent } from "./format.js";
import { asked, key } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import { quality, spendByDay, useTiers } from "./panels.js";

const EVERY_MS = 60000;
const PARTS = ["spend", "grades", "certificates"];
const name = decodeURIComponent(location.hash.slice(1));
let last = null;
const empty = (words) => h("p", { class: "empty" }, words);

function grades(rows) {
  if (!rows.length) return empty("No answer of it was labeled in the last 30 days.");
  const tiers = [...new Set(rows.map((row) => row.tier))];
  const days = Map.groupBy(rows, (row) => row.day);
  return table("Quality over time", ["day (UTC)", ...tiers], [...days].reverse().map(([at, found]) => [day(at), ...tiers.map((tier) => {
    const one = found.find((row) => row.tier === tier);
    return one ? `${percent(one.grade)} of ${count(one.labels)}` : NONE;
  })]));
}

const certificates = (rows) => (rows.length ? table("Certificates", ["batch", "submitted", ["quality", "left"]], rows.map((row) => [
  h("span", {}, h("span", { class: "source" }, row.source), h("a", { class: "below", href: `/dashboard/batch.html#${encodeURIComponent(row.batch_id)}` }, h("code", {}, row.batch_id))),
  day(row.created_at), [quality(row.quality), "left"]])) : empty("None yet: a batch with a quality floor gets one."));

async function load() {
  const whose = key();
  try {
    const found = await asked(`/v1/pointsman/workload?name=${encodeURIComponent(name)}`);
    if (key() !== whose) return; // of another tenant, perhaps
    last = found;
    show(last);
  } catch (error) {
    if (key() !== whose) return;
    if (error.status === 401) openKeyForm();
    byId("of").textContent = error.message;
  }
}

function show(found) {
  document.title = `${name} · Pointsman`;
  byId("workload-title").textContent = name;
  byId("of").textContent = `spend of the last 30 days (UTC), by tier and day${found.spend.simulated ? ", simulated" : ""}`;
  useTiers(found.tiers);
  draw("spend", found.spend, (spend, width) => (spend.calls ? spendByDay(spend, width) : empty("No call of it has ended in the last 30 days.")));
  draw("grades", found.grades, grades);
  draw("certificates", found.batches, certificates);
}

new ResizeObserver(() => last && show(last)).observe(document.body);

addEventListener("hashchange", () => location.reload());
keyForm(() => {
  for (const part of PARTS) byId(part).replaceChildren();
  last = null;
  redraw();
  load();
});
load();
setInterval(load, EVERY_MS);
