// How the shop does: sales and orders by day, and what needs somebody.

import { get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { number, t } from "../common/texts.js";
import { filters } from "./filters.js";
import { live, stateOf } from "./live.js";
import { drawn, link, row, lead, cell, section, table, withQuery } from "./parts.js";
import { datesUntil, orderCharts, statesOf } from "./sales.js";
import { badge } from "./states.js";

const PERIODS = [7, 30, 90, 366];
const LOW = [5, 10, 20, 50];
const chosen = (all, text, usual) => (all.includes(Number(text)) ? Number(text) : usual);

export default async function overview({ query, signal, show }) {
  const days = chosen(PERIODS, query.get("days"), 30);
  const below = chosen(LOW, query.get("below"), 10);
  // Two parts draw the same answer.
  let asked;
  const summary = () =>
    (asked ??= get("/orders/summary", { days }, signal).then(
      ({ data }) => data,
      (error) => {
        asked = null;
        throw error;
      },
    ));
  const parts = [
    section(
      t("admin.overview.sales"),
      async () => ({ summary: await summary(), dates: datesUntil(Date.now(), days) }),
      ({ summary, dates }) => make("div", { class: "charts" }, orderCharts(summary, dates, signal)),
      { class: "card whole" },
    ),
    section(t("admin.overview.states"), summary, stateList),
    section(
      t("admin.overview.low"),
      () => list("/products/stock", { below, limit: 10 }, signal),
      (found) => lowStock(found, below),
    ),
    section(t("admin.overview.letters"), () => list("/events/dead-letters", { limit: 100 }, signal), letterCount),
  ];
  const refresh = async () => {
    asked = null;
    await Promise.all(parts.map((part) => part.refresh()));
  };
  const again = button(t("admin.overview.refresh"), async () => {
    await refresh();
    announce(t("admin.overview.refreshed"));
  });
  await drawn(...parts);
  if (signal.aborted) return;
  const title = t("admin.overview.title");
  show(
    title,
    make("h1", {}, title),
    choices(days, below),
    make("div", { class: "actions" }, again, live({ signal, heard: stateOf, refresh })),
    make("div", { class: "overview" }, parts),
  );
}

const choices = (days, below) =>
  filters("/", t("admin.overview.choose"), [
    {
      name: "days",
      label: t("admin.overview.period"),
      value: String(days),
      options: PERIODS.map((count) => [String(count), t("admin.overview.days", { count })]),
    },
    {
      name: "below",
      label: t("admin.overview.below"),
      value: String(below),
      options: LOW.map((count) => [String(count), t("admin.overview.pieces", { count })]),
    },
  ]);

function stateList(data) {
  const found = statesOf(data);
  if (!found.length) return make("p", {}, t("admin.overview.quiet"));
  return table(
    t("admin.overview.states"),
    [t("admin.orders.state"), { text: t("admin.overview.orders"), class: "number" }],
    found.map(({ state, orders }) =>
      row(lead(link(withQuery("/orders", { status: state }), badge(state))), cell({ class: "number" }, number(orders))),
    ),
  );
}

/** A page of a list, and whether there are more. */
async function list(path, query, signal) {
  const { data, next } = await get(path, query, signal);
  return { data, isMore: next !== null };
}

function lowStock({ data, isMore }, below) {
  if (!data.length) return make("p", {}, t("admin.overview.enough", { count: below }));
  const rows = data.map((product) =>
    row(
      lead(link(`/products/${encodeURIComponent(product.id)}`, own(product.name))),
      cell({ class: "number" }, number(product.available)),
      cell({ class: "number" }, number(product.reserved)),
    ),
  );
  return [
    table(
      t("admin.overview.low"),
      [
        t("admin.products.field.name"),
        { text: t("admin.stock.available"), class: "number" },
        { text: t("admin.stock.held"), class: "number" },
      ],
      rows,
    ),
    isMore && make("p", { class: "soft" }, t("admin.overview.moreLow")),
  ];
}

function letterCount({ data, isMore }) {
  if (!data.length) return make("p", {}, t("admin.overview.noLetters"));
  return make(
    "p",
    {},
    link("/dead-letters", t(isMore ? "admin.overview.manyLetters" : "admin.overview.someLetters", { count: data.length })),
  );
}
