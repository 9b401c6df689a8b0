// What a key may do to a batch: download its answers; with the role operator also pause, resume and cancel it.
import { byId, h } from "./dom.js";
import { errorMessage, request } from "./key.js";
import { may } from "./role.js";

const say = (batch, words) => { byId("did").textContent = `${batch.source} (${batch.id}): ${words}`; };

async function post(batch, path, done, body) {
  try {
    const sent = body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {};
    const response = await request(path, { method: "POST", ...sent });
    say(batch, response.ok ? done : await errorMessage(response));
  } catch (error) {
    say(batch, `failed: ${error.message}`);
  }
}

const own = (batch, action) => `/v1/pointsman/batches/${encodeURIComponent(batch.id)}/${action}`;

function raise(batch) {
  const wanted = prompt(`New budget for ${batch.source} in USD. ${batch.held} queries are held.`);
  if (wanted === null) return;
  const usd = Number(wanted);
  if (!wanted.trim() || !Number.isFinite(usd) || usd < 0) return say(batch, `“${wanted}” is not an amount in USD. Enter a number such as 12.50`);
  post(batch, own(batch, "budget"), `budget raised to $${usd}`, { max_cost_usd: usd });
}

function cancel(batch) {
  if (confirm(`Cancel the ${batch.open} open queries of ${batch.source}? Its answers are kept.`)) {
    post(batch, `/v1/batches/${encodeURIComponent(batch.id)}/cancel`, "cancelled");
  }
}

async function download(batch) {
  try {
    const found = await request(`/v1/batches/${encodeURIComponent(batch.id)}`);
    if (!found.ok) return say(batch, await errorMessage(found));
    const { output_file_id: output, error_file_id: errors } = await found.json();
    if (!output && !errors) return say(batch, "its files are not ready yet");
    const files = [[output, "answers"], [errors, "errors"]].filter(([id]) => id);
    for (const [id, kind] of files) {
      const content = await request(`/v1/files/${encodeURIComponent(id)}/content`);
      if (!content.ok) return say(batch, await errorMessage(content));
      const url = URL.createObjectURL(await content.blob());
      h("a", { href: url, download: `${batch.id}.${kind}.jsonl` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    }
    say(batch, `${files.map(([, kind]) => kind).join(" and ")} downloaded`);
  } catch (error) {
    say(batch, `not downloaded: ${error.message}`);
  }
}

export function actions(batch) {
  // The second of two buttons stays the second one: the focus stays with it while the page is drawn again.
  let place = 0;
  const button = (words, act) =>
    h("button", { type: "button", id: `${batch.id}-${place++}`, "aria-label": `${words} ${batch.source}, ${batch.id}`, onclick: act }, words);
  if (batch.ended_at) {
    return h("span", { class: "actions" }, button("download", () => download(batch)),
      batch.failed && may("operator") ? button("retry failed", () => post(batch, own(batch, "resume"), "the failed queries are retried")) : null);
  }
  if (batch.cancelled_at || !may("operator")) return null;
  return h("span", { class: "actions" },
    batch.paused_at ? button("resume", () => post(batch, own(batch, "resume"), "resumed")) : button("pause", () => post(batch, own(batch, "pause"), "paused")),
    button("cancel", () => cancel(batch)), batch.held ? button("raise budget", () => raise(batch)) : null);
}
