// The API key: kept in this tab's session and sent in a header, never in a URL.
// A login by a proxy is its cookie, which a request brings to this origin alone.
const NAME = "pointsman-key";

export const key = () => sessionStorage.getItem(NAME) || "";
export const store = (value) => sessionStorage.setItem(NAME, value.trim());
export const forget = () => sessionStorage.removeItem(NAME);

export function request(path, options = {}) {
  const headers = { "x-pointsman-page": "1", ...options.headers, ...(key() ? { authorization: `Bearer ${key()}` } : {}) };
  return fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
}

export async function errorMessage(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `HTTP ${response.status}`;
  }
}

// The JSON of a response; an Error with its status and message where there is none.
export async function asked(path, options) {
  const response = await request(path, options);
  if (!response.ok) throw Object.assign(new Error(await errorMessage(response)), { status: response.status });
  return response.json();
}
