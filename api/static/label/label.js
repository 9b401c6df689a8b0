// Shows one answer after another and sends its label. User text becomes text nodes only.
import { byId, h } from "/dashboard/dom.js";
import { errorMessage, request } from "/dashboard/key.js";
import { keyForm, openKeyForm } from "/dashboard/key_form.js";
import { learnRole, may } from "/dashboard/role.js";

let waiting = [];
let shown = null;
let history = [];
let labeled = 0;
let busy = false;
const skipped = new Set();
const nameOf = (answer) => `${answer.batch_id}/${answer.custom_id}/${answer.tier}`;
const by = () => document.querySelector("input[name=by]:checked").value;
const announce = (text) => { byId("news").textContent = text; };

// A skipped answer does not return until the page is opened again.
async function next() {
  if (!waiting.length && !(await more())) return;
  show(waiting.shift());
}

function show(answer) {
  shown = answer;
  byId("answer-title").textContent = shown.custom_id;
  byId("meta").textContent = shown.by === "judged" ? "one of a compared pair; its model is hidden" : [shown.tier, shown.model, shown.confidence === null ? "not judged" : `confidence ${shown.confidence.toFixed(2)}`, shown.by === "doubt" ? "low confidence" : "random sample"].join(" · ");
  byId("question").replaceChildren(...shown.messages.map(({ role, text }) => h("pre", { tabindex: "0", role: "region", "aria-label": `Question, ${role}` }, h("span", { class: "role" }, role), text)));
  byId("text").textContent = shown.answer || "(empty)";
  byId("progress").textContent = `${labeled} labeled · ${waiting.length} more loaded`;
  byId("undo").disabled = !history.length;
  byId("answer").hidden = false;
  byId("answer-title").focus({ preventScroll: true });
}

async function more() {
  try {
    const response = await request(`/v1/pointsman/labels/sample?by=${by()}&limit=${Math.min(20 + skipped.size, 100)}`);
    if (response.status === 401) openKeyForm();
    if (!response.ok) throw new Error(await errorMessage(response));
    waiting = (await response.json()).data.filter((answer) => !skipped.has(nameOf(answer)));
    if (!waiting.length) done(skipped.size ? "Only skipped answers are left." : "No answers are waiting for a label.");
    else if (!history.length) announce(may("operator") ? "Is the answer right? Press y or n, s to skip, u to go back." : "This key can only read. To label answers, use a key with the role operator.");
  } catch (error) {
    done(`Answers could not be loaded: ${error.message}`);
  }
  return waiting.length > 0;
}

function done(text) {
  shown = null;
  byId("answer").hidden = true;
  byId("progress").textContent = "";
  announce(labeled ? `${text} ${labeled} labeled.` : text);
}

async function label(grade) {
  if (!shown || busy || (grade !== null && !may("operator"))) return;
  busy = true;
  try {
    if (grade === null) skipped.add(nameOf(shown));
    else {
      const { batch_id, custom_id, tier, by } = shown;
      const response = await request("/v1/pointsman/labels", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ batch_id, custom_id, tier, grade, by }),
      });
      if (!response.ok) throw new Error(await errorMessage(response));
      labeled += shown.grade === undefined ? 1 : 0;
      shown.grade = grade;
      skipped.delete(nameOf(shown));
      announce(`${custom_id}: ${grade ? "right" : "wrong"}. ${labeled} labeled.`);
    }
    history.push(shown);
    await next();
  } catch (error) {
    announce(`The label was not saved: ${error.message}`);
  } finally {
    busy = false;
  }
}

// Labels are only added and the newest counts: the earlier label stays until the user chooses again.
function undo() {
  if (busy || !history.length) return;
  if (shown) waiting.unshift(shown);
  const previous = history.pop();
  skipped.delete(nameOf(previous));
  show(previous);
  announce(previous.grade === undefined ? "Back at the skipped answer." : `Labeled ${previous.grade ? "right" : "wrong"}: choose again, or skip to keep it.`);
}

async function restart() {
  waiting = [];
  history = [];
  byId("answer").hidden = true;
  shown = null;
  await begin();
}

async function begin() {
  await learnRole();
  for (const id of ["right", "wrong"]) byId(id).hidden = !may("operator");
  await next();
}

byId("right").addEventListener("click", () => label(1));
byId("wrong").addEventListener("click", () => label(0));
byId("skip").addEventListener("click", () => label(null));
byId("undo").addEventListener("click", undo);
const KEYS = { y: 1, n: 0, s: null };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input:not([type=radio])")) return;
  if (event.key.toLowerCase() === "u") undo();
  else if (Object.hasOwn(KEYS, event.key.toLowerCase())) label(KEYS[event.key.toLowerCase()]);
});
for (const input of document.querySelectorAll("input[name=by]")) input.addEventListener("change", restart);

keyForm(() => {
  skipped.clear();
  labeled = 0;
  for (const id of ["answer-title", "meta", "question", "text", "progress"]) byId(id).replaceChildren();
  restart();
});

begin();
