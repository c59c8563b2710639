// A product as a form has it: every field is there, absent ones as empty texts and lists.

import { isObject, same } from "./same.js";

/** The fields, in the order in which people read them. */
export const FIELDS = ["name", "price", "description", "category", "sku", "tags", "images", "attributes"];

export const EMPTY = { name: "", price: "", description: "", category: "", sku: "", tags: [], images: [], attributes: {} };

/** Forms end lines by "\n" alone; files and other users of the API may end them otherwise. */
const lines = (text) => text.replace(/\r\n?/g, "\n");

/** The draft of a product of the API. */
export function draftOf(product) {
  const draft = Object.fromEntries(FIELDS.map((field) => [field, product[field] ?? EMPTY[field]]));
  return { ...draft, description: lines(draft.description) };
}

/** The merge patch (RFC 7396) that makes `to` of `from`. */
export function patch(from, to) {
  const made = {};
  for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (!(key in to)) made[key] = null;
    else if (isObject(from[key]) && isObject(to[key])) {
      const inner = patch(from[key], to[key]);
      if (Object.keys(inner).length) made[key] = inner;
    } else if (!same(from[key], to[key])) made[key] = to[key];
  }
  return made;
}

/** What the merge patch `made` makes of `from` (RFC 7396, section 2). */
export function patched(from, made) {
  if (!isObject(made)) return made;
  const to = isObject(from) ? { ...from } : {};
  for (const [key, value] of Object.entries(made)) {
    if (value === null) delete to[key];
    else to[key] = patched(to[key], value);
  }
  return to;
}

/** Without what is empty: the product as the API takes a new one. */
export const filled = (draft) =>
  Object.fromEntries(Object.entries(draft).filter(([, value]) => !same(value, "") && !same(value, []) && !same(value, {})));

/** What changes `base` into `draft`, both as forms have them, in words of the API: what was emptied is removed. */
export const changes = (base, draft) => patch(filled(base), filled(draft));
