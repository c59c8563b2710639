// Every page of the administration, one after the other.

import { orderOf, productOf } from "./support.mjs";

/** Loads each of `paths`, and calls `look(page, path)` when it is there. */
export async function visit(page, gateway, paths, look) {
  for (const path of paths) {
    await page.goto(`${gateway}/admin${path}`);
    await page.locator('main:not([aria-busy="true"]) h1').waitFor();
    await page.waitForFunction(() => !document.querySelector('main [aria-busy="true"]'));
    await look(page, path);
  }
}

/** The address of every page of a shop that has one of each. */
export async function pathsOf(api, buyer, fields = {}, words = {}) {
  const product = await productOf(api, fields);
  const order = await orderOf(buyer.api, product, 1, words.order);
  const { data } = await api("POST", "/webhooks", { url: `https://hooks-${Date.now()}.invalid/in`, ...words.webhook });
  const paths = [
    "/",
    "/products",
    "/products/new",
    `/products/${product.id}`,
    "/import",
    "/orders",
    `/orders/${order.id}`,
    "/users",
    "/webhooks",
    `/webhooks/${data.id}`,
    "/dead-letters",
    "/nowhere",
  ];
  return { paths, product, clear: () => api("DELETE", `/webhooks/${data.id}`) };
}
