// The page of the cart: its lines with the prices of now, and what is not as it was.

import { by, keyed, make, own, say } from "../common/dom.js";
import { announce, trouble } from "../common/notices.js";
import { href } from "../common/router.js";
import { money, t } from "../common/texts.js";
import { isolated, picture } from "./cards.js";
import * as cart from "./cart.js";
import { look, sum } from "./prices.js";

export default async function page({ signal, show }) {
  const known = new Map();
  const list = make("ul", { class: "lines" });
  const total = make("p", { class: "total", role: "status" });
  const notice = make("div");
  const on = make("a", { class: "button primary", href: href("/checkout") }, t("shop.checkout.go"));
  const empty = make("p", {}, t("shop.cart.empty"), " ", make("a", { href: href("/") }, t("shop.toCatalogue")));
  const draw = () => {
    const lines = cart.lines();
    keyed(
      list,
      lines,
      ({ id }) => id,
      (line) => row(line),
      (item, line) => fill(item, line, known.get(line.id)),
    );
    for (const element of [list, total, on]) element.hidden = !lines.length;
    empty.hidden = lines.length > 0;
    say(total, t("shop.cart.total", { sum: money(sum(lines, known)) }));
  };
  const refresh = async () => {
    notice.replaceChildren();
    const unknown = cart.lines().filter(({ id }) => !known.has(id));
    if (!unknown.length) return draw();
    try {
      for (const [id, product] of await look(unknown, signal)) known.set(id, product);
    } catch (error) {
      if (signal.aborted) return;
      notice.replaceChildren(trouble(error, refresh));
    }
    draw();
  };
  show(
    t("shop.cart.title"),
    make("h1", {}, t("shop.cart.title")),
    notice,
    empty,
    make("div", { class: "narrow" }, list, total, make("p", { class: "actions" }, on)),
  );
  // Another tab may add what this page has not asked for yet.
  cart.listen(refresh, signal);
  draw();
  await refresh();
  cart.seen([...known.values()].filter(Boolean));
}

function row({ id, name }) {
  const removes = ({ currentTarget }) => remove(id, name, currentTarget.closest("li"));
  return make(
    "li",
    {},
    make("div", { class: "thumb" }),
    make(
      "div",
      { class: "what" },
      make("p", { class: "name" }, make("a", { href: href(`/products/${encodeURIComponent(id)}`) }, own(name))),
      make("p", { class: "soft each" }),
      make("p", { class: "change" }),
    ),
    stepper(id, name),
    make("p", { class: "price" }),
    make(
      "button",
      { type: "button", class: "plain", "aria-label": t("shop.cart.removeName", { name }), onclick: removes },
      t("shop.cart.remove"),
    ),
  );
}

/** The quantity, as a field between two buttons. */
function stepper(id, name) {
  const label = t("shop.cart.quantityOf", { name });
  const changes = () => change(id, input);
  const input = make("input", {
    type: "number",
    min: 1,
    max: cart.MOST_PIECES,
    step: 1,
    inputmode: "numeric",
    "aria-label": label,
    oninput: () => (input.dataset.typed = "yes"),
    onchange: changes,
  });
  const step = (by, sign, label) => {
    const steps = () => {
      // Another tab may have changed it.
      const there = cart.lines().find((line) => line.id === id)?.quantity ?? 0;
      input.value = there + by;
      change(id, input);
    };
    return make("button", { type: "button", "aria-label": label, onclick: steps }, sign);
  };
  return make(
    "div",
    { class: "stepper" },
    step(-1, "−", t("shop.cart.fewer", { name })),
    input,
    step(1, "+", t("shop.cart.more", { name })),
  );
}

function change(id, input) {
  const quantity = Math.min(Math.max(Math.trunc(Number(input.value)) || 1, 1), cart.MOST_PIECES);
  input.value = quantity;
  delete input.dataset.typed;
  cart.put(id, quantity);
}

/** Removes a line; the focus goes to the next one, or to the heading. */
function remove(id, name, item) {
  const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector(".plain");
  cart.put(id, 0);
  announce(t("shop.cart.removed", { name: isolated(name) }));
  (next ?? by("main").querySelector("h1")).focus();
}

/** `product` is undefined before it is known, and null when it is gone. */
function fill(item, line, product) {
  const input = item.querySelector("input");
  // What is being typed stays.
  if (!input.dataset.typed) input.value = line.quantity;
  const price = product?.price ?? line.price;
  item.classList.toggle("over", product === null || product?.inStock === false);
  say(item.querySelector(".each"), t("shop.cart.each", { price: money(price) }));
  say(item.querySelector(".price"), product === null ? "–" : money(price * line.quantity));
  const thumb = item.querySelector(".thumb");
  if (product !== undefined && !thumb.firstChild) thumb.append(picture(product ?? { id: line.id, name: line.name, images: [] }));
  const note = item.querySelector(".change");
  if (product === undefined) return;
  const was = note.dataset.was ?? String(line.price);
  note.dataset.was = was;
  if (product === null) say(note, t("shop.cart.gone"));
  else if (!product.inStock) say(note, t("shop.cart.soldOut"));
  else say(note, Number(was) === price ? "" : t("shop.cart.priceChanged", { was: money(Number(was)), price: money(price) }));
}
