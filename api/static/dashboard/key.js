// The API key: in this tab's session only, in a header only, never in an address.
const NAME = "pointsman-key";

export const key = () => sessionStorage.getItem(NAME) || "";
export const keep = (value) => sessionStorage.setItem(NAME, value.trim());
export const forget = () => sessionStorage.removeItem(NAME);

export function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key() ? { authorization: `Bearer ${key()}` } : {}) };
  return fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
}

export async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `HTTP ${response.status}`;
  }
}
