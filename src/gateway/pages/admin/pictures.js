// Pictures of products, as far as the policy of the page allows them.

import { make } from "../common/dom.js";
import { mayLoad } from "../common/pictures.js";

/** The picture at `address`, or an empty place of its size. It is decoration: the name stands beside it. */
export function picture(address, name) {
  const empty = () => make("span", { class: `${name} empty`, "aria-hidden": "true" });
  if (!address || !mayLoad(address)) return empty();
  const image = make("img", { class: name, src: address, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(empty()));
  return image;
}
