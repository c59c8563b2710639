// What a product looks like in a list.

import { draw, make, own } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { mayLoad } from "../common/pictures.js";
import { href } from "../common/router.js";
import { money, t } from "../common/texts.js";
import * as cart from "./cart.js";

/** The pictures of a product that this page may load. */
export const pictures = (product) => product.images.filter(mayLoad);

/** Numbers from 0 to 1 that are always the same for `text` (FNV-1a, xorshift). */
function* numbers(text) {
  let state = 0x811c9dc5;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 0x01000193) >>> 0;
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    yield state / 2 ** 32;
  }
}

/** A drawing in place of a picture: quiet shapes that are the same each time for the same product. */
export function placeholder(id) {
  const next = (
    (all) => () =>
      all.next().value
  )(numbers(id));
  const hue = Math.round(next() * 360);
  const tone = (turn, light) => `hsl(${(hue + turn) % 360} 32% ${light}%)`;
  const shapes = [0, 1, 2].map((at) => {
    const [x, y, size] = [20 + next() * 120, 15 + next() * 90, 18 + next() * 34];
    const look = { fill: tone(at * 28, 72 - at * 11), opacity: 0.85 };
    return next() < 0.5
      ? draw("circle", { cx: x, cy: y, r: size, ...look })
      : draw("rect", {
          x: x - size,
          y: y - size,
          width: 2 * size,
          height: 2 * size,
          rx: size / 4,
          transform: `rotate(${Math.round(next() * 90)} ${x} ${y})`,
          ...look,
        });
  });
  return draw(
    "svg",
    { class: "picture", viewBox: "0 0 160 120", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" },
    draw("rect", { width: 160, height: 120, fill: tone(0, 88) }),
    shapes,
  );
}

/** The picture at `url`, or a drawing where there is none or it does not come. `isFirst` loads it at once. */
export function picture(product, url = pictures(product)[0], isFirst = false) {
  if (!url) return placeholder(product.id);
  return make("img", {
    class: "picture",
    src: url,
    alt: product.name,
    width: 400,
    height: 300,
    decoding: "async",
    loading: isFirst ? "eager" : "lazy",
    onerror: (event) => event.target.replaceWith(placeholder(product.id)),
  });
}

export const stock = (product) =>
  make("p", { class: product.inStock ? "stock" : "stock gone" }, t(product.inStock ? "shop.stock.there" : "shop.stock.gone"));

/** A name within a text, with a direction of its own (Unicode, UAX 9). */
export const isolated = (name) => `\u2068${name}\u2069`;

/** Puts pieces of a product into the cart, and says so. */
export function take(product, quantity) {
  const there = cart.add(product, quantity);
  announce(
    there ? t("shop.cart.added", { name: isolated(product.name), count: there }) : t("shop.cart.full", { count: cart.MOST_PRODUCTS }),
  );
}

/** A card; the whole of it leads to the product, and it has one link alone. `level` is that of its heading. */
export function card(product, { isFirst = false, level = 2 } = {}) {
  const adds =
    product.inStock &&
    make(
      "button",
      { type: "button", "aria-label": t("shop.cart.addName", { name: product.name }), onclick: () => take(product, 1) },
      t("shop.cart.add"),
    );
  return make(
    "li",
    { class: "product" },
    picture(product, undefined, isFirst),
    make(`h${level}`, { class: "name" }, make("a", { href: href(`/products/${encodeURIComponent(product.id)}`) }, own(product.name))),
    make("p", { class: "price" }, money(product.price)),
    make("div", { class: "foot" }, stock(product), adds),
  );
}
