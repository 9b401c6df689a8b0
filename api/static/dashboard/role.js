// The tenant and the role of the page's key: asked when a page is opened, and after each change of key.
import { asked, key } from "./key.js";

const RANKS = ["viewer", "operator", "admin"];
let me = null;

// False until the service has answered, and where it refuses the key.
export const isKnown = () => me !== null;
export const tenant = () => me?.tenant;
export const may = (needed) => isKnown() && RANKS.indexOf(me.role) >= RANKS.indexOf(needed);

export async function learnRole() {
  const whose = key();
  me = null;
  const found = await asked("/v1/pointsman/me").catch(() => null);
  if (key() === whose) me = found;
}
