// What the shop recommends to a customer.

import { get } from "../common/api.js";
import { make } from "../common/dom.js";
import { t } from "../common/texts.js";
import { card } from "./cards.js";

const MOST = 4;

/** Products for customer `user`, but not those of `known`, in a section; null where there are none, or where they do not come: the
 *  page is as good without them. */
export async function forYou(user, known, signal) {
  const answer = await get(`/auth/dashboard/${encodeURIComponent(user)}`, {}, signal).catch(() => null);
  const products = answer?.data.recommendedProducts.filter(({ id }) => !known.includes(id)).slice(0, MOST) ?? [];
  if (!products.length) return null;
  return make(
    "section",
    { class: "for-you", "aria-labelledby": "for-you" },
    make("h2", { id: "for-you" }, t("shop.forYou")),
    make(
      "ul",
      { class: "products" },
      products.map((product) => card(product, { level: 3 })),
    ),
  );
}
