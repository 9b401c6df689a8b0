// Connects the page: live data, the key form, the search.
import { byId, draw, h, redraw } from "./dom.js";
import { count, time } from "./format.js";
import { asked, errorMessage, key, request } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import * as panels from "./panels.js";
import { learnRole } from "./role.js";
import { watch } from "./stream.js";
import { showTimeline } from "./timeline.js";

const SPEND_EVERY_MS = 60000;

let last = null;
let ended = new Map();
let spent = null;

function show(all) {
  last = all;
  panels.useTiers(all.fleet.tiers);
  const recent = all.recent;
  byId("simulated").hidden = !all.fleet.simulated;
  document.title = all.open ? `${count(all.open)} open · Pointsman` : "Pointsman";
  draw("whose", [all.tenant, all.fleet.name], ([tenant, fleet]) => [
    h("div", {}, h("dt", {}, "tenant"), h("dd", {}, tenant)), h("div", {}, h("dt", {}, "fleet"), h("dd", {}, fleet))]);
  draw("tiles", { open: all.open, queries_per_s: all.queries_per_s, eta_s: all.eta_s, rates: all.rates, reserved: all.reserved, stages: all.stages, fleet: all.fleet,
    recent: { cost: recent.cost, escalated: recent.escalated, judged: recent.judged, escalation_rate: recent.escalation_rate } }, panels.tiles);
  draw("queues", all.stages, panels.queues);
  draw("batches", all.batches, panels.batches);
  draw("chats", all.chats, panels.chats);
  byId("waves-panel").hidden = !all.waves.length;
  draw("waves", all.waves, panels.waves);
  drawMix();
  draw("cost", { cost: recent.cost, answered: recent.answered }, (data) => panels.cost(data, all.fleet.top));
  draw("escalation", pick(recent, ["judged", "rejected", "escalated", "escalation_rate", "reasons", "doubted", "escalated_to"]), panels.escalation);
  draw("confidence", recent.confidence, panels.confidence);
  draw("router", { router: all.router, recent: { routed: recent.routed, drift: recent.drift } }, panels.router);
  draw("providers", all.providers, panels.providers);
  drawSpend();
  byId("seen").textContent = panels.seen(all);
  announceEnds(all.batches);
}

const pick = (from, names) => Object.fromEntries(names.map((name) => [name, from[name]]));
const drawSpend = () => spent && draw("spend", spent, panels.spend);
const span = () => document.querySelector("input[name=span]:checked").value;
const drawMix = () => draw("mix", { mix: pick(last.recent.mix, [span()]), answered: last.recent.answered }, (data, width) => panels.mix(data, width, span()));

// A screen reader announces only the end of a batch.
function announceEnds(batches) {
  const now = new Map(batches.map((batch) => [batch.id, Boolean(batch.ended_at)]));
  for (const batch of batches) {
    if (batch.ended_at && ended.get(batch.id) === false) {
      byId("news").textContent = `Batch ${batch.source} has ended: ${count(batch.done)} done, ${count(batch.failed)} failed.`;
    }
  }
  ended = now;
}

function state(name, text) {
  const link = byId("link");
  if (link.dataset.state !== name || link.textContent !== text) {
    link.dataset.state = name;
    link.textContent = text;
  }
  document.body.classList.toggle("stale", ["lost", "away", "refused"].includes(name));
  if (name === "refused") openKeyForm();
}

const stream = watch("/v1/pointsman/live", {
  event(name, data) {
    if (name === "away") return state("away", "Database unavailable, retrying");
    show(data);
    state("live", "Live");
  },
  state,
});

const splitBy = () => document.querySelector("input[name=split]:checked").value;

async function loadSpend() {
  const by = splitBy();
  const whose = key();
  try {
    const [days, split] = await Promise.all(["day", by].map((one) => asked(`/v1/pointsman/spend?by=${one}`)));
    if (key() !== whose || splitBy() !== by) return; // of another tenant, perhaps, or of an earlier choice
    spent = { days, split };
  } catch {
    return; // the stream says what is wrong
  }
  if (last) drawSpend();
}

// What is drawn before the role is known has no buttons.
async function begin() {
  loadSpend();
  await learnRole();
  redraw();
  if (last) show(last);
}

keyForm(() => {
  for (const id of ["found", "timeline", "whose", "tiles", "queues", "batches", "chats", "waves", "mix", "cost", "escalation", "spend", "confidence", "router", "providers"]) byId(id).replaceChildren();
  ended = new Map();
  last = null;
  spent = null;
  begin();
  stream.restart();
});

begin();
setInterval(loadSpend, SPEND_EVERY_MS);
for (const input of document.querySelectorAll("input[name=split]")) input.addEventListener("change", loadSpend);

for (const input of document.querySelectorAll("input[name=span]")) input.addEventListener("change", () => last && drawMix());
new ResizeObserver(() => { if (last) { redraw(); show(last); } }).observe(document.body);

byId("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = byId("custom-id").value.trim();
  if (!wanted) return;
  byId("timeline").replaceChildren();
  byId("found").textContent = "Searching…";
  try {
    const response = await request(`/v1/pointsman/queries?custom_id=${encodeURIComponent(wanted)}`);
    if (!response.ok) throw new Error(await errorMessage(response));
    offer((await response.json()).data, wanted);
  } catch (error) {
    byId("found").textContent = `Search failed: ${error.message}`;
  }
});

byId("custom-id").addEventListener("input", (event) => {
  if (!event.target.value) for (const id of ["found", "timeline"]) byId(id).replaceChildren();
});

function offer(rows, wanted) {
  if (!rows.length) {
    byId("found").textContent = `No query “${wanted}” in the newest batches. Lines of plain text are named line-1, line-2 and so on.`;
    return;
  }
  const buttons = rows.map((row) => h("button", { type: "button", "aria-pressed": "false", onclick: () => choose(row, buttons, rows.indexOf(row)) }, `${time(row.submitted_at)} · ${row.state}`));
  byId("found").replaceChildren(...(rows.length > 1 ? [`${rows.length} batches, newest first:`, h("ul", {}, buttons.map((button) => h("li", {}, button)))] : ["Found in one batch."]));
  choose(rows[0], buttons, 0);
}

function choose(row, buttons, place) {
  buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(n === place)));
  return showTimeline(row.batch_id, row.custom_id, last?.fleet.tiers ?? []);
}
