// Shows one answer after the other and sends what is said of it. Words of users become text nodes only.
import { byId, h } from "/dashboard/dom.js";
import { ask, forget, keep, reason } from "/dashboard/key.js";

let waiting = [];
let shown = null;
let said = 0;
let busy = false;
const skipped = new Set();
const name = (each) => `${each.batch_id}/${each.custom_id}/${each.tier}`;
const by = () => document.querySelector("input[name=by]:checked").value;
const tell = (words) => { byId("news").textContent = words; };

// Nothing is said twice: what was skipped stays away until the page is opened again.
async function next() {
  if (!waiting.length && !(await more())) return;
  shown = waiting.shift();
  byId("answer-title").textContent = shown.custom_id;
  byId("meta").textContent = [shown.tier, shown.model, shown.confidence === null ? "not judged" : `confidence ${shown.confidence.toFixed(2)}`].join(" · ");
  byId("question").replaceChildren(...shown.messages.map(({ role, text }) => h("pre", { tabindex: "0", role: "region", "aria-label": `Question, ${role}` }, h("span", { class: "role" }, role), text)));
  byId("text").textContent = shown.answer || "(empty)";
  byId("answer").hidden = false;
  byId("answer-title").focus({ preventScroll: true });
}

async function more() {
  try {
    const response = await ask(`/v1/pointsman/labels/sample?by=${by()}&limit=${Math.min(20 + skipped.size, 100)}`);
    if (response.status === 401) byId("key").open = true;
    if (!response.ok) throw new Error(await reason(response));
    waiting = (await response.json()).data.filter((each) => !skipped.has(name(each)));
    if (!waiting.length) done(skipped.size ? "Only skipped answers are left." : "No answer waits for a label.");
    else tell(said ? `${said} labelled` : "Is the answer right? Press y, n, or s to skip.");
  } catch (error) {
    done(`It cannot be asked: ${error.message}`);
  }
  return waiting.length > 0;
}

function done(words) {
  shown = null;
  byId("answer").hidden = true;
  tell(said ? `${words} ${said} labelled.` : words);
}

async function say(grade) {
  if (!shown || busy) return;
  busy = true;
  try {
    if (grade === null) skipped.add(name(shown));
    else {
      const { batch_id, custom_id, tier } = shown;
      const response = await ask("/v1/pointsman/labels", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ batch_id, custom_id, tier, grade }),
      });
      if (!response.ok) throw new Error(await reason(response));
      said += 1;
      tell(`${custom_id}: ${grade ? "right" : "wrong"}. ${said} labelled.`);
    }
    await next();
  } catch (error) {
    tell(`It was not taken: ${error.message}`);
  } finally {
    busy = false;
  }
}

async function again() {
  waiting = [];
  byId("answer").hidden = true;
  shown = null;
  await next();
}

byId("right").addEventListener("click", () => say(1));
byId("wrong").addEventListener("click", () => say(0));
byId("skip").addEventListener("click", () => say(null));
const KEYS = { y: 1, n: 0, s: null };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input:not([type=radio])")) return;
  if (Object.hasOwn(KEYS, event.key.toLowerCase())) say(KEYS[event.key.toLowerCase()]);
});
for (const input of document.querySelectorAll("input[name=by]")) input.addEventListener("change", again);
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!byId("key-field").value.trim()) return;
  keep(byId("key-field").value);
  change();
});
byId("key-forget").addEventListener("click", () => { forget(); change(); });

// Nothing of one tenant stays on the page of another.
function change() {
  byId("key-field").value = "";
  byId("key").open = false;
  skipped.clear();
  said = 0;
  for (const id of ["answer-title", "meta", "question", "text"]) byId(id).replaceChildren();
  again();
}

next();
