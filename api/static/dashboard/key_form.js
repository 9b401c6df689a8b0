// The form of the API key, for pages with <details id="key">. `changed` is called after a change of key, so that the
// page drops the data of the other tenant.
import { byId, h } from "./dom.js";
import { forget, store } from "./key.js";

export function keyForm(changed) {
  const field = h("input", { id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "pm-…", "aria-describedby": "key-note" });
  const change = () => {
    field.value = "";
    byId("key").open = false;
    byId("key").querySelector("summary").focus();
    changed();
  };
  const form = h("form", { id: "key-form" },
    h("label", { for: "key-field" }, "API key"),
    field,
    h("button", { type: "submit" }, "Use"),
    h("button", { type: "button", id: "key-forget", onclick: () => { forget(); change(); } }, "Forget"),
    h("p", { id: "key-note" }, "Kept until this tab is closed, and sent in a header only. ", h("code", {}, "pointsman keys create"), " creates one."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    store(field.value);
    change();
  });
  byId("key").append(form);
}

// Opened when the service requires a key or rejects it.
export const openKeyForm = () => { byId("key").open = true; };
