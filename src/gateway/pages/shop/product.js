// The page of one product.

import { ask } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { field, form } from "../common/forms.js";
import { degraded } from "../common/notices.js";
import { href } from "../common/router.js";
import * as session from "../common/session.js";
import { money, number, t } from "../common/texts.js";
import { picture, pictures, placeholder, stock, take } from "./cards.js";
import { MOST_PIECES, owner } from "./cart.js";

export default async function page({ params, signal, show }) {
  const { data: product, headers } = await ask("GET", `/products/${encodeURIComponent(params.id)}`, { signal, signed: false });
  const more = make("div");
  show(
    product.name,
    make("nav", { "aria-label": t("shop.way"), class: "way" }, way(product)),
    headers.get("x-cache") === "STALE" && degraded(t("shop.staleOne")),
    make(
      "article",
      { class: "detail" },
      gallery(product),
      make(
        "div",
        {},
        make("h1", {}, own(product.name)),
        make("p", { class: "price" }, money(product.price)),
        stock(product),
        product.inStock && order(product),
        facts(product),
      ),
    ),
    more,
  );
  if (!session.isSignedIn() || !owner()) return;
  const part = await import("./for-you.js").catch(() => null);
  more.append((await part?.forYou(owner(), [product.id], signal)) ?? "");
}

/** The address of the catalogue with one filter. */
const filtered = (name, value) => `${href("/")}?${new URLSearchParams({ [name]: value })}`;

function way({ category }) {
  return make(
    "ul",
    {},
    make("li", {}, make("a", { href: href("/") }, t("shop.catalogue"))),
    category && make("li", {}, make("a", { href: filtered("category", category) }, own(category))),
  );
}

/** The first picture large, and buttons for the others. */
function gallery(product) {
  const urls = pictures(product);
  const large = make("div", { class: "large" }, picture(product, urls[0], true));
  if (urls.length < 2) return make("div", { class: "gallery" }, large);
  const choices = urls.map((url, at) =>
    make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          "aria-pressed": String(at === 0),
          "aria-label": t("shop.picture", { count: at + 1, all: urls.length }),
          onclick: choose,
        },
        make("img", { src: url, alt: "", width: 80, height: 60, loading: "lazy", onerror: drawn }),
      ),
    ),
  );
  function drawn({ target }) {
    target.replaceWith(placeholder(product.id));
  }
  function choose({ currentTarget }) {
    const at = choices.findIndex((choice) => choice.contains(currentTarget));
    choices.forEach((choice, index) => choice.firstChild.setAttribute("aria-pressed", String(index === at)));
    large.replaceChildren(picture(product, urls[at], true));
  }
  return make("div", { class: "gallery" }, large, make("ul", { class: "choices" }, choices));
}

function order(product) {
  const pieces = field("quantity", t("shop.quantity"), {
    type: "number",
    min: 1,
    max: MOST_PIECES,
    step: 1,
    value: 1,
    required: true,
    inputmode: "numeric",
  });
  return form({ fields: [pieces], say: t("shop.cart.add"), class: "take", submit: ({ quantity }) => take(product, Number(quantity)) });
}

/** A value of `attributes`, which may be any JSON. */
function shown(value) {
  if (typeof value === "number") return number(value, { maximumFractionDigits: 20 });
  if (typeof value === "boolean") return t(value ? "shop.yes" : "shop.no");
  if (Array.isArray(value) && value.every((part) => typeof part !== "object")) return own(value.map(String).join(", "));
  return own(typeof value === "string" ? value : JSON.stringify(value));
}

function facts({ description, attributes, tags, sku }) {
  const rows = Object.entries(attributes).map(([name, value]) => [make("dt", {}, own(name)), make("dd", {}, shown(value))]);
  if (sku) rows.push([make("dt", {}, t("shop.sku")), make("dd", {}, own(sku))]);
  return [
    description && make("p", { class: "description", dir: "auto" }, description),
    rows.length > 0 && [make("h2", {}, t("shop.facts")), make("dl", {}, rows)],
    tags.length > 0 && [
      make("h2", {}, t("shop.tags")),
      make(
        "ul",
        { class: "tags" },
        tags.map((tag) => make("li", {}, make("a", { class: "badge", href: filtered("tag", tag) }, own(tag)))),
      ),
    ],
  ];
}
