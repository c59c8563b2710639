// A new product.

import { get, post } from "../common/api.js";
import { make } from "../common/dom.js";
import { field } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { go } from "../common/router.js";
import { t } from "../common/texts.js";
import { EMPTY, filled } from "./draft.js";
import { link } from "./parts.js";
import { productForm } from "./product-form.js";
import { parseStock } from "./stock.js";
import { watchOver } from "./unsaved.js";
import { Wrong } from "./wrong.js";

export default async function newProduct({ signal, show }) {
  // Names of categories are a help; the form is there without them.
  const categories = await get("/categories", {}, signal).then(
    ({ data }) => data,
    () => [],
  );
  const title = t("admin.products.new");
  const stock = field("stock", t("admin.stock.label"), { hint: t("admin.stock.newHint"), inputmode: "numeric", autocomplete: "off" });
  const save = async (draft, values) => {
    const typed = watch.typed();
    const onHand = firstStock(values.stock);
    const { data } = await post("/products", { ...filled(draft), ...(onHand == null ? {} : { stock: onHand }) });
    watch.saved(typed);
    announce(t("admin.products.made", { name: data.name }));
    go(`/products/${encodeURIComponent(data.id)}`);
  };
  const { element } = productForm(EMPTY, categories, { say: t("admin.products.make"), save, more: [stock] });
  const watch = watchOver(element, signal);
  show(title, make("p", {}, link("/products", t("admin.products.back"))), make("h1", {}, title), element);
}

/** How many pieces a new product has: there are none yet to which some could be added. */
function firstStock(text) {
  const { onHand, change } = parseStock(text);
  if (change !== undefined) throw new Wrong("stock", t("admin.stock.plain"));
  return onHand;
}
