// What an admin can change of the routers: on their own page, and on that of a workload.
import { byId, h } from "./dom.js";
import { asked } from "./key.js";
import { may } from "./role.js";

export const say = (words) => { byId("did").textContent = words; };
export const button = (words, about, act) => h("button", { type: "button", "aria-label": `${words} ${about}`, onclick: act }, words);
export const serves = () => h("span", { class: "tag" }, "serves");

export async function change(words, path, method, done) {
  try {
    const answer = await asked(path, { method });
    say(words);
    done(answer);
  } catch (error) {
    say(error.message);
  }
}

// The cell of a router: `done` draws the routers anew.
export const promote = (name, promoted, done) => (name === promoted ? "" : button("promote", name, () => confirm(`Use ${name} in every fleet whose classifier is “default”?`)
  && change(`${name} serves; running workers load it within seconds`, `/v1/pointsman/routers/${encodeURIComponent(name)}/promote`, "POST", done)));

export function rollBack(history, done) {
  if (!may("admin")) return "";
  const undo = () => confirm("Return to the previous router?")
    && change("Rolled back; running workers load it within seconds", "/v1/pointsman/routers/rollback", "POST", done);
  return h("button", { type: "button", id: "rollback", disabled: !history.some((one) => !one.undone_at), onclick: undo }, "Roll back to the previous router");
}
