// One order: how far it is, as it changes, and what the customer can do.

import { get, post } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { attempt, button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { href } from "../common/router.js";
import { has, money, t, time } from "../common/texts.js";
import { confirm } from "./dialog.js";
import { live } from "./live.js";
import { patient } from "./patient.js";
import { payment } from "./payment.js";
import { customer } from "./signed.js";
import { named, state } from "./orders.js";

export default async function page({ params, signal, show }) {
  const account = await customer(signal);
  if (!account) return;
  const path = `/orders/${encodeURIComponent(params.id)}`;
  const way = make("section", { "aria-label": t("shop.order.way"), tabindex: "-1" });
  const acts = make("div");
  let order;
  let turn = 0;
  const take = (changed) => {
    turn++;
    const isNew = order?.status !== changed.status;
    const isFirst = !order;
    // Events do not say where an order goes.
    order = { ...order, ...changed };
    if (!isNew) return;
    const hadFocus = acts.contains(document.activeElement);
    way.replaceChildren(timeline(order));
    acts.replaceChildren(...(order.status === "placed" ? actions(order, { signal, ahead, take, refresh }) : []));
    // What had the focus may be gone.
    if (hadFocus) way.focus();
    if (!isFirst) announce(t("shop.order.changed", { state: named(order.status) }));
  };
  const refresh = async () => {
    const before = turn;
    const { data } = await get(path, {}, signal);
    // What has come meanwhile may be newer.
    if (turn === before) take(data);
  };
  const { data, headers } = await get(path, {}, signal);
  const ahead = clock(headers);
  take(data);
  const indicator = live({
    signal,
    heard: (changed) => changed.id === order.id && take(changed),
    refresh: () => refresh().catch(() => {}),
  });
  show(
    t("shop.order.title"),
    make("h1", {}, t("shop.order.title")),
    make("p", { class: "soft" }, t("shop.order.number", { id: order.id })),
    way,
    indicator,
    make("div", { class: "columns" }, make("div", {}, acts, items(order)), details(order)),
  );
}

/** How far the shop's clock is ahead of this browser's, in milliseconds. It tells whole seconds: less than two are no difference. */
function clock(headers) {
  const ahead = Date.parse(headers.get("date")) - Date.now();
  return Math.abs(ahead) >= 2000 ? ahead : 0;
}

/** The states that the order has been in and may come to, with what is known of when. */
function timeline({ status, createdAt, paidAt }) {
  const usual = ["placed", "paid", "fulfilled"];
  const ends = { cancelled: ["placed", "cancelled"], expired: ["placed", "expired"], refunded: ["placed", "paid", "refunded"] };
  const steps = ends[status] ?? (usual.includes(status) ? usual : ["placed", status]);
  const times = { placed: createdAt, paid: paidAt };
  const at = steps.indexOf(status);
  return make(
    "ol",
    { class: "timeline" },
    steps.map((step, index) =>
      make(
        "li",
        { "data-done": index <= at ? "yes" : "no", "aria-current": index === at ? "step" : null },
        // What is to be paid has been ordered, once it is further.
        index === at ? state(step) : make("span", {}, index === 0 ? t("shop.order.ordered") : named(step)),
        index <= at && times[step] && make("p", { class: "soft" }, time(times[step])),
      ),
    ),
  );
}

function actions(order, way) {
  const box = make("div", { class: "notice" });
  const cancel = button(
    t("shop.order.cancel"),
    async () => {
      if (!(await confirm(t("shop.order.cancelAsk"), t("shop.order.cancel"), way.signal))) return;
      await attempt(whole, cancel, async () => way.take((await patient(() => post(`/orders/${encodeURIComponent(order.id)}/cancel`))).data));
    },
    { class: "danger" },
  );
  const whole = make("div", {}, box, make("p", {}, cancel));
  return [payment(order, way), whole];
}

function items({ items, total, currency }) {
  const line = ({ productId, name, quantity, unitPrice, lineTotal }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("a", { href: href(`/products/${encodeURIComponent(productId)}`) }, own(name))),
      make("td", { class: "number" }, t("shop.times", { count: quantity })),
      make("td", { class: "number" }, money(unitPrice, currency)),
      make("td", { class: "number" }, money(lineTotal, currency)),
    );
  const heads = ["product", "quantity", "each", "sum"].map((key, at) =>
    make("th", { scope: "col", class: at > 0 && "number" }, t(`shop.order.columns.${key}`)),
  );
  return make(
    "section",
    {},
    make("h2", {}, t("shop.checkout.items")),
    make(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": t("shop.checkout.items") },
      make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, items.map(line))),
    ),
    make("p", { class: "total" }, t("shop.cart.total", { sum: money(total, currency) })),
  );
}

/** Address and contact: a text or texts by name, which other clients may have given in their own way. */
function details(order) {
  const section = (key) => {
    const value = order[key];
    if (!value) return null;
    const rows =
      typeof value === "string"
        ? make("p", { dir: "auto" }, value)
        : make(
            "dl",
            {},
            Object.entries(value).map(([name, text]) => [
              make("dt", {}, has(`shop.delivery.${name}`) ? t(`shop.delivery.${name}`) : own(name)),
              make("dd", {}, own(text)),
            ]),
          );
    return [make("h2", {}, t(`shop.delivery.${key}`)), rows];
  };
  const all = [section("shipTo"), section("contact")].filter(Boolean);
  return all.length > 0 && make("section", { class: "card", "aria-label": t("shop.order.delivery") }, all);
}
