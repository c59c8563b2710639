// Customers who buy something.

import { expect } from "./browser.mjs";
import { ADDRESS, Api, PASSWORD, address, find, found, headed, state, unique } from "./shopper.mjs";
import { watched } from "./watched.mjs";

/** A customer finds a product, registers on the way to the checkout, pays, sees the order become paid and sent without a reload, and
 *  erases the account. */
export async function buys(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product({ description: "It shines." });
  await watched("buys", gateway, async (open) => {
    const page = await open("/shop");
    const card = await find(page, product.name);
    expect(new URL(page.url()).searchParams.get("q") === product.name, `the address has what is looked for: ${page.url()}`);
    expect(await page.evaluate(() => document.activeElement.name === "q"), "the focus stays in the field");
    await card.getByRole("link").click();
    await headed(page, product.name);
    await page.getByRole("spinbutton", { name: "Pieces" }).fill("2");
    await page.getByRole("button", { name: "Add to cart", exact: true }).click();
    await page.getByRole("link", { name: "Cart, 2 pieces" }).click();
    await headed(page, "Your cart");
    await page.getByRole("button", { name: `One piece more of ${product.name}` }).click();
    await page.locator(".total", { hasText: "€73.50" }).waitFor();
    await page.getByRole("link", { name: "To the checkout" }).click();
    await headed(page, "Sign in");
    await page.getByRole("link", { name: "New account" }).click();
    const mine = `${unique("b").replace(" ", "")}@example.com`;
    await page.getByLabel("Name", { exact: true }).fill("Switch");
    await page.getByLabel("E-mail address").fill(mine);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Make the account" }).click();
    await headed(page, "Checkout");
    await page.locator(".summary", { hasText: "€73.50" }).waitFor();
    await address(page);
    await page.getByRole("button", { name: "Order", exact: true }).click();
    await headed(page, "Your order");
    await state(page, "To be paid");
    expect(await page.locator("#cart-count").isHidden(), "the cart is empty");
    await page.evaluate(() => (globalThis.isSame = true));
    await page.getByRole("button", { name: "Pay now" }).click();
    await state(page, "Paid");
    await admin.ask("POST", `/orders/${page.url().split("/").pop()}/fulfil`);
    await state(page, "Sent");
    expect(await page.evaluate(() => globalThis.isSame), "the page was not loaded again");
    await page.getByRole("link", { name: "Orders" }).click();
    await page.locator(".entry", { hasText: product.name }).filter({ hasText: "Sent" }).waitFor();
    await erases(page);
    const answer = await fetch(`${gateway}/auth/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ email: mine, password: PASSWORD }),
    });
    expect(answer.status === 401, `the account is gone: ${answer.status}`);
    expect((await page.evaluate(() => Object.keys(localStorage))).length === 0, "nothing of the customer stays in the browser");
  });
}

async function erases(page) {
  await page.getByRole("link", { name: "Account" }).click();
  await headed(page, "Your account");
  await page.getByRole("button", { name: "Erase the account …" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Current password").fill(PASSWORD);
  await dialog.getByLabel("Type “erase for good”").fill("erase");
  await dialog.getByRole("button", { name: "Erase for good" }).click();
  await dialog.locator(".error", { hasText: "Type" }).waitFor();
  await dialog.getByLabel("Type “erase for good”").fill("erase for good");
  await dialog.getByRole("button", { name: "Erase for good" }).click();
  await page.locator("#toast", { hasText: "Your account is erased." }).waitFor();
}

/** Tabs on until the focus is on what `selector` describes; it must show where it is. */
async function tab(page, selector) {
  for (let steps = 0; steps < 80; steps++) {
    await page.keyboard.press("Tab");
    const there = await page.evaluate((selector) => document.activeElement.matches(selector), selector);
    if (there) return;
  }
  throw new Error(`the tabulator does not lead to ${selector}`);
}

/** The same purchase with nothing but keys. */
export async function keyboard(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched("keyboard", gateway, async (open) => {
    const page = await open("/shop");
    await page.locator(".product").first().waitFor();
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement.matches(".skip")), "the first stop skips the head of the page");
    await page.evaluate(() => (globalThis.before = document.querySelector(".product")));
    await page.keyboard.press("Enter");
    expect(await page.evaluate(() => document.activeElement.id === "main"), "it leads to the content");
    await tab(page, "[name=q]");
    expect(await page.evaluate(() => globalThis.before.isConnected), "which stays as it is");
    await page.keyboard.type(product.name);
    await found(page, product.name);
    await tab(page, ".product button");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
    expect(await page.evaluate(() => document.activeElement.matches(".product button")), "the focus stays on the button");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await headed(page, product.name);
    expect(await page.evaluate(() => document.activeElement.matches("h1")), "the focus is on the heading of the new page");
    await tab(page, ".take [type=submit]");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Cart, 2 pieces" }).waitFor();
    await page.goto(`${gateway}/shop/cart`);
    await headed(page, "Your cart");
    await tab(page, ".stepper button");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
    await tab(page, "a.primary");
    await page.keyboard.press("Enter");
    await headed(page, "Sign in");
    await tab(page, "[name=email]");
    await page.keyboard.type(customer.email);
    await tab(page, "[name=password]");
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press("Enter");
    await headed(page, "Checkout");
    for (const [name, text] of Object.entries(ADDRESS)) {
      await tab(page, `[name="${name}"]`);
      await page.keyboard.type(text);
    }
    await page.keyboard.press("Enter");
    await headed(page, "Your order");
    await tab(page, ".pay [type=submit]");
    await page.keyboard.press("Enter");
    await state(page, "Paid");
    expect(await page.evaluate(() => document.activeElement !== document.body), "the focus is not lost");
  });
}

/** The way back from a product leads to the same place of the list, which more products had been added to. */
export async function back(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const tag = unique("many");
  for (let at = 0; at < 60; at++) await admin.product({ name: `Lamp ${100 + at}`, tags: [tag] });
  await watched("back", gateway, async (open) => {
    const page = await open(`/shop?sort=name&tag=${encodeURIComponent(tag)}`);
    await page.locator(".product").nth(19).waitFor();
    for (let at = 1; at < 3; at++) {
      const before = await page.locator(".product").count();
      await page.getByRole("button", { name: "More", exact: true }).scrollIntoViewIfNeeded();
      await page.waitForFunction((before) => document.querySelectorAll(".product").length > before, before);
    }
    const count = await page.locator(".product").count();
    const link = page.locator(".product a").nth(40);
    const name = await link.innerText();
    await link.scrollIntoViewIfNeeded();
    const place = await page.evaluate(() => scrollY);
    await link.click();
    await headed(page, name);
    await page.goBack();
    await page.locator(".product").nth(40).waitFor();
    expect((await page.locator(".product").count()) >= count, "all that was there is there");
    const now = await page.evaluate(() => scrollY);
    expect(place > 500 && Math.abs(now - place) < 50, `at ${now} instead of ${place}`);
    expect((await page.evaluate(() => document.activeElement.textContent)) === name, "the focus is where it was");
    await page.getByLabel("Sort").selectOption("-price");
    await page.waitForFunction(() => location.search.includes("sort=-price"));
    await page.locator(".product:first-child", { hasText: "Lamp 159" }).waitFor();
    // On a wall, the next pages come until there is something to scroll, or no more.
    await page.setViewportSize({ width: 3840, height: 5000 });
    await page.goto(`${gateway}/shop?tag=${encodeURIComponent(tag)}`);
    await page.locator(".product").nth(59).waitFor();
  });
}
