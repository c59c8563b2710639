// A product: its form, its stock, and its end.

import { ask, get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { entitle, go } from "../common/router.js";
import { parts, t, time } from "../common/texts.js";
import { ask as question } from "./dialog.js";
import { action, drawn, link, section } from "./parts.js";
import { productPath } from "./price.js";
import { ProductEditor } from "./product-editor.js";
import { stockCell, stockPath } from "./stock.js";
import { forgetAll } from "./unsaved.js";

export default async function product({ params, signal, show }) {
  const [stored, categories] = await Promise.all([
    get(productPath(params.id), {}, signal),
    get("/categories", {}, signal).then(
      ({ data }) => data,
      () => [],
    ),
  ]);
  /** The product as it is stored: all parts of the page call it by the same name. */
  const known = { ...stored.data };
  const heading = make("h1", {}, own(known.name));
  const stock = stockSection(known, signal);
  const editor = new ProductEditor(stored, categories, signal, ({ name }) => {
    known.name = name;
    heading.replaceChildren(own(name));
    entitle(name);
    stock.querySelector(".inline")?.draw();
  });
  await drawn(stock);
  show(
    known.name,
    make("p", {}, link("/products", t("admin.products.back"))),
    heading,
    make(
      "div",
      { class: "columns wide" },
      make("div", { class: "card" }, editor.elements),
      make("div", {}, stock, facts(known), remover(known, signal)),
    ),
  );
}

function stockSection(data, signal) {
  return section(
    t("admin.stock.title"),
    async () => (await get(stockPath(data.id), {}, signal)).data,
    (stock) => [stockCell(data, stock), make("p", { class: "hint" }, t("admin.stock.explained"))],
  );
}

const facts = (data) =>
  make(
    "section",
    { class: "card" },
    make("h2", {}, t("admin.products.facts")),
    make(
      "dl",
      {},
      make("dt", {}, t("admin.products.created")),
      make("dd", {}, time(data.createdAt)),
      make("dt", {}, t("admin.products.updated")),
      make("dd", {}, time(data.updatedAt)),
      make("dt", {}, t("admin.id")),
      make("dd", {}, make("code", {}, data.id)),
    ),
  );

function remover(data, signal) {
  const place = make("div");
  const remove = async () => {
    const isDone = await question({
      title: t("admin.products.delete"),
      text: make("p", {}, parts("admin.products.deleteText", { name: own(data.name) })),
      say: t("admin.products.delete"),
      act: () => ask("DELETE", productPath(data.id)),
    });
    if (!isDone) return;
    announce(t("admin.products.deleted", { name: data.name }));
    forgetAll(signal);
    go("/products");
  };
  return make(
    "section",
    { class: "card" },
    make("h2", {}, t("admin.products.end")),
    place,
    action(t("admin.products.delete"), remove, place, { class: "danger" }),
  );
}
