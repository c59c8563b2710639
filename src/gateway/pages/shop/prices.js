// What the products of a cart cost now.

import { ask } from "../common/api.js";

/** How many products are asked for at once. */
const AT_ONCE = 6;

async function one(id, signal) {
  try {
    const { data } = await ask("GET", `/products/${encodeURIComponent(id)}`, { signal, signed: false });
    return [id, data];
  } catch (error) {
    if (error.status === 404) return [id, null];
    throw error;
  }
}

/** The products of `lines` by id; null is one that is gone. Throws the first Problem. */
export async function look(lines, signal) {
  const found = new Map();
  const rest = lines.map(({ id }) => id);
  const work = async () => {
    for (let id = rest.shift(); id; id = rest.shift()) found.set(...(await one(id, signal)));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}

/** The sum of `lines`, by the prices of `products` where they are known. What is gone costs nothing. Amounts have at most two
 *  decimals, and are added as whole numbers. */
export function sum(lines, products) {
  const cents = lines.map(({ id, price, quantity }) =>
    products.get(id) === null ? 0 : Math.round((products.get(id)?.price ?? price) * 100) * quantity,
  );
  return cents.reduce((all, amount) => all + amount, 0) / 100;
}
