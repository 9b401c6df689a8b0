// The registered routers and the tenant's keys, and what an admin can change of them.
import { byId, h, table } from "./dom.js";
import { NONE, count } from "./format.js";
import { asked } from "./key.js";
import { keyForm, openKeyForm } from "./key_form.js";
import { learnRole, may } from "./role.js";
import { button, change, promote, rollBack, say, serves } from "./routers.js";

const day = (at) => new Date(typeof at === "number" ? at * 1000 : at).toISOString().slice(0, 16).replace("T", " ");
const fixed = (number) => (typeof number === "number" ? number.toFixed(3) : NONE);

async function load(path, show, id) {
  try {
    show(await asked(path));
  } catch (error) {
    if (error.status === 401) openKeyForm();
    byId(id).replaceChildren(h("p", { class: "empty" }, error.message));
  }
}

function routers({ promoted, routers: rows, history }) {
  const all = [{ name: "default", evaluation: null }, ...rows];
  const tiers = [...new Set(all.flatMap((row) => Object.keys(row.evaluation?.tiers ?? {})))];
  byId("routers").replaceChildren(table("Routers", ["router", ["added", "left"], ["held-out lines"], "APGR", ...tiers.map((tier) => `Brier at ${tier}`), ...(may("admin") ? ["change"] : [])],
    all.map((row) => [
      h("span", {}, row.name, " ", row.name === promoted ? serves() : null),
      [row.added_at ? `${day(row.added_at)} by ${row.added_by}` : "shipped", "left"],
      row.evaluation ? count(row.evaluation.lines) : NONE, fixed(row.evaluation?.apgr),
      ...tiers.map((tier) => fixed(row.evaluation?.tiers[tier]?.brier)),
      ...(may("admin") ? [promote(row.name, promoted, routers)] : [])])));
  byId("undo").replaceChildren(rollBack(history, routers));
  byId("history").replaceChildren(history.length ? table("Promotions", ["router", "promoted", "undone"],
    history.toReversed().map((one) => [one.name, `${day(one.promoted_at)} by ${one.promoted_by}`, one.undone_at ? `${day(one.undone_at)} by ${one.undone_by}` : NONE]))
    : h("p", { class: "empty" }, "No router has been promoted. The shipped router serves."));
}

function keys({ data }) {
  byId("keys").replaceChildren(data.length ? table("API keys", ["key", ["name", "left"], ["role", "left"], "created", "change"],
    data.map((key) => [h("code", {}, key.identity ?? `pm-${key.id}-…`), [key.name, "left"], [key.role, "left"], day(key.created_at),
      key.revoked_at ? "revoked" : button("revoke", key.name, () => confirm(`Revoke ${key.name}? It stops working within a second.`)
        && change(`${key.name} is revoked`, `/v1/pointsman/keys/${key.id}`, "DELETE", loadKeys))]))
    : h("p", { class: "empty" }, "There is no key yet. Once there is one, every request needs a key."));
}

const loadKeys = () => load("/v1/pointsman/keys", keys, "keys");

async function loadAll() {
  for (const id of ["routers", "undo", "history", "keys", "made"]) byId(id).replaceChildren();
  say("");
  await learnRole();
  byId("keys-panel").hidden = !may("admin");
  load("/v1/pointsman/routers", routers, "routers");
  if (may("admin")) loadKeys();
}

byId("new-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ name: byId("key-name").value.trim(), role: byId("key-role").value });
  try {
    const made = await asked("/v1/pointsman/keys", { method: "POST", body, headers: { "content-type": "application/json" } });
    byId("made").replaceChildren("Save it now; it is not shown again: ", h("code", {}, made.key));
    byId("new-key").reset();
    loadKeys();
  } catch (error) {
    byId("made").textContent = error.message;
  }
});

keyForm(loadAll);
loadAll();
