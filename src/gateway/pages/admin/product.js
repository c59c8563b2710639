// A product: its fields, its stock, and its end.

import { ask, get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { attempt } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { go } from "../common/router.js";
import { t, time } from "../common/texts.js";
import { conflict } from "./conflict.js";
import { ask as question } from "./dialog.js";
import { changes, draftOf } from "./draft.js";
import { action, link, section } from "./parts.js";
import { productPath } from "./price.js";
import { productForm } from "./product-form.js";
import { stockCell, stockPath } from "./stock.js";
import { watchOver } from "./unsaved.js";

export default async function product({ params, signal, show }) {
  const [stored, categories] = await Promise.all([get(productPath(params.id), {}, signal),
    get("/categories", {}, signal).then(({ data }) => data, () => [])]);
  const heading = make("h1", {}, own(stored.data.name));
  const edited = editor(stored, categories, signal, (fresh) => heading.replaceChildren(own(fresh.name)));
  show(stored.data.name, make("p", {}, link("/products", t("admin.products.back"))), heading,
    make("div", { class: "columns wide" }, make("div", { class: "card" }, edited.element),
      make("div", {}, stockSection(stored.data, signal), facts(stored.data), remover(stored.data))));
}

/** The form, which saves over the version that it has shown; a newer one is laid beside it. */
function editor(stored, categories, signal, renamed) {
  let { etag } = stored;
  let base = draftOf(stored.data);
  const path = productPath(stored.data.id);
  const place = make("div");
  const accept = (answer) => {
    etag = answer.etag;
    base = draftOf(answer.data);
    place.replaceChildren();
    renamed(answer.data);
    saved();
  };
  const save = async (draft) => {
    const body = changes(base, draft);
    if (!Object.keys(body).length && !place.hasChildNodes()) return announce(t("admin.products.unchanged"));
    try {
      const answer = await ask("PATCH", path, { body, headers: { "if-match": etag } });
      accept(answer);
      announce(t("admin.products.saved", { name: answer.data.name }));
    } catch (error) {
      if (error.status !== 412) throw error;
      compare(draft, await get(path));
    }
  };
  const compare = (mine, answer) => {
    const theirs = draftOf(answer.data);
    const settle = (chosen) => {
      fields.write(chosen);
      accept(answer);
      fields.element.querySelector("[name=name]").focus();
    };
    place.replaceChildren(conflict({ base, mine, theirs,
      discard: (chosen) => {
        settle(chosen);
        announce(t("admin.conflict.taken"));
      },
      save: (chosen) => {
        settle(chosen);
        attempt(fields.element, fields.element.querySelector("[type=submit]"), () => save(chosen));
      } }));
    place.querySelector("h2").focus();
  };
  const fields = productForm(base, categories, { say: t("admin.save"), save });
  const saved = watchOver(fields.element, signal);
  return { element: [place, fields.element] };
}

function stockSection(data, signal) {
  return section(t("admin.stock.title"), async () => {
    const stock = (await get(stockPath(data.id), {}, signal)).data;
    return [stockCell(data, stock), make("p", { class: "hint" }, t("admin.stock.explained"))];
  });
}

const facts = (data) => make("section", { class: "card" }, make("h2", {}, t("admin.products.facts")), make("dl", {},
  make("dt", {}, t("admin.products.created")), make("dd", {}, time(data.createdAt)),
  make("dt", {}, t("admin.products.updated")), make("dd", {}, time(data.updatedAt)),
  make("dt", {}, t("admin.id")), make("dd", {}, make("code", {}, data.id))));

function remover(data) {
  const place = make("div");
  const remove = async () => {
    const isDone = await question({
      title: t("admin.products.delete"), text: t("admin.products.deleteText", { name: data.name }), say: t("admin.products.delete"),
      act: () => ask("DELETE", productPath(data.id)),
    });
    if (!isDone) return;
    announce(t("admin.products.deleted", { name: data.name }));
    go("/products");
  };
  return make("section", { class: "card" }, make("h2", {}, t("admin.products.end")), place, action(t("admin.products.delete"), remove, place, { class: "danger" }));
}
