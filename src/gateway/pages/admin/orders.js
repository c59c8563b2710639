// The list of orders.

import { get } from "../common/api.js";
import { make } from "../common/dom.js";
import { money, t, time } from "../common/texts.js";
import { filters } from "./filters.js";
import { live, stateOf } from "./live.js";
import { action, cell, lead, link, pager, row, table } from "./parts.js";
import { redraw } from "./redraw.js";
import { STATES, badge, stateName } from "./states.js";

export const orderPath = (id) => `/orders/${encodeURIComponent(id)}`;

export default async function orders({ query, signal, show }) {
  const here = { status: query.get("status"), cursor: query.get("cursor") };
  const ask = () => get("/orders", { ...here, limit: 25 }, signal);
  const first = await ask();
  const title = t("admin.orders.title");
  const states = [["", t("admin.orders.all")], ...STATES.map((state) => [state, stateName(state)])];
  const body = make("div");
  const draw = ({ data, next }) =>
    redraw(body, () => body.replaceChildren(...[list(data), pager("/orders", here, next)].filter(Boolean)));
  draw(first);
  show(
    title,
    make("h1", { tabindex: "-1" }, title),
    filters("/orders", t("admin.orders.search"), [{ name: "status", label: t("admin.orders.state"), value: here.status, options: states }]),
    news(here, signal, async () => draw(await ask())),
    body,
  );
}

/** Follows the states of the orders that are shown; of new ones it tells, and does not push the others away. `reload()` shows them. */
function news(here, signal, reload) {
  const fresh = new Set();
  const note = make("p", { class: "actions", role: "status" });
  const place = make("div");
  let isLoading = false;
  const refresh = async () => {
    isLoading = true;
    await reload().finally(() => (isLoading = false));
    const isFocused = note.contains(document.activeElement);
    fresh.clear();
    note.replaceChildren();
    // The button that was pressed is gone.
    if (isFocused) document.querySelector("main h1").focus();
  };
  const heard = (event) => {
    const state = stateOf(event);
    if (!state) return false;
    // The answer that is on its way may not have it.
    if (isLoading) return true;
    const shown = document.querySelector(`main [data-order="${CSS.escape(event.subject)}"]`);
    if (shown) shown.replaceChildren(badge(state));
    if (shown || here.cursor || (here.status && here.status !== state)) return false;
    fresh.add(event.subject);
    const button = action(t("admin.orders.showNews"), refresh, place);
    redraw(note, () => note.replaceChildren(t("admin.orders.news", { count: fresh.size }), " ", button));
    return false;
  };
  return [note, place, live({ signal, heard, refresh })];
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
