// Sessions that end elsewhere, and tabs that share one.

import { expect } from "./browser.mjs";
import { Api, PASSWORD, address, headed, patient, signIn, take, unique } from "./shopper.mjs";
import { watched } from "./watched.mjs";

async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 100));
}

/** A session that ends elsewhere is said to have ended, and signing in leads back to where one was. */
export async function ended(gateway) {
  const customer = await new Api(gateway).customer();
  await watched(
    "ended",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in?next=/orders%3Fstatus=paid");
      await signIn(page, customer.email);
      await headed(page, "Your orders");
      const other = await new Api(gateway).as(customer.email, PASSWORD);
      await other.ask("POST", "/auth/logout-all");
      // Roles in other processes learn of it within auth.refresh_interval.
      await until(async () => (await fetch(`${gateway}/orders`, { headers: { authorization: `Bearer ${other.token}` } })).status === 401);
      await page.locator("#state").selectOption("placed");
      await headed(page, "Sign in");
      await page.locator("#ended", { hasText: "Your session has ended elsewhere." }).waitFor();
      await signIn(page, customer.email);
      await headed(page, "Your orders");
      expect(page.url().endsWith("/shop/orders?status=placed"), `back to where one was: ${page.url()}`);
      expect(await page.locator("#ended").isHidden(), "the word is gone with its reason");
      await page.getByRole("link", { name: "Account" }).click();
      await headed(page, "Your account");
      const second = await open.tab(page, "/shop/orders");
      await headed(second, "Your orders");
      await page.getByRole("button", { name: "Sign out everywhere" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Sign out everywhere" }).click();
      await headed(second, "Sign in");
      await page.locator("#toast", { hasText: "You are signed out everywhere." }).waitFor();
    },
    { allowed: [/401/] },
  );
}

/** A session that ends while somebody orders: what was typed and the cart are there after signing in again. */
export async function interrupted(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched(
    "interrupted",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      await page.goto(`${gateway}/shop/checkout`);
      await headed(page, "Checkout");
      await address(page);
      const other = await new Api(gateway).as(customer.email, PASSWORD);
      await other.ask("POST", "/auth/logout-all");
      // Roles in other processes learn of it within auth.refresh_interval.
      await until(async () => (await fetch(`${gateway}/orders`, { headers: { authorization: `Bearer ${other.token}` } })).status === 401);
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await page.getByRole("link", { name: "Sign in again" }).click();
      await signIn(page, customer.email);
      await headed(page, "Checkout");
      expect((await page.locator("[name='shipTo.city']").inputValue()) === "Zion", "what was typed is there");
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await headed(page, "Your order");
      await page.locator("table", { hasText: product.name }).waitFor();
    },
    { allowed: [/401/] },
  );
}

/** Two tabs that refresh at once both stay signed in, and have one cart. */
export async function tabs(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("tabs", gateway, async (open) => {
    const page = await open(`/shop/products/${product.id}`);
    await page.getByRole("button", { name: "Add to cart", exact: true }).click();
    await page.getByRole("link", { name: "Account" }).click();
    await headed(page, "Sign in");
    await signIn(page, customer.email);
    await headed(page, "Your account");
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
    const second = await open.tab(page, "/shop/account");
    await headed(second, "Your account");
    await behind(await open.tab(page, "/shop/nowhere"), gateway);
    for (let round = 0; round < 5; round++) {
      await Promise.all([page.reload(), second.reload()]);
      await Promise.all([headed(page, "Your account"), headed(second, "Your account")]);
    }
    await second.goto(`${gateway}/shop/products/${product.id}`);
    await second.getByRole("button", { name: "Add to cart", exact: true }).click();
    await page.getByRole("link", { name: "Cart, 2 pieces" }).waitFor();
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.getByRole("link", { name: "Cart", exact: true }).waitFor();
    await second.getByRole("link", { name: "Cart", exact: true }).waitFor();
    // What a guest has put into the cart is added to what the customer had there.
    await second.goto(`${gateway}/shop/products/${product.id}`);
    await second.getByRole("button", { name: "Add to cart", exact: true }).click();
    await second.goto(`${gateway}/shop/sign-in?next=/cart`);
    const guest = await second.evaluate(() => localStorage.getItem("/shop.cart"));
    await signIn(second, customer.email);
    await second.getByRole("link", { name: "Cart, 3 pieces" }).waitFor();
    await page.getByRole("link", { name: "Cart, 3 pieces" }).waitFor();
    await page.evaluate(seesLess, [guest, customer.id]);
    await page.getByRole("link", { name: "Cart, 3 pieces" }).waitFor();
    // Nothing of what an earlier version has kept is lost.
    await page.goto(`${gateway}/shop/account`);
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.getByRole("link", { name: "Cart", exact: true }).waitFor();
    await page.evaluate((text) => localStorage.setItem("/shop.cart", JSON.stringify(JSON.parse(text).lines)), guest);
    await page.goto(`${gateway}/shop/sign-in?next=/cart`);
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
    await signIn(page, customer.email);
    await page.getByRole("link", { name: "Cart, 4 pieces" }).waitFor();
  });
}

/** A new tab may not see yet what another has just stored: it asks the others who is signed in. */
async function behind(tab, gateway) {
  await tab.addInitScript(patient);
  await tab.addInitScript(() => {
    const get = Storage.prototype.getItem;
    Storage.prototype.getItem = function (name) {
      return name.endsWith("shop.signed-in") ? null : get.call(this, name);
    };
  });
  await tab.goto(`${gateway}/shop/cart`);
  await tab.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
  await tab.getByRole("link", { name: "Account" }).click();
  await headed(tab, "Your account");
  await tab.close();
}

/** Takes a customer's cart in a tab that has seen what another tab has added to it, but not that this was the cart of a `guest`. */
async function seesLess([guest, customer]) {
  const main = document.querySelector("script[type=module]").src;
  const cart = await import(new URL("cart.js", main));
  localStorage.setItem("/shop.cart", guest);
  localStorage.removeItem("/shop.cart.owner");
  cart.belongTo(customer);
}

/** The account's forms: another name, another address with the password, another password, and the data as a file. */
export async function account(gateway) {
  const customer = await new Api(gateway).customer();
  await watched(
    "account",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in?next=/account");
      await signIn(page, customer.email, "wrong");
      await page.locator(".error", { hasText: "is wrong" }).waitFor();
      await signIn(page, customer.email);
      await headed(page, "Your account");
      const profile = page.locator("section", { has: page.getByRole("heading", { name: "Profile" }) });
      const other = `${unique("o").replace(" ", "")}@example.com`;
      await profile.getByLabel("E-mail address").fill(other);
      await profile.getByRole("button", { name: "Save" }).click();
      await profile.locator(".error", { hasText: "needed" }).waitFor();
      await profile.getByLabel("Current password").fill(PASSWORD);
      await profile.getByRole("button", { name: "Save" }).click();
      await page.locator("#toast", { hasText: "Saved." }).waitFor();
      const secret = page.locator("section", { has: page.getByRole("heading", { name: "Password" }) });
      await secret.getByLabel("Current password").fill(PASSWORD);
      await secret.getByLabel("New password").fill(`${PASSWORD} again`);
      await secret.getByRole("button", { name: "Change the password" }).click();
      await page.locator("#toast", { hasText: "The password is changed." }).waitFor();
      const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download your data" }).click()]);
      expect(file.suggestedFilename() === "shop-account.json", file.suggestedFilename());
      await page.getByRole("button", { name: "Sign out", exact: true }).click();
      await page.locator("#toast", { hasText: "You are signed out." }).waitFor();
      await page.getByRole("link", { name: "Account" }).click();
      await signIn(page, other, `${PASSWORD} again`);
      await headed(page, "Your account");
    },
    { allowed: [/401/] },
  );
}
