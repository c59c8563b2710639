// The price of a product in a table, which can be changed there.

import { ask, get } from "../common/api.js";
import { field } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { decimals, money, number, t } from "../common/texts.js";
import { draftOf } from "./draft.js";
import { inline } from "./inline.js";
import { same } from "./same.js";
import { Wrong } from "./wrong.js";

export const productPath = (id) => `/products/${encodeURIComponent(id)}`;

const wrong = (words) => new Wrong("price", words);

/** What somebody typed as a number. A comma or a point is the decimal one, so it has no more digits behind it than the currency has: 1,000 and
 *  1.000 may be meant as a thousand, and are refused. */
export function parsePrice(text) {
  const digits = decimals();
  const typed = /^(\d+)(?:[.,](\d+))?$/.exec(text.trim());
  if (typed && (typed[2] ?? "").length <= digits) return Number(`${typed[1]}.${typed[2] ?? 0}`);
  const example = number(12.5, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  throw wrong(t("admin.products.price.form", { example }));
}

export const priceField = (value) =>
  field("price", t("admin.products.price.label"), { value, required: true, inputmode: "decimal", autocomplete: "off" });

/** The price of `product`. It is saved only over the version that somebody has seen. */
export function priceCell(product) {
  let { price } = product;
  let etag, seen;
  const look = async () => {
    const answer = await get(productPath(product.id));
    etag = answer.etag;
    seen = draftOf(answer.data);
    price = seen.price;
  };
  const save = async (values) => {
    try {
      const answer = await ask("PATCH", productPath(product.id), {
        body: { price: parsePrice(values.price) },
        headers: { "if-match": etag },
      });
      price = answer.data.price;
    } catch (error) {
      if (error.status !== 412) throw error;
      const before = seen;
      await look();
      // Only its stock ran out, or came back.
      if (same(before, seen)) return save(values);
      throw wrong(t("admin.products.price.conflict", { price: money(price) }));
    }
    announce(t("admin.products.price.saved", { name: product.name, price: money(price) }));
  };
  return inline({
    label: () => t("admin.products.price.of", { name: product.name }),
    text: () => money(price),
    begin: async () => {
      await look();
      return [priceField(price)];
    },
    save,
  });
}
