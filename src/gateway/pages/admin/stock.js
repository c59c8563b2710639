// The pieces of a product: what is on hand, and what orders have reserved.

import { ask, get } from "../common/api.js";
import { field } from "../common/forms.js";
import { Problem } from "../common/http.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";
import { inline } from "./inline.js";
import { Wrong } from "./wrong.js";

export const stockPath = (id) => `/products/${encodeURIComponent(id)}/stock`;

/** The stock in words; null where it could not be asked for. */
export function stockText(stock) {
  if (!stock) return t("admin.stock.unknown");
  if (stock.onHand === null) return t("admin.stock.uncounted");
  return stock.reserved ? t("admin.stock.reserved", stock) : t("admin.stock.counted", stock);
}

/** What somebody typed, as the API takes it: `12` sets, `+3` and `-2` change, and nothing means that pieces are not counted. */
export function parseStock(text) {
  const typed = text.trim().replace("\u2212", "-");
  if (typed === "") return { onHand: null };
  if (!/^[+-]?\d{1,10}$/.test(typed)) throw wrong(t("admin.stock.form"));
  return /^[+-]/.test(typed) ? { change: Number(typed) } : { onHand: Number(typed) };
}

const wrong = (words) => new Wrong("stock", words);

/** Stores it, and gives the stock that is there then. */
export async function saveStock(id, text) {
  const body = parseStock(text);
  try {
    return (await ask("PATCH", stockPath(id), { body })).data;
  } catch (error) {
    throw await explain(id, body, error);
  }
}

/** The problem in words that name the pieces that are there. */
async function explain(id, body, error) {
  if (error.status === 422) return new Problem(422, { errors: [{ field: "stock", detail: error.errors[0]?.detail ?? error.detail }] });
  if (error.status !== 409) return error;
  const { data } = await get(stockPath(id));
  if (data.onHand === null) return wrong(t("admin.stock.first"));
  return wrong(t("admin.stock.less", { ...data, wanted: body.onHand ?? data.onHand + body.change }));
}

export const stockField = (stock) =>
  field("stock", t("admin.stock.label"), {
    value: stock.onHand ?? "",
    hint: t("admin.stock.hint"),
    inputmode: "text",
    autocomplete: "off",
  });

/** The stock of a product in a table, which can be changed there. */
export function stockCell(product, first) {
  let stock = first;
  return inline({
    label: () => t("admin.stock.of", { name: product.name }),
    text: () => stockText(stock),
    begin: async () => {
      stock = (await get(stockPath(product.id))).data;
      return [stockField(stock)];
    },
    save: async (values) => {
      stock = await saveStock(product.id, values.stock);
      announce(t("admin.stock.saved", { name: product.name, stock: stockText(stock) }));
    },
  });
}
