// The orders of the customer.

import { get } from "../common/api.js";
import { keyed, make, own, say } from "../common/dom.js";
import { announce, trouble } from "../common/notices.js";
import { href, refine } from "../common/router.js";
import { money, t, time } from "../common/texts.js";
import { live } from "./live.js";
import { customer } from "./signed.js";

export const STATES = ["placed", "paid", "fulfilled", "cancelled", "expired", "refunded"];
const LIMIT = 20;
/** How many pages are read for one more of the customer's orders, where the list has those of others too: of admins, and in open
 *  mode. */
const PAGES = 5;

export const state = (status) => make("span", { class: "badge", "data-state": status }, t(`shop.state.${status}`));

export default async function page({ query, signal, show }) {
  const account = await customer();
  if (!account) return;
  const list = make("ul", { class: "orders" });
  const status = make("p", { class: "soft", role: "status" });
  const notice = make("div");
  const more = make("button", { type: "button", hidden: true, onclick: () => load() }, t("shop.more"));
  const choice = make(
    "select",
    {
      id: "state",
      onchange: () => {
        refine({ status: choice.value });
        load(true);
      },
    },
    ["", ...STATES].map((name) =>
      make("option", { value: name, selected: name === query.get("status") }, t(name ? `shop.state.${name}` : "shop.orders.all")),
    ),
  );
  let [orders, next, asking] = [[], null, new AbortController()];
  const draw = () => {
    keyed(list, orders, ({ id }) => id, entry, update);
    more.hidden = !next;
    say(status, orders.length || next ? "" : t("shop.orders.none"));
  };
  async function load(isFirst = false) {
    asking.abort();
    asking = new AbortController();
    const mine = asking.signal;
    notice.replaceChildren();
    if (isFirst) [orders, next] = [[], { status: choice.value, limit: LIMIT }];
    try {
      const before = orders.length;
      for (let at = 0; at < PAGES && next && orders.length === before; at++) {
        const answer = await get("/orders", next, AbortSignal.any([mine, signal]));
        orders = [...orders, ...answer.data.filter(({ userId, id }) => userId === account.id && !orders.some((order) => order.id === id))];
        next = answer.next;
      }
    } catch (error) {
      if (mine.aborted || signal.aborted) return;
      notice.replaceChildren(trouble(error, () => load(isFirst)));
    }
    draw();
  }
  const indicator = live({
    signal,
    refresh: () => load(true),
    heard: (order) => {
      if (order.userId !== account.id) return;
      const known = orders.find(({ id }) => id === order.id);
      const fits = !choice.value || choice.value === order.status;
      orders = known ? orders.map((one) => (one.id === order.id ? order : one)) : fits ? [order, ...orders] : orders;
      orders = orders.filter((one) => !choice.value || choice.value === one.status);
      draw();
      announce(t("shop.orders.changed", { state: t(`shop.state.${order.status}`), sum: money(order.total, order.currency) }));
    },
  });
  show(
    t("shop.orders.title"),
    make("h1", {}, t("shop.orders.title")),
    make("div", { class: "field order" }, make("label", { for: "state" }, t("shop.orders.state")), choice),
    indicator,
    notice,
    status,
    list,
    make("p", {}, more),
  );
  await load(true);
}

function entry({ id, createdAt, items }) {
  const names = items.slice(0, 3).map(({ name }, at) => [at > 0 && ", ", own(name)]);
  return make(
    "li",
    { class: "card entry" },
    make(
      "div",
      {},
      make("a", { href: href(`/orders/${encodeURIComponent(id)}`) }, t("shop.orders.of"), " ", time(createdAt)),
      make("p", { class: "soft" }, names, items.length > 3 && " …"),
    ),
    make("div", { class: "state" }),
    make("div", { class: "number" }),
  );
}

function update(item, { status, total, currency }) {
  item.querySelector(".state").replaceChildren(state(status));
  say(item.querySelector(".number"), money(total, currency));
}
