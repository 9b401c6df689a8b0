// Whose key it is and what it may do: asked when a page is opened, and after each change of key.
import { asked, key } from "./key.js";

const RANKS = ["viewer", "operator", "admin"];
let me = null;

// Known once the service has answered; a page whose key is refused knows none.
export const isKnown = () => me !== null;
export const tenant = () => me?.tenant;
export const may = (needed) => isKnown() && RANKS.indexOf(me.role) >= RANKS.indexOf(needed);

export async function learnRole() {
  const whose = key();
  me = null;
  const found = await asked("/v1/pointsman/me").catch(() => null);
  if (key() === whose) me = found;
}
