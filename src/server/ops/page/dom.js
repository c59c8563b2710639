// Makes elements. Texts go in as texts alone: names and paths come from clients.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/** An element of HTML with `attributes` and `children`, which are elements or texts. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export const by = (id) => document.getElementById(id);

/** Writes `text` into `element`, unless it is there: a screen reader would read it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Gives `parent` a child for each of `items`, in their order. Children stay, with their focus, as long as their key does. */
export function keyed(parent, items, key, create, update = () => {}) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const [at, item] of items.entries()) {
    const name = key(item, at);
    const child = known.get(name) ?? create(item);
    child.dataset.key = name;
    known.delete(name);
    update(child, item);
    const next = before ? before.nextElementSibling : parent.firstElementChild;
    if (next !== child) parent.insertBefore(child, next);
    before = child;
  }
  for (const child of known.values()) child.remove();
}

/** A table row: its first cell is its header, the others have the name of their column. Roles are said, because narrow screens
 *  show tables as lists, and browsers forget then what they are. */
export function row(columns) {
  const [first, ...others] = columns;
  return make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader", "data-label": first }),
    others.map((column) => make("td", { role: "cell", "data-label": column })));
}
