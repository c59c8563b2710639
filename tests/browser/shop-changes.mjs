// What changes while somebody looks: prices, products, searches, and roles that are away.

import { expect } from "./browser.mjs";
import { Api, address, headed, order, signIn, state, take, unique } from "./shopper.mjs";
import { accessible, watched } from "./watched.mjs";

/** The cart says which price has changed and what is gone; what is gone is not ordered; removing keeps the focus. */
export async function changed(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const [dearer, gone, third] = [await admin.product(), await admin.product(), await admin.product()];
  const customer = await new Api(gateway).customer();
  await watched(
    "changed",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      for (const product of [dearer, gone, third]) await take(page, gateway, product);
      await admin.ask("PATCH", `/products/${dearer.id}`, { price: 30 });
      await admin.ask("DELETE", `/products/${gone.id}`);
      await page.goto(`${gateway}/shop/cart`);
      const line = (product) => page.locator(".lines li", { hasText: product.name });
      await line(dearer).getByText("it was €24.50, and is €30.00 now").waitFor();
      await line(gone).getByText("No longer sold").waitFor();
      await page.locator(".total", { hasText: "€54.50" }).waitFor();
      await line(dearer).getByRole("button", { name: "Remove" }).click();
      expect(
        await line(gone)
          .getByRole("button")
          .last()
          .evaluate((button) => button === document.activeElement),
        "the focus goes on",
      );
      // The checkout does not know yet that it is gone.
      await page.route(`**/products/${gone.id}`, async (route) => {
        const answer = await route.fetch();
        await new Promise((done) => setTimeout(done, 1000));
        await route.fulfill({ response: answer });
      });
      await order(page, gateway);
      await page.locator(".total", { hasText: "€24.50" }).waitFor();
    },
    { allowed: [/404/] },
  );
}

/** What is typed later wins, however late the answer to what was typed before comes. */
export async function search(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const word = unique("q").replace(" ", "");
  const one = await admin.product({ name: `${word} one` });
  await admin.product({ name: `${word} two` });
  await watched("search", gateway, async (open) => {
    const page = await open("/shop");
    await page.locator(".product").first().waitFor();
    const steps = await page.evaluate(() => history.length);
    let release;
    await page.route(`**/products?q=${word}&**`, async (route) => {
      await new Promise((resolve) => (release = resolve));
      await route.continue().catch(() => {});
    });
    const first = page.waitForRequest(`**/products?q=${word}&**`);
    const field = page.getByLabel("Search", { exact: true });
    await field.fill(word);
    const given = await first;
    const failed = page.waitForEvent("requestfailed", (request) => request === given);
    await field.press("End");
    await field.pressSequentially(" one");
    await failed;
    release();
    await page.locator("[role=status]", { hasText: /^1 product$/ }).waitFor();
    await page.locator(".product", { hasText: one.name }).waitFor();
    expect((await page.locator(".product").count()) === 1, "the later search is shown");
    expect((await page.evaluate(() => history.length)) === steps, "letters are no steps of the history");
    await field.fill("ĳ x");
    await field.fill(`${word} nothing`);
    await page.locator("[role=status]", { hasText: "Nothing fits" }).waitFor();
  });
}

/** Filters hold: the category before the others are there, on a screen that becomes wide, and on their own page alone. What the shop refuses
 *  to look for finds nothing. */
export async function filtered(gateway, email, password) {
  const category = unique("Category");
  const product = await (await new Api(gateway).as(email, password)).product({ category });
  await watched(
    "filtered",
    gateway,
    async (open) => {
      const page = await open("/shop/nowhere", { viewport: { width: 700, height: 800 } });
      let release;
      await page.route("**/categories", async (route) => {
        await new Promise((resolve) => (release = resolve));
        await route.continue();
      });
      await page.goto(`${gateway}/shop?category=${encodeURIComponent(category)}`);
      await page.locator(".product", { hasText: product.name }).waitFor();
      await page.getByLabel("Sort").selectOption("price");
      await page.waitForURL(/sort=price/);
      expect(new URL(page.url()).searchParams.get("category") === category, `the category stays: ${page.url()}`);
      await page.setViewportSize({ width: 1280, height: 800 });
      const radio = page.getByRole("radio", { name: category });
      await radio.waitFor();
      release();
      await page.locator(".choice", { hasText: category }).locator(".soft").waitFor();
      expect(await radio.isChecked(), "it is chosen still");
      const field = page.getByLabel("Search", { exact: true });
      await field.fill("%");
      await page.locator("[role=status]", { hasText: "at least two letters" }).waitFor();
      expect((await page.locator(".product").count()) === 0, "what was there is no answer");
      await field.fill("");
      await page.locator(".product", { hasText: product.name }).waitFor();
      const least = page.getByLabel("Price from");
      await least.fill("-1");
      await page.locator("[name=minPrice][aria-invalid=true]").waitFor();
      expect(!page.url().includes("minPrice"), "what is no price is not asked for");
      await least.fill("1e1");
      await page.waitForURL(/minPrice=10(&|$)/);
      await field.fill("lamp");
      await page.locator("#cart-link").click();
      await headed(page, "Your cart");
      // By then it would have been looked for.
      await page.evaluate(() => new Promise((done) => setTimeout(done, 300)));
      expect(new URL(page.url()).search === "", `the address of the cart is its own: ${page.url()}`);
    },
    { allowed: [/422/] },
  );
}

/** Pictures of other origins are not asked for; an answer that may be old is said to be. */
export async function pictures(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const name = unique("Picture");
  const product = await admin.product({ name, images: ["https://pictures.example/a.png", `${gateway}/shop/pictures/own.svg`] });
  const foreign = await admin.product({ name: `${name} foreign`, images: ["https://pictures.example/b.png"] });
  await watched("pictures", gateway, async (open) => {
    const page = await open("/shop/nowhere");
    await headed(page, "There is no such page");
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><rect width="4" height="3" fill="#8ab"/></svg>';
    await page.route("**/pictures/own.svg", (route) => route.fulfill({ contentType: "image/svg+xml", body: svg }));
    await page.route("**/products?*", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), "x-cache": "STALE" } });
    });
    await page.goto(`${gateway}/shop?q=${encodeURIComponent(name)}`);
    const image = page.getByRole("img", { name: product.name });
    await image.waitFor();
    expect((await image.getAttribute("src")).endsWith("own.svg"), "the picture of the shop itself is shown");
    await page.locator(".product", { hasText: foreign.name }).locator("svg.picture").waitFor();
    await page.locator(".degraded", { hasText: "may be old" }).waitFor();
    for (const { id } of [product, foreign]) await admin.ask("DELETE", `/products/${id}`);
  });
}

/** A customer sees what the shop recommends; a guest's page asks for nothing. */
export async function recommends(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const [product] = [await admin.product(), await admin.product()];
  const customer = await new Api(gateway).customer();
  await watched("recommends", gateway, async (open) => {
    const page = await open("/shop/nowhere");
    await headed(page, "There is no such page");
    let asked = 0;
    page.on("request", (request) => (asked += request.url().includes("/auth/") ? 1 : 0));
    await page.goto(`${gateway}/shop/products/${product.id}`);
    await headed(page, product.name);
    expect(asked === 0, `a guest's page asked ${asked} times about accounts`);
    await page.goto(`${gateway}/shop/sign-in?next=/products/${product.id}`);
    await signIn(page, customer.email);
    const section = page.getByRole("region", { name: "You may like this, too" });
    await section.getByRole("heading", { level: 3 }).first().waitFor();
    await accessible(page, "a product with recommendations");
    await section.getByRole("button").first().click();
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
  });
}

/** The order role is killed, as process `pid`: the catalogue stays, and the data of the account comes without orders. */
export async function ordersAway(gateway, email, password, pid) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "ordersAway",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in?next=/orders");
      await signIn(page, customer.email);
      await headed(page, "Your orders");
      process.kill(+pid, "SIGKILL");
      await page.locator(".live", { hasText: "Live updates are away." }).waitFor();
      await page.locator("#state").selectOption("paid");
      await page.locator(".trouble", { hasText: "Orders are away" }).waitFor();
      await take(page, gateway, product);
      await page.getByRole("link", { name: "Account" }).click();
      await page.getByRole("button", { name: "Download your data" }).click();
      await page.locator(".degraded", { hasText: "The orders are missing in this file" }).waitFor();
    },
    { allowed: [/50[0-9]/, /ERR_/] },
  );
}

/** The user role is killed, as process `pid`: guests look and fill their carts, and signing in says what is away. */
export async function accountsAway(gateway, email, password, pid) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "accountsAway",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      const id = await order(page, gateway);
      process.kill(+pid, "SIGKILL");
      // The token is valid still: what needs no account goes on.
      await page.getByRole("link", { name: "Orders" }).click();
      await page.locator(`a[href$="${id}"]`).click();
      await page.getByRole("button", { name: "Pay now" }).click();
      await state(page, "Paid");
      await page.goto(`${gateway}/shop/account`);
      await page.locator(".trouble", { hasText: "Accounts are away" }).waitFor();
      await page.getByRole("link", { name: "To the products" }).click();
      await page.locator(".product").first().waitFor();
    },
    { allowed: [/50[0-9]/, /ERR_/] },
  );
}

/** A price changes while somebody is at the checkout: the order says so. Who has left the page meanwhile is not fetched back. */
export async function dearer(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched("dearer", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    const looked = page.waitForResponse((answer) => answer.request().resourceType() === "fetch" && answer.url().endsWith(product.id));
    await page.goto(`${gateway}/shop/checkout`);
    await looked;
    await page.locator(".summary .total", { hasText: "€24.50" }).waitFor();
    await address(page);
    await admin.ask("PATCH", `/products/${product.id}`, { price: 30 });
    await page.getByRole("button", { name: "Order", exact: true }).click();
    await page.locator("#toast", { hasText: "it costs €30.00 now, not €24.50" }).waitFor();
    await headed(page, "Your order");
    await take(page, gateway, product);
    await page.getByRole("link", { name: "Cart, 1 piece" }).click();
    await page.getByRole("link", { name: "To the checkout" }).click();
    await address(page);
    let [release, arrived] = [null, null];
    const asked = new Promise((resolve) => (arrived = resolve));
    await page.route("**/orders", async (route) => {
      arrived();
      await new Promise((resolve) => (release = resolve));
      await route.continue();
    });
    await page.getByRole("button", { name: "Order", exact: true }).click();
    await asked;
    await page.getByRole("link", { name: "Cart, 1 piece" }).click();
    await headed(page, "Your cart");
    release();
    await page.locator("#toast", { hasText: "Your order is placed." }).waitFor();
    await page.getByText("Your cart is empty.").waitFor();
    await headed(page, "Your cart");
  });
}

/** What happens to an order between the page's question and the beginning of the stream of events is shown, too. */
export async function between(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched("between", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.route("**/events", async (route) => {
      await held;
      await route.continue();
    });
    const id = await order(page, gateway);
    await state(page, "To be paid");
    await admin.ask("POST", `/orders/${id}/cancel`);
    release();
    await state(page, "Cancelled");
    await overtaken(page, gateway, product);
  });
}

/** An order is paid before the page has the answer to what it asked earlier: that answer is old. */
async function overtaken(page, gateway, product) {
  const one = /\/orders\/[^/?]+$/;
  let [arrived, release, asks] = [null, null, 0];
  const asked = new Promise((resolve) => (arrived = resolve));
  const held = new Promise((resolve) => (release = resolve));
  await page.route(one, async (route) => {
    // The first is that of the page, the second follows the beginning of the stream of events.
    if (route.request().resourceType() !== "fetch" || asks++ !== 1) return route.fallback();
    const answer = await route.fetch();
    arrived();
    await held;
    await route.fulfill({ response: answer });
  });
  await take(page, gateway, product);
  await order(page, gateway);
  await asked;
  await page.getByRole("button", { name: "Pay now" }).click();
  await state(page, "Paid");
  const late = page.waitForEvent("requestfinished", (request) => one.test(request.url()));
  release();
  await late;
  await page.evaluate(() => new Promise((done) => setTimeout(done, 100)));
  const step = await page.locator(".timeline [aria-current=step]").innerText();
  expect(step.startsWith("Paid"), `it stays paid: ${step}`);
}

/** The button that shows more keeps the focus, or gives it to the first that is new when there are no more. */
export async function more(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const word = unique("q").replace(" ", "");
  for (let at = 0; at < 21; at++) await admin.product({ name: `${word} ${at}` });
  await watched("more", gateway, async (open) => {
    const page = await open("/shop/nowhere");
    // Nothing is loaded by itself.
    await page.addInitScript(() => (IntersectionObserver.prototype.observe = () => {}));
    await page.goto(`${gateway}/shop?q=${word}`);
    await page.locator(".product").nth(19).waitFor();
    await page.route("**/products?*", (route) => route.fulfill({ status: 500, json: { status: 500 } }));
    await page.getByRole("button", { name: "More", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement.matches(".trouble"));
    await page.unroute("**/products?*");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement === document.querySelectorAll(".product a")[20]);
  }, { allowed: [/500/] });
}
