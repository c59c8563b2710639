// The list of orders.

import { get } from "../common/api.js";
import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { render } from "../common/router.js";
import { money, t, time } from "../common/texts.js";
import { filters } from "./filters.js";
import { live, stateOf } from "./live.js";
import { cell, lead, link, pager, row, table } from "./parts.js";
import { STATES, badge, stateName } from "./states.js";

export const orderPath = (id) => `/orders/${encodeURIComponent(id)}`;

export default async function orders({ query, signal, show }) {
  const here = { status: query.get("status"), cursor: query.get("cursor") };
  const page = await get("/orders", { ...here, limit: 25 }, signal);
  const title = t("admin.orders.title");
  const states = [["", t("admin.orders.all")], ...STATES.map((state) => [state, stateName(state)])];
  show(
    title,
    make("h1", {}, title),
    filters("/orders", t("admin.orders.search"), [{ name: "status", label: t("admin.orders.state"), value: here.status, options: states }]),
    news(here, signal),
    list(page.data),
    pager("/orders", here, page.next),
  );
}

/** Follows the states of the orders that are shown; of new ones it tells, and does not push the others away. */
function news(here, signal) {
  const fresh = new Set();
  const note = make("p", { class: "actions", role: "status" });
  const heard = (event) => {
    const state = stateOf(event);
    if (!state) return;
    const shown = document.querySelector(`main [data-order="${CSS.escape(event.subject)}"]`);
    if (shown) return shown.replaceChildren(badge(state));
    if (here.cursor || (here.status && here.status !== state)) return;
    fresh.add(event.subject);
    note.replaceChildren(
      t("admin.orders.news", { count: fresh.size }),
      " ",
      button(t("admin.orders.showNews"), () => render()),
    );
  };
  return [note, live({ signal, heard, refresh: () => render({ focus: false }) })];
}

function list(found) {
  if (!found.length) return make("p", {}, t("admin.orders.none"));
  const columns = [
    t("admin.orders.placed"),
    t("admin.orders.state"),
    t("admin.orders.items"),
    { text: t("admin.orders.total"), class: "number" },
  ];
  return table(
    t("admin.orders.title"),
    columns,
    found.map((order) =>
      row(
        lead(link(orderPath(order.id), time(order.createdAt))),
        make("span", { "data-order": order.id }, badge(order.status)),
        pieces(order),
        cell({ class: "number" }, money(order.total, order.currency)),
      ),
    ),
  );
}

/** The first thing that was ordered, and how much more there is. */
function pieces({ items }) {
  const [first, ...rest] = items;
  const name = make("bdi", {}, first?.name ?? "–");
  return make("span", {}, name, rest.length ? ` ${t("admin.orders.more", { count: rest.length })}` : "");
}
