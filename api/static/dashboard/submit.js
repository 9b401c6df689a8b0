// Submits a batch: checks the file and shows its forecast, and only then offers to submit it. Between the two nothing is
// stored: the file that was uploaded for the forecast is removed at once.
import { byId, h, table } from "./dom.js";
import { count, duration, money, percent } from "./format.js";
import { asked, request } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import { isKnown, learnRole, may } from "./role.js";

const value = (id) => byId(id).value.trim();
const say = (words) => { byId("did").textContent = words; };

let checked = null; // {blob, name, body, key}: what was checked is what is submitted
let stored = null; // the id of a file that no batch has taken yet

const asJson = (body, headers = {}) => ({ method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } });

function amount(id, name, most) {
  if (!value(id)) return undefined;
  const number = Number(value(id));
  if (!Number.isFinite(number) || number < 0 || number > most) throw new Error(`${name}: “${value(id)}” is not a number from 0 to ${most}`);
  return number;
}

function wanted() {
  const [file] = byId("file").files;
  if (!file && !value("pasted")) throw new Error("Choose a file, or paste at least one line");
  if (file && value("pasted")) throw new Error("There is both a file and pasted text: remove one of them");
  const rows = Object.fromEntries([["prompt", value("prompt")], ["id", value("id-column")], ["expected", value("expected")]].filter(([, text]) => text));
  const floor = amount("quality", "Quality floor in %", 100);
  const options = { rows, max_cost_usd: amount("budget", "Budget in USD", 1e8), budget_policy: value("policy") || undefined, quality: floor === undefined ? undefined : floor / 100 };
  return {
    blob: file ?? new Blob([byId("pasted").value]), name: file?.name ?? "pasted.txt", key: crypto.randomUUID(),
    body: { endpoint: "/v1/chat/completions", completion_window: value("window"), pointsman: options },
  };
}

async function upload({ blob, name }, seconds) {
  const form = new FormData();
  form.set("purpose", "batch");
  if (seconds) {
    form.set("expires_after[anchor]", "created_at");
    form.set("expires_after[seconds]", seconds);
  }
  form.set("file", blob, name);
  stored = (await asked("/v1/files", { method: "POST", body: form })).id;
  return stored;
}

async function discard() {
  if (!stored) return;
  const id = stored;
  stored = null;
  await request(`/v1/files/${encodeURIComponent(id)}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function reset() {
  checked = null;
  byId("forecast").hidden = true;
}

async function check() {
  reset();
  byId("check").disabled = true;
  say("Checking…");
  try {
    const batch = wanted();
    let found;
    try {
      found = await asked("/v1/pointsman/dry_run", asJson({ ...batch.body, input_file_id: await upload(batch, 3600) }));
    } finally {
      await discard();
    }
    if (found.errors) return fail(found.errors.data, "Nothing was submitted.");
    checked = batch;
    show(found);
    say(`${count(found.total)} queries are valid. Nothing has been submitted yet.`);
  } catch (error) {
    if (error.status === 401) openKeyForm();
    say(error.message);
  } finally {
    byId("check").disabled = false;
  }
}

function fail(errors, end) {
  const lines = errors.map(({ line, param, message }) => h("li", {}, h("b", {}, [line ? `line ${line}` : "", param].filter(Boolean).join(", ") || "file"), ": ", message));
  byId("did").replaceChildren(`${count(errors.length)} ${errors.length === 1 ? "error" : "errors"}. ${end}`, h("ul", { class: "errors" }, lines));
}

const fact = (name, ...content) => [h("dt", {}, name), h("dd", {}, content)];

function show(found) {
  const { plan, cap_usd: cap } = found;
  const { cost_usd: cost, wall_s: wall, baseline_cost_usd: baseline } = plan;
  const within = `${percent(plan.interval, 0)} within`;
  const rest = plan.pilot?.rest;
  const range = ({ low, high }) => `, ${within} ${money(low)} to ${money(high)}`;
  const expected = ({ expected: usd, unmeasured }) => unmeasured.length ? `not known until there are 8 answers from ${unmeasured.join(", and 8 from ")}` : h("b", {}, money(usd));
  const most = rest ? `the cost if ${rest.most_tier} answers the rest` : "the expected cost of all queries";
  byId("of").textContent = `${count(plan.total)} queries of ${found.source}, ${count(plan.sampled)} sampled`;
  const deadline = (found.deadlines ?? []).find((row) => row.is_asked_for);
  byId("plan").replaceChildren(
    h("dl", { class: "facts", id: "facts" },
      fact("cost", expected(cost), range(cost), rest && !cost.unmeasured.length ? `; with the sample, ${money(rest.least_usd)} if ${rest.least_tier} answers the rest, ${money(rest.most_usd)} if ${rest.most_tier} does` : ""),
      fact("top tier alone", expected(baseline), range(baseline), found.saving_share === null ? "" : `; ${percent(Math.abs(found.saving_share), 0)} ${found.saving_share < 0 ? "more" : "saved"}`),
      fact("budget", cap === null ? "none" : [money(cap), found.covered ? ` covers ${most}` : h("strong", { class: "bad" }, ` does not cover ${most}: ${money(found.uncapped_usd)}`)]),
      found.day_budget ? fact("today's budget", `${money(found.day_budget.cap_usd - found.day_budget.spent_usd)} left of ${money(found.day_budget.cap_usd)}`) : null,
      fact("quality floor", plan.pilot ? `every tier answers a sample of up to ${count(plan.pilot.queries)} queries, for ${cost.unmeasured.length ? [plan.pilot.low_usd, plan.pilot.high_usd].map(money).join(" to ") : money(plan.pilot.cost_usd)}${plan.pilot.grade_cost_usd ? " with its grading" : ""}` : plan.skipped_pilot ? "no sample, because it would cost more than it could save" : checked.body.pointsman.quality ? "the batch is too small for a sample, so the default policy answers it" : "none: the fleet's thresholds apply"),
      fact("time", `${duration(wall.expected)}, ${within} ${duration(wall.low)} to ${duration(wall.high)}; limited by ${plan.bound_by}`),
      deadline && !plan.pilot ? fact("deadline", `${duration(deadline.within_s)}: ${money(deadline.cost_usd)}, ${deadline.p_late < 1e-4 ? "less than 0.01 %" : percent(deadline.p_late, 2)} chance of being late`) : null,
      fact("escalated", rest ? "known after the sample" : `${count(plan.escalated)} queries`),
      found.warnings.map((text) => fact("warning", text)),
      found.followers ? fact("identical", `${count(found.followers)} more queries share the answer of an identical one`) : null,
      fact("basis", Object.entries(plan.basis).map(([name, text]) => `${name}: ${text}`).join("; "))),
    table("Tiers", ["tier", "routed", "answers", "calls", "cost"],
      [...Object.entries(plan.tiers).map(([name, tier]) => [name, count(tier.routed), count(tier.answers), count(tier.calls), cost.unmeasured.includes(name) ? "not known" : money(tier.cost_usd)]),
        ...(plan.pilot?.grade_cost_usd ? [["grading", "", "", "", money(plan.pilot.grade_cost_usd)]] : [])]),
    found.simulated ? h("p", { class: "below after" }, "The fleet is simulated: no money is spent.") : "");
  byId("submit").textContent = `Submit ${count(found.total + found.followers)} queries${found.covered ? "" : " although the budget does not cover them"}`;
  byId("submit").disabled = false;
  byId("forecast").hidden = false;
}

async function submit() {
  if (!checked) return;
  byId("submit").disabled = true;
  const { body, key } = checked;
  say("Submitting…");
  let batch;
  try {
    batch = await asked("/v1/batches", asJson({ ...body, input_file_id: await upload(checked) }, { "idempotency-key": key }));
  } catch (error) {
    await discard();
    byId("submit").disabled = false;
    say(`Not submitted: ${error.message}`);
    return;
  }
  stored = null;
  await accepted(batch).catch((error) => say(`Submitted as ${batch.id}, but its validation cannot be followed: ${error.message}`));
}

async function accepted(batch) {
  while (batch.status === "validating") {
    await new Promise((done) => { setTimeout(done, 500); });
    batch = await asked(`/v1/batches/${encodeURIComponent(batch.id)}`);
  }
  if (batch.status === "failed") {
    stored = batch.input_file_id;
    await discard();
    return fail(batch.errors.data, "The batch was refused.");
  }
  reset();
  byId("batch").reset();
  byId("did").replaceChildren("Submitted as ", h("code", {}, batch.id), ". ", h("a", { href: "/dashboard" }, "Watch it"));
}

byId("batch").addEventListener("submit", (event) => { event.preventDefault(); check(); });
byId("batch").addEventListener("input", reset);
byId("submit").addEventListener("click", submit);
addEventListener("pagehide", discard);

// A key that may only read gets no form.
async function offer() {
  await learnRole();
  const reads = isKnown() && !may("operator");
  byId("batch").hidden = reads;
  if (reads) say("This key can only read. To submit batches, use a key with the role operator.");
}

keyForm(() => { reset(); say(""); offer(); });
offer();
