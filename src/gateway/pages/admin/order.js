// An order, and what can be done with it.

import { get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { money, number, t, time } from "../common/texts.js";
import { live, stateOf } from "./live.js";
import { moves } from "./order-moves.js";
import { orderPath } from "./orders.js";
import { cell, lead, link, row, table } from "./parts.js";
import { redraw } from "./redraw.js";
import { same } from "./same.js";

export default async function order({ params, signal, show }) {
  const path = orderPath(params.id);
  const customer = make("dd", { id: "customer" });
  const body = make("div");
  const { data } = await get(path, {}, signal);
  let shown = data;
  const draw = (fresh) => redraw(body, () => body.replaceChildren(...content(fresh, customer, refresh)));
  const refresh = async () => {
    const fresh = (await get(path, {}, signal)).data;
    // What a button said stays, unless there is something new.
    if (same(fresh, shown)) return;
    shown = fresh;
    draw(fresh);
  };
  const heard = (event) => event.subject === data.id && stateOf(event) !== shown.status;
  draw(data);
  const title = t("admin.orders.order");
  show(title, make("p", {}, link("/orders", t("admin.orders.back"))), make("h1", {}, title), body, live({ signal, heard, refresh }));
  await nameCustomer(data.userId, customer, signal);
}

const content = (data, customer, refresh) => [
  moves(data, refresh),
  make(
    "div",
    { class: "columns" },
    make("section", { class: "card" }, make("h2", {}, t("admin.orders.items")), items(data)),
    make("section", { class: "card" }, make("h2", {}, t("admin.orders.about")), facts(data, customer)),
  ),
];

function items({ items, total, currency }) {
  const right = (text) => ({ text, class: "number" });
  const columns = [
    t("admin.orders.product"),
    right(t("admin.orders.price")),
    right(t("admin.orders.quantity")),
    right(t("admin.orders.sum")),
  ];
  const rows = items.map((item) =>
    row(
      lead(link(`/products/${encodeURIComponent(item.productId)}`, own(item.name))),
      cell({ class: "number" }, money(item.unitPrice, currency)),
      cell({ class: "number" }, number(item.quantity)),
      cell({ class: "number" }, money(item.lineTotal, currency)),
    ),
  );
  return [
    table(t("admin.orders.items"), columns, rows),
    make("p", { class: "total" }, t("admin.orders.total"), " ", make("b", {}, money(total, currency))),
  ];
}

/** A text, or texts by name. */
function words(value) {
  if (!value) return t("admin.orders.nothing");
  if (typeof value === "string") return make("bdi", { class: "lines" }, value);
  return make(
    "address",
    { class: "lines" },
    Object.entries(value).map(([key, text]) => make("div", {}, make("span", { class: "soft" }, own(key), ": "), own(text))),
  );
}

function facts(data, customer) {
  const line = (name, value) => [make("dt", {}, name), value?.tagName === "DD" ? value : make("dd", {}, value)];
  if (!customer.hasChildNodes()) customer.append(data.userId ? make("code", {}, data.userId) : t("admin.orders.erased"));
  return make(
    "dl",
    {},
    line(t("admin.orders.customer"), customer),
    line(t("admin.orders.shipTo"), words(data.shipTo)),
    line(t("admin.orders.contact"), words(data.contact)),
    line(t("admin.orders.placed"), time(data.createdAt)),
    data.paidAt && line(t("admin.orders.paid"), time(data.paidAt)),
    data.status === "placed" && line(t("admin.orders.expires"), time(data.expiresAt)),
    line(t("admin.orders.id"), make("code", {}, data.id)),
  );
}

/** Names the customer, whose account the user role knows; while that is away, the id stays. */
async function nameCustomer(id, place, signal) {
  if (!id) return;
  try {
    const { user } = (await get(`/auth/dashboard/${encodeURIComponent(id)}`, {}, signal)).data;
    place.replaceChildren(own(user.username), " · ", make("bdi", {}, user.email));
  } catch (error) {
    if (error.status === 404) place.append(` (${t("admin.orders.noAccount")})`);
  }
}
