// Pictures of products, from the origins that the policy of the page allows.

import { make } from "../common/dom.js";

const allowed = document.documentElement.dataset.images.split(" ").filter(Boolean);

/** Whether the page may load it. */
export function isAllowed(address) {
  try {
    const { origin } = new URL(address, location.href);
    return origin === location.origin || allowed.includes(origin);
  } catch {
    return false;
  }
}

/** The picture at `address`, or an empty place of its size. It is decoration: the name stands beside it. */
export function picture(address, name) {
  const empty = () => make("span", { class: `${name} empty`, "aria-hidden": "true" });
  if (!address || !isAllowed(address)) return empty();
  const image = make("img", { class: name, src: address, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(empty()));
  return image;
}
