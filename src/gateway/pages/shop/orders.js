// The orders of the customer.

import { get } from "../common/api.js";
import { keyed, make, own, say } from "../common/dom.js";
import { announce, trouble } from "../common/notices.js";
import { href, refine } from "../common/router.js";
import { has, money, t, time } from "../common/texts.js";
import { live } from "./live.js";
import { customer } from "./signed.js";

export const STATES = ["placed", "paid", "fulfilled", "cancelled", "expired", "refunded"];
const LIMIT = 20;
/** How many pages are read for one more of the customer's orders, where the list has those of others too: of admins, and in open
 *  mode. */
const PAGES = 5;

/** The name of a state, also of one that a later shop may add. */
export const named = (status) => (has(`shop.state.${status}`) ? t(`shop.state.${status}`) : status);
export const state = (status) => make("span", { class: "badge", "data-state": status }, named(status));

export default async function page({ query, signal, show }) {
  const account = await customer(signal);
  if (!account) return;
  const list = new OrderList(account.id, query.get("status") ?? "", signal);
  const indicator = live({ signal, refresh: () => list.refresh(), heard: (order) => list.hear(order) });
  show(
    t("shop.orders.title"),
    make("h1", {}, t("shop.orders.title")),
    make("div", { class: "field order" }, make("label", { for: "state" }, t("shop.orders.state")), list.choice),
    indicator,
    list.notice,
    list.status,
    list.items,
    make("p", {}, list.more),
  );
  await list.load(true);
}

/** The orders of one customer in a state that is chosen, as far as they were asked for. */
class OrderList {
  #orders = [];
  #next = null;
  #asking = new AbortController();

  constructor(user, chosen, signal) {
    [this.user, this.signal] = [user, signal];
    this.items = make("ul", { class: "orders" });
    this.status = make("p", { class: "soft", role: "status" });
    this.notice = make("div");
    this.more = make("button", { type: "button", hidden: true, onclick: () => this.load() }, t("shop.more"));
    const option = (name) => make("option", { value: name, selected: name === chosen }, t(name ? `shop.state.${name}` : "shop.orders.all"));
    this.choice = make("select", { id: "state", onchange: () => this.#choose() }, ["", ...STATES].map(option));
  }

  #choose() {
    refine({ status: this.choice.value });
    this.load(true);
  }

  /** More orders, or the first; what was being asked for is given up. */
  async load(isFirst = false) {
    if (isFirst) [this.#orders, this.#next] = [[], this.#first()];
    const [hadFocus, before] = [document.activeElement === this.more, this.#orders.length];
    await this.#show(this.#orders, this.#next, before + 1, () => this.load(isFirst));
    // The button that had the focus is gone.
    if (hadFocus && this.more.hidden) (this.items.children[before] ?? this.items.lastElementChild)?.querySelector("a").focus();
  }

  /** Reads anew as many as are shown, which stay until then. */
  refresh() {
    return this.#show([], this.#first(), Math.max(this.#orders.length, 1), () => this.refresh());
  }

  #first() {
    return { status: this.choice.value, limit: LIMIT };
  }

  /** Shows `orders` and those from `next` on, `wanted` of them; `again` is for the button where that fails. */
  async #show(orders, next, wanted, again) {
    this.#asking.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#asking.signal, this.signal]);
    this.notice.replaceChildren();
    try {
      [this.#orders, this.#next] = await this.#read(orders, next, wanted, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.notice.replaceChildren(trouble(error, again));
    }
    this.#draw();
  }

  /** Reads pages of the list until there are `wanted` orders of the customer. */
  async #read(orders, next, wanted, signal) {
    const most = PAGES + wanted / LIMIT;
    for (let at = 0; at < most && next && orders.length < wanted; at++) {
      const page = await get("/orders", next, signal);
      const known = new Set(orders.map(({ id }) => id));
      orders = [...orders, ...page.data.filter(({ userId, id }) => userId === this.user && !known.has(id))];
      next = page.next;
    }
    return [orders, next];
  }

  #draw() {
    keyed(this.items, this.#orders, ({ id }) => id, entry, update);
    this.more.hidden = !this.#next;
    say(this.status, this.#orders.length || this.#next ? "" : t("shop.orders.none"));
  }

  /** Takes an order that has changed, in its place: the newest are first, and the list may not have come to an old one yet. */
  hear(order) {
    if (order.userId !== this.user) return;
    const made = ({ createdAt }) => Date.parse(createdAt);
    const isAhead = this.#next && this.#orders.length && made(order) < made(this.#orders.at(-1));
    const others = this.#orders.filter(({ id }) => id !== order.id);
    const at = others.findIndex((one) => made(one) < made(order));
    const all = isAhead ? others : others.toSpliced(at < 0 ? others.length : at, 0, order);
    this.#orders = all.filter(({ status }) => !this.choice.value || this.choice.value === status);
    this.#draw();
    announce(t("shop.orders.changed", { state: named(order.status), sum: money(order.total, order.currency) }));
  }
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
