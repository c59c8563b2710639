// The checkout: where the order goes, what is in it, and placing it once.

import { make, own } from "../common/dom.js";
import { form } from "../common/forms.js";
import { announce, trouble } from "../common/notices.js";
import { go, href } from "../common/router.js";
import { money, t } from "../common/texts.js";
import * as cart from "./cart.js";
import { delivery, read, remember } from "./delivery.js";
import { place } from "./placing.js";
import { look, sum } from "./prices.js";
import { customer } from "./signed.js";

export default async function page({ signal, show }) {
  const account = await customer();
  if (!account) return;
  if (!cart.lines().length)
    return show(
      t("shop.checkout.title"),
      make("h1", {}, t("shop.checkout.title")),
      make("p", {}, t("shop.cart.empty"), " ", make("a", { href: href("/") }, t("shop.toCatalogue"))),
    );
  const summary = make("section", { class: "card summary", "aria-label": t("shop.checkout.items") });
  const short = make("div");
  const order = async (values) => {
    short.replaceChildren();
    remember(account.id, values);
    const items = cart.lines().map(({ id, quantity }) => ({ productId: id, quantity }));
    try {
      const placed = await place(account.id, { items, ...read(values) });
      cart.ordered(placed.order.items);
      announce(t(placed.isEarlier ? "shop.checkout.earlier" : "shop.checkout.placed"));
      await go(`/orders/${placed.order.id}`, { replace: true });
    } catch (error) {
      if (error.type !== "/problems/out-of-stock") throw error;
      short.replaceChildren(shortage(error.items, () => fill(summary, signal)));
      short.firstChild.focus();
    }
  };
  show(
    t("shop.checkout.title"),
    make("h1", {}, t("shop.checkout.title")),
    make(
      "div",
      { class: "columns" },
      form({ fields: [delivery(account), short], submit: order, say: t("shop.checkout.place"), class: "card" }),
      summary,
    ),
  );
  await fill(summary, signal);
}

/** The lines with the prices of now. */
async function fill(summary, signal) {
  const lines = cart.lines();
  const draw = (products) =>
    summary.replaceChildren(
      make("h2", {}, t("shop.checkout.items")),
      make(
        "ul",
        { class: "plain-lines" },
        lines.map(({ id, name, price, quantity }) =>
          make(
            "li",
            {},
            make("span", {}, t("shop.times", { count: quantity }), " ", own(products.get(id)?.name ?? name)),
            make(
              "span",
              { class: "number" },
              products.get(id) === null ? t("shop.cart.gone") : money((products.get(id)?.price ?? price) * quantity),
            ),
          ),
        ),
      ),
      make("p", { class: "total" }, t("shop.cart.total", { sum: money(sum(lines, products)) })),
      make("p", {}, make("a", { href: href("/cart") }, t("shop.checkout.change"))),
    );
  draw(new Map());
  try {
    draw(await look(lines, signal));
  } catch (error) {
    if (!signal.aborted) summary.prepend(trouble(error, () => fill(summary, signal)));
  }
}

/** Which products are short, and a button that orders what there is. */
function shortage(items, changed) {
  const names = new Map(cart.lines().map(({ id, name }) => [id, name]));
  const box = make(
    "div",
    { class: "trouble", role: "alert", tabindex: "-1" },
    make("p", { class: "what" }, t("shop.short.title")),
    make(
      "ul",
      {},
      items.map(({ productId, quantity, available }) =>
        make("li", {}, own(names.get(productId) ?? productId), ": ", t("shop.short.item", { count: available, wanted: quantity })),
      ),
    ),
  );
  const lower = () => {
    for (const { productId, available } of items) cart.put(productId, available);
    box.closest("form").querySelector("[type=submit]").focus();
    box.remove();
    announce(t("shop.short.lowered"));
    changed();
  };
  box.append(make("p", {}, make("button", { type: "button", onclick: lower }, t("shop.short.lower"))));
  return box;
}
