// The cart: kept in this browser, one for guests and one for each customer, in step between tabs.

import { local, named, newKey, recall } from "../common/storage.js";

/** What the API takes in one order: products, and pieces of each. */
export const MOST_PRODUCTS = 100;
export const MOST_PIECES = 999;

/** What is kept: `{ lines, key }` of a guest, and `{ lines, taken }` of a customer, where `taken` is the key of the guest's cart that was
 *  added last. */
const GUEST = "shop.cart";
/** Whose cart it is, so that it is there before the account is known. */
const OWNER = "shop.cart.owner";

const listeners = new Set();
const key = () => (owner() ? `${GUEST}.${owner()}` : GUEST);

/** The id of the customer whose cart it is, or null for a guest's. */
export const owner = () => local.get(OWNER);

function read(name) {
  const found = recall(local, name);
  // An array is what an earlier version wrote: all tabs know it by its text.
  const { lines, key, taken } = (Array.isArray(found) ? { lines: found, key: JSON.stringify(found) } : found) ?? {};
  if (!Array.isArray(lines)) return { lines: [] }; // There is none, or somebody else wrote it.
  const isLine = (line) => /^[0-9a-f]{24}$/.test(line?.id) && Number.isInteger(line.quantity) && line.quantity > 0;
  return { lines: lines.filter(isLine), key, taken };
}

function write(name, cart) {
  if (cart.lines.length || cart.taken) local.set(name, JSON.stringify(cart));
  else local.remove(name);
}

/** Makes the lines of the cart `lines`. */
function change(lines) {
  const { key: known, taken } = read(key());
  write(key(), owner() ? { lines, taken } : { lines, key: known ?? newKey() });
}

/** Calls `listener` whenever the cart changes, in this tab or another; until `signal` is aborted. */
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener("abort", () => listeners.delete(listener));
}

function tell() {
  for (const listener of listeners) listener();
}

addEventListener("storage", (event) => {
  if (event.key === null || event.key.startsWith(named(GUEST))) tell();
});

/** The lines of the cart, `{ id, quantity, name, price }`: name and price are those of when it was put there. */
export const lines = () => read(key()).lines;

export const pieces = () => lines().reduce((sum, { quantity }) => sum + quantity, 0);

function cap(lines) {
  return lines.slice(0, MOST_PRODUCTS).map((line) => ({ ...line, quantity: Math.min(line.quantity, MOST_PIECES) }));
}

/** The lines of both; quantities of the same product are added. */
export function merged(mine, others) {
  const sums = new Map(mine.map((line) => [line.id, line]));
  for (const line of others) {
    const known = sums.get(line.id);
    sums.set(line.id, known ? { ...known, quantity: known.quantity + line.quantity } : line);
  }
  return cap([...sums.values()]);
}

/** Puts `quantity` pieces of `product` into the cart. Gives how many of it are there then, or 0 if the cart is full. */
export function add({ id, name, price }, quantity) {
  const all = merged(lines(), [{ id, name, price, quantity }]);
  change(all);
  tell();
  return all.find((line) => line.id === id)?.quantity ?? 0;
}

/** Makes the quantity of a product `quantity`; 0 removes it. */
export const put = (id, quantity) => putAll([[id, quantity]]);

/** The same for several, as pairs of id and quantity. */
export function putAll(pairs) {
  const quantities = new Map(pairs);
  const rest = lines().map((line) => ({ ...line, quantity: quantities.get(line.id) ?? line.quantity }));
  change(cap(rest.filter((line) => line.quantity > 0)));
  tell();
}

/** Takes the price that the customer has seen now as the one of the cart. */
export function seen(products) {
  const prices = new Map(products.map(({ id, name, price }) => [id, { name, price }]));
  change(lines().map((line) => ({ ...line, ...prices.get(line.id) })));
}

/** Takes out what was ordered; what another tab has added meanwhile stays. */
export function ordered(items) {
  const taken = new Map(items.map(({ productId, quantity }) => [productId, quantity]));
  const rest = lines().map((line) => ({ ...line, quantity: line.quantity - (taken.get(line.id) ?? 0) }));
  change(rest.filter((line) => line.quantity > 0));
  tell();
}

/** From now on it is the cart of customer `id`, with what was in the guest's; null makes it a guest's again. All tabs do so at once, and
 *  one may see some of what another has done: the guest's cart is added once. */
export function belongTo(id) {
  if (id === owner()) return;
  if (id) {
    const name = `${GUEST}.${id}`;
    const [own, guest] = [read(name), read(GUEST)];
    const isTaken = guest.key && guest.key === own.taken;
    if (guest.lines.length && !isTaken) write(name, { lines: merged(own.lines, guest.lines), taken: guest.key });
    local.remove(GUEST);
    local.set(OWNER, id);
  } else local.remove(OWNER);
  tell();
}

/** Forgets the cart of customer `id`, whose account is gone. */
export function forget(id) {
  local.remove(`${GUEST}.${id}`);
  if (owner() === id) belongTo(null);
}
