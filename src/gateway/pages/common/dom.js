// Makes elements. Texts go in as texts alone: names, addresses and descriptions come from people.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** An element of HTML. An attribute that is a function, as in `onclick`, listens; null, undefined and false leave it out.
 *  Children are elements, texts or lists of them. */
export const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** The same of SVG. */
export const draw = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const by = (id) => document.getElementById(id);

/** A text that people wrote, whose direction is its own (https://www.w3.org/International/questions/qa-html-dir). */
export const own = (text) => make("bdi", {}, text);

/** Writes `text` into `element`, unless it is there: a screen reader would read it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Gives `parent` a child for each of `items`, in their order. Children stay, with their focus, as long as their key does. */
export function keyed(parent, items, key, create, update = () => {}) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const [at, item] of items.entries()) {
    const name = String(key(item, at));
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

/** Calls `act` once it was not called again for `milliseconds`. */
export function settled(milliseconds, act) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}
