// The form of the API key, for each page that has <details id="key">. `changed` hears that it is another key from now
// on: nothing of one tenant stays on the page of another.
import { byId, h } from "./dom.js";
import { forget, keep } from "./key.js";

export function keyForm(changed) {
  const field = h("input", { id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "pm-…", "aria-describedby": "key-note" });
  const change = () => {
    field.value = "";
    byId("key").open = false;
    byId("key").querySelector("summary").focus();
    changed();
  };
  const form = h("form", { id: "key-form" },
    h("label", { for: "key-field" }, "API key of a tenant"),
    field,
    h("button", { type: "submit" }, "Use it"),
    h("button", { type: "button", id: "key-forget", onclick: () => { forget(); change(); } }, "Forget it"),
    h("p", { id: "key-note" }, "Kept in this tab until it is closed, and sent in a header only. ", h("code", {}, "pointsman keys create"), " makes one."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    keep(field.value);
    change();
  });
  byId("key").append(form);
}

// Opened where the service asks for a key, or refuses the one it got.
export const wantKey = () => { byId("key").open = true; };
