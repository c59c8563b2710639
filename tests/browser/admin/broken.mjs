// Parts of the shop are away, slow down, or cannot be reached: the rest is there, and there is a way on.

import { expect, headed, press, productOf, said, signIn, signedIn, withPages } from "./support.mjs";

const problem =
  (status, headers = {}) =>
  (route) =>
    route.fulfill({ status, headers, contentType: "application/problem+json", body: JSON.stringify({ status, detail: "no" }) });

export async function broken(gateway, email, password) {
  const product = await productOf(await signedIn(gateway, email, password), { name: "Stool" });
  await withPages("broken", gateway, async (open) => {
    const page = await open("/admin/");
    await signIn(page, email, password);
    await headed(page, "Overview");
    await away(page);
    await busy(page);
    await unknown(page, product);
    await offline(page, gateway, product);
  });
}

const section = (page, title) => page.locator("main section", { has: page.getByRole("heading", { name: title, exact: true }) });

/** Without the order role there is the stock still; the rest comes by a button. */
async function away(page) {
  // A page that is live asks again by itself.
  await page.route("**/events", problem(503));
  await page.route("**/orders/summary?*", problem(503));
  await page.reload();
  await section(page, "Sales").locator(".trouble", { hasText: "away at the moment" }).waitFor();
  await section(page, "Low stock").locator("table, p").first().waitFor();
  expect((await section(page, "Low stock").locator(".trouble").count()) === 0, "the stock is there");
  await page.unroute("**/orders/summary?*");
  await press(section(page, "Sales"), "Try again");
  await section(page, "Sales").locator("svg").first().waitFor();
  await page.unroute("**/events");
}

/** Too many requests: the page counts down, and tries again by itself. */
async function busy(page) {
  let calls = 0;
  await page.route("**/products?*", (route) => (calls++ ? route.continue() : problem(429, { "retry-after": "5" })(route)));
  await page.getByRole("link", { name: "Products" }).click();
  await page.locator("main .trouble", { hasText: "Trying again in" }).waitFor();
  await headed(page, "Products");
  expect(calls === 2, `${calls} requests`);
}

/** A stock that could not be asked for can be changed all the same. */
async function unknown(page, product) {
  await page.route("**/stock", problem(503));
  await page.reload();
  const stock = page.getByRole("button", { name: `Stock of ${product.name}` }).first();
  await stock.filter({ hasText: "not known at the moment" }).waitFor();
  const box = page.locator("main td .trouble");
  for (let at = 0; at < 2; at++) {
    await stock.click();
    await box.waitFor();
    expect((await box.count()) === 1, "it is told once");
  }
  await page.unroute("**/stock");
  await stock.click();
  await page.locator("main [name=stock]").first().press("Enter");
  await said(page, `Stock of ${product.name}: 3.`);
}

/** What was typed while the browser is offline is saved when it is back. */
async function offline(page, gateway, product) {
  await page.goto(`${gateway}/admin/products/${product.id}`);
  await headed(page, "Stool");
  await page.context().setOffline(true);
  await page.locator("#offline").waitFor();
  await page.locator("main [name=category]").fill("Seats");
  await press(page.locator("main form.product"), "Save");
  await page.locator("main form .trouble", { hasText: "You are offline" }).waitFor();
  await page.context().setOffline(false);
  await page.locator("#offline").waitFor({ state: "hidden" });
  expect((await page.locator("main [name=category]").inputValue()) === "Seats", "it is still there");
  await press(page.locator("main form.product"), "Save");
  await said(page, "Stool is saved.");
}
