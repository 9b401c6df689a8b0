// Elements from names, attributes and children. A string always becomes a text node, never HTML.
const SVG = "http://www.w3.org/2000/svg";

export const h = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
export const s = (name, attributes = {}, ...children) => build(document.createElementNS(SVG, name), attributes, children);
export const byId = (id) => document.getElementById(id);

// The name in the fragment of the address. A malformed escape stays as it is: then nothing has this name.
export function named() {
  const fragment = location.hash.slice(1);
  try {
    return decodeURIComponent(fragment);
  } catch {
    return fragment;
  }
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "width" && !(element instanceof SVGElement)) element.style.width = value;
    else if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const drawn = new Map();

// Draws into the element `id` only when `data` has changed, so that focus and selection stay.
export function draw(id, data, make) {
  const element = byId(id);
  const key = JSON.stringify(data) + (element.clientWidth || "");
  if (drawn.get(id) === key) return;
  drawn.set(id, key);
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...[make(data, element.clientWidth || 480)].flat());
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

export const redraw = () => drawn.clear();

// A table with a row of headings; a cell is [content, class] or content alone. The first cell of a row is its heading.
export function table(caption, headings, rows) {
  const cell = (content, tag, scope) => {
    const [inside, css] = Array.isArray(content) && content.length === 2 && typeof content[1] === "string" ? content : [content];
    return h(tag, { class: css, scope }, inside ?? "");
  };
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, headings.map((heading) => cell(heading, "th", "col")))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, cell(first, "th", "row"), rest.map((content) => cell(content, "td")))))));
}

// A bar of parts: [share between 0 and 1, class].
export const rail = (parts) =>
  h("span", { class: "rail", "aria-hidden": "true" },
    parts.map(([share, css]) => h("i", { class: css, width: `${Math.max(0, Math.min(1, share || 0)) * 100}%` })));
