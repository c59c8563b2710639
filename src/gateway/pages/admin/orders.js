// The list of orders.

import { get } from "../common/api.js";
import { make } from "../common/dom.js";
import { money, t, time } from "../common/texts.js";
import { filters } from "./filters.js";
import { cell, lead, link, pager, row, table } from "./parts.js";
import { STATES, badge, stateName } from "./states.js";

export const orderPath = (id) => `/orders/${encodeURIComponent(id)}`;

export default async function orders({ query, signal, show }) {
  const here = { status: query.get("status"), cursor: query.get("cursor") };
  const page = await get("/orders", { ...here, limit: 25 }, signal);
  const title = t("admin.orders.title");
  const states = [["", t("admin.orders.all")], ...STATES.map((state) => [state, stateName(state)])];
  show(title, make("h1", {}, title), filters("/orders", t("admin.orders.search"), [{ name: "status", label: t("admin.orders.state"), value: here.status, options: states }]),
    list(page.data), pager("/orders", here, page.next));
}

function list(found) {
  if (!found.length) return make("p", {}, t("admin.orders.none"));
  const columns = [t("admin.orders.placed"), t("admin.orders.state"), t("admin.orders.items"), { text: t("admin.orders.total"), class: "number" }];
  return table(t("admin.orders.title"), columns, found.map((order) => row(
    lead(link(orderPath(order.id), time(order.createdAt))), badge(order.status), pieces(order), cell({ class: "number" }, money(order.total, order.currency)))));
}

/** The first thing that was ordered, and how much more there is. */
function pieces({ items }) {
  const [first, ...rest] = items;
  const name = make("bdi", {}, first?.name ?? "–");
  return make("span", {}, name, rest.length ? ` ${t("admin.orders.more", { count: rest.length })}` : "");
}
