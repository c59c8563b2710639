// The list of products.

import { get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { trouble } from "../common/notices.js";
import { t } from "../common/texts.js";
import { filters, listed } from "./filters.js";
import { cell, lead, link, pager, row, table } from "./parts.js";
import { priceCell } from "./price.js";
import { stockCell, stockPath } from "./stock.js";
import { picture } from "./pictures.js";

const SORTS = ["newest", "name", "price", "-price", "popular"];
const AT_ONCE = 4;

export default async function products({ query, signal, show }) {
  const here = Object.fromEntries(["q", "category", "sort", "cursor"].map((key) => [key, query.get(key)]));
  here.q = here.q?.trim();
  const asking = listed(get("/products", { ...here, limit: 20 }, signal));
  const [page, categories] = await Promise.all([asking, get("/categories", {}, signal)]);
  const title = t("admin.products.title");
  const places = page.data.map(() => make("div", { class: "soft", "aria-busy": "true" }, "…"));
  show(
    title,
    make("h1", {}, title),
    actions(),
    search(here, categories.data),
    page.problem ? trouble(page.problem) : list(page.data, places),
    pager("/products", here, page.next),
  );
  await fillStock(page.data, places, signal);
}

const actions = () =>
  make(
    "p",
    { class: "actions" },
    link("/products/new", t("admin.products.new"), { class: "button primary" }),
    link("/import", t("admin.import.title"), { class: "button" }),
  );

function search(here, categories) {
  const named = [
    ["", t("admin.products.all")],
    ...categories.map(({ name, products }) => [name, t("admin.products.category", { name, count: products })]),
  ];
  // What the API does by itself is the first: relevance where there are words, else the newest.
  const usual = here.q ? ["relevance", ...SORTS] : SORTS;
  const sorts = usual.map((sort, at) => [at ? sort : "", t(`admin.products.sort.${sort}`)]);
  return filters("/products", t("admin.products.search"), [
    { name: "q", label: t("admin.products.words"), value: here.q, type: "search" },
    { name: "category", label: t("admin.products.field.category"), value: here.category, options: named },
    { name: "sort", label: t("admin.products.order"), value: here.sort, options: sorts },
  ]);
}

function list(found, places) {
  if (!found.length) return make("p", {}, t("admin.products.none"));
  const columns = [
    t("admin.products.field.name"),
    t("admin.products.field.sku"),
    t("admin.products.field.category"),
    t("admin.products.price.label"),
    t("admin.stock.title"),
  ];
  return table(
    t("admin.products.title"),
    columns,
    found.map((product, at) =>
      row(
        lead(
          make(
            "div",
            { class: "with-picture" },
            picture(product.images[0], "small-picture"),
            link(`/products/${encodeURIComponent(product.id)}`, own(product.name)),
          ),
        ),
        own(product.sku ?? "–"),
        own(product.category ?? "–"),
        cell({}, priceCell(product)),
        cell({ class: "stock" }, places[at]),
      ),
    ),
  );
}

/** The list of the API has no stock, so it is asked for, a few products at a time. */
async function fillStock(found, places, signal) {
  const waiting = [...found.keys()];
  const one = async () => {
    for (let at = waiting.shift(); at !== undefined && !signal.aborted; at = waiting.shift()) {
      try {
        const { data } = await get(stockPath(found[at].id), {}, signal);
        places[at].replaceWith(stockCell(found[at], data));
      } catch (error) {
        if (error.name === "AbortError") return;
        places[at].replaceWith(stockCell(found[at], null));
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
