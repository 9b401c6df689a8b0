// Shows one answer after the other and sends what is said of it. Words of users become text nodes only.
import { byId, h } from "/dashboard/dom.js";
import { ask, reason } from "/dashboard/key.js";
import { keyForm, wantKey } from "/dashboard/key_form.js";

let waiting = [];
let shown = null;
let past = [];
let said = 0;
let busy = false;
const skipped = new Set();
const name = (each) => `${each.batch_id}/${each.custom_id}/${each.tier}`;
const by = () => document.querySelector("input[name=by]:checked").value;
const tell = (words) => { byId("news").textContent = words; };

// Nothing is said twice: what was skipped stays away until the page is opened again.
async function next() {
  if (!waiting.length && !(await more())) return;
  show(waiting.shift());
}

function show(each) {
  shown = each;
  byId("answer-title").textContent = shown.custom_id;
  byId("meta").textContent = [shown.tier, shown.model, shown.confidence === null ? "not judged" : `confidence ${shown.confidence.toFixed(2)}`, shown.by === "doubt" ? "shown for its doubt" : "shown by chance"].join(" · ");
  byId("question").replaceChildren(...shown.messages.map(({ role, text }) => h("pre", { tabindex: "0", role: "region", "aria-label": `Question, ${role}` }, h("span", { class: "role" }, role), text)));
  byId("text").textContent = shown.answer || "(empty)";
  byId("progress").textContent = `${said} labelled · ${waiting.length} more in this round`;
  byId("undo").disabled = !past.length;
  byId("answer").hidden = false;
  byId("answer-title").focus({ preventScroll: true });
}

async function more() {
  try {
    const response = await ask(`/v1/pointsman/labels/sample?by=${by()}&limit=${Math.min(20 + skipped.size, 100)}`);
    if (response.status === 401) wantKey();
    if (!response.ok) throw new Error(await reason(response));
    waiting = (await response.json()).data.filter((each) => !skipped.has(name(each)));
    if (!waiting.length) done(skipped.size ? "Only skipped answers are left." : "No answer waits for a label.");
    else if (!past.length) tell("Is the answer right? Press y, n, s to skip, u to take the last one back.");
  } catch (error) {
    done(`It cannot be asked: ${error.message}`);
  }
  return waiting.length > 0;
}

function done(words) {
  shown = null;
  byId("answer").hidden = true;
  byId("progress").textContent = "";
  tell(said ? `${words} ${said} labelled.` : words);
}

async function say(grade) {
  if (!shown || busy) return;
  busy = true;
  try {
    if (grade === null) skipped.add(name(shown));
    else {
      const { batch_id, custom_id, tier, by } = shown;
      const response = await ask("/v1/pointsman/labels", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ batch_id, custom_id, tier, grade, by }),
      });
      if (!response.ok) throw new Error(await reason(response));
      said += shown.said === undefined ? 1 : 0;
      shown.said = grade;
      skipped.delete(name(shown));
      tell(`${custom_id}: ${grade ? "right" : "wrong"}. ${said} labelled.`);
    }
    past.push(shown);
    await next();
  } catch (error) {
    tell(`It was not taken: ${error.message}`);
  } finally {
    busy = false;
  }
}

// Labels are only added, and the newest counts: so what was said stays until something else is said of it.
function undo() {
  if (busy || !past.length) return;
  if (shown) waiting.unshift(shown);
  const back = past.pop();
  skipped.delete(name(back));
  show(back);
  tell(back.said === undefined ? "Back to what you skipped." : `You said ${back.said ? "right" : "wrong"}: say it anew, or skip to leave it so.`);
}

async function again() {
  waiting = [];
  past = [];
  byId("answer").hidden = true;
  shown = null;
  await next();
}

byId("right").addEventListener("click", () => say(1));
byId("wrong").addEventListener("click", () => say(0));
byId("skip").addEventListener("click", () => say(null));
byId("undo").addEventListener("click", undo);
const KEYS = { y: 1, n: 0, s: null };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input:not([type=radio])")) return;
  if (event.key.toLowerCase() === "u") undo();
  else if (Object.hasOwn(KEYS, event.key.toLowerCase())) say(KEYS[event.key.toLowerCase()]);
});
for (const input of document.querySelectorAll("input[name=by]")) input.addEventListener("change", again);

keyForm(() => {
  skipped.clear();
  said = 0;
  for (const id of ["answer-title", "meta", "question", "text", "progress"]) byId(id).replaceChildren();
  again();
});

next();
