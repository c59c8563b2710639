// The checkout: where the order goes, what is in it, and placing it once.

import { make, own } from "../common/dom.js";
import { form } from "../common/forms.js";
import { announce, trouble } from "../common/notices.js";
import { go, href, render } from "../common/router.js";
import { token, user } from "../common/session.js";
import { money, t } from "../common/texts.js";
import * as cart from "./cart.js";
import { delivery, read, remember } from "./delivery.js";
import { place } from "./placing.js";
import { look, sum } from "./prices.js";
import { customer } from "./signed.js";

export default async function page({ signal, show }) {
  const account = await customer(signal);
  if (!account) return;
  if (!cart.lines().length)
    return show(
      t("shop.checkout.title"),
      make("h1", {}, t("shop.checkout.title")),
      make("p", {}, t("shop.cart.empty"), " ", make("a", { href: href("/") }, t("shop.toCatalogue"))),
    );
  const summary = make("section", { class: "card summary", "aria-label": t("shop.checkout.items") });
  const notice = make("div");
  let [lines, products] = [cart.lines(), new Map()];
  /** The latest question what is still sold, and for how much. */
  let looking = null;
  const refresh = () => (looking = update());
  const update = async () => {
    // A session that ends leaves the guest's cart; what was to be ordered stays here.
    if (cart.owner() === account.id) lines = cart.lines();
    draw(summary, lines, products);
    const asked = lines;
    // The cart may change while its products are asked for.
    const isLate = () => signal.aborted || asked !== lines;
    try {
      const found = await look(lines, signal);
      if (isLate()) return;
      products = found;
      draw(summary, lines, products);
    } catch (error) {
      if (!isLate()) summary.prepend(trouble(error, refresh));
    }
  };
  const order = async (values) => {
    notice.replaceChildren();
    // What is gone is not ordered, which may not be known yet.
    await looking;
    await token();
    // Somebody else may have signed in in another tab: this is not their order.
    if (user() !== null && user() !== account.id) return render();
    const items = lines.filter(({ id }) => products.get(id) !== null).map(({ id, quantity }) => ({ productId: id, quantity }));
    if (!items.length) return tell(notice, make("p", {}, t("shop.checkout.nothing")));
    try {
      const shown = sum(lines, products);
      const placed = await place(account.id, { items, ...read(values) });
      cart.ordered(placed.order.items);
      remember(account.id, values);
      announce(news(placed, shown));
      if (!signal.aborted) await go(`/orders/${placed.order.id}`, { replace: true });
    } catch (error) {
      if (error.type !== "/problems/out-of-stock") throw error;
      tell(notice, shortage(error.items));
    }
  };
  show(
    t("shop.checkout.title"),
    make("h1", {}, t("shop.checkout.title")),
    make(
      "div",
      { class: "columns" },
      form({ fields: [delivery(account), notice], submit: order, say: t("shop.checkout.place"), class: "card" }),
      summary,
    ),
  );
  cart.listen(refresh, signal);
  await refresh();
}

/** What is said of an order when the page had `shown` another sum: a price may have changed since. */
function news({ order, isEarlier }, shown) {
  if (isEarlier) return t("shop.checkout.earlier");
  if (order.total === shown) return t("shop.checkout.placed");
  return t("shop.checkout.otherSum", { sum: money(order.total, order.currency), shown: money(shown, order.currency) });
}

/** The lines with the prices of now, where `products` has them by id; null is one that is gone. */

function draw(summary, lines, products) {
  const cost = ({ id, price, quantity }) =>
    products.get(id) === null ? t("shop.cart.gone") : money((products.get(id)?.price ?? price) * quantity);
  const line = ({ id, name, price, quantity }) =>
    make(
      "li",
      {},
      make("span", {}, t("shop.times", { count: quantity }), " ", own(products.get(id)?.name ?? name)),
      make("span", { class: "number" }, cost({ id, price, quantity })),
    );
  summary.replaceChildren(
    make("h2", {}, t("shop.checkout.items")),
    make("ul", { class: "plain-lines" }, lines.map(line)),
    make("p", { class: "total" }, t("shop.cart.total", { sum: money(sum(lines, products)) })),
    make("p", {}, make("a", { href: href("/cart") }, t("shop.checkout.change"))),
  );
}

/** Says what holds the order up, and moves the focus there. */
function tell(notice, ...content) {
  const box = make("div", { class: "trouble", role: "alert", tabindex: "-1" }, content);
  notice.replaceChildren(box);
  box.focus();
}

/** Which products are short, and a button that takes what there is. */
function shortage(items) {
  const names = new Map(cart.lines().map(({ id, name }) => [id, name]));
  const entry = ({ productId, quantity, available }) =>
    make("li", {}, own(names.get(productId) ?? productId), ": ", t("shop.short.item", { count: available, wanted: quantity }));
  const lower = ({ currentTarget }) => {
    cart.putAll(items.map(({ productId, available }) => [productId, available]));
    currentTarget.closest("form").querySelector("[type=submit]").focus();
    currentTarget.closest(".trouble").remove();
    announce(t("shop.short.lowered"));
  };
  return [
    make("p", { class: "what" }, t("shop.short.title")),
    make("ul", {}, items.map(entry)),
    make("p", {}, make("button", { type: "button", onclick: lower }, t("shop.short.lower"))),
  ];
}
