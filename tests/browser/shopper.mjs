// What a customer does in the shop, and what a test does by the API meanwhile.

import { expect } from "./browser.mjs";

export const PASSWORD = "quiet lantern over nine hills";
let count = 0;

/** A text that no other test has. */
export const unique = (name) => `${name} ${Date.now().toString(36)}${process.pid.toString(36)}${(count++).toString(36)}`;

/** The API of the shop at `gateway`. */
export class Api {
  constructor(gateway, token = null) {
    [this.gateway, this.token] = [gateway, token];
  }

  /** The same, for the account of `email`. */
  async as(email, password) {
    const { accessToken } = await this.ask("POST", "/auth/login", { email, password });
    return new Api(this.gateway, accessToken);
  }

  async ask(method, path, body, headers = {}) {
    const all = { "content-type": "application/json", ...(this.token && { authorization: `Bearer ${this.token}` }), ...headers };
    const answer = await fetch(this.gateway + path, { method, headers: all, body: body && JSON.stringify(body) });
    const text = await answer.text();
    expect(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  product(more = {}) {
    return this.ask("POST", "/products", { name: unique("Lamp"), price: 24.5, stock: 50, ...more });
  }

  /** A new customer, with an e-mail address of its own. */
  async customer(username = "Morpheus") {
    const email = `${unique("m").replace(" ", "")}@example.com`;
    return { ...(await this.ask("POST", "/auth/register", { username, email, password: PASSWORD })), email };
  }
}

/** Waits until the heading of the page is `text`. */
export const headed = (page, text) => page.getByRole("heading", { level: 1, name: text }).waitFor();

export async function signIn(page, email, password = PASSWORD) {
  await page.locator("[name=email]").fill(email);
  await page.locator("[name=password]").fill(password);
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
}

/** Lets a page's clock go ten times slower, so that what it waits for has the time on a busy machine. */
export function patient() {
  const [now, began] = [Date.now, Date.now()];
  Date.now = () => began + (now() - began) / 10;
}

/** Looks for a product by typing, and waits for its card. */
export async function find(page, name) {
  await page.getByLabel("Search", { exact: true }).pressSequentially(name.slice(0, 80), { delay: 5 });
  await found(page, name);
  const card = page.locator(".product").filter({ hasText: name });
  return card;
}

/** Waits until the page has looked for `text` and found one product. */
export async function found(page, text) {
  await page.waitForFunction((text) => new URL(location.href).searchParams.get("q") === text, text);
  await page.locator("[role=status]", { hasText: /^1 product$/ }).waitFor();
}

/** Puts `product` into the cart from its page. */
export async function take(page, gateway, product) {
  await page.goto(`${gateway}/shop/products/${product.id}`);
  await page.getByRole("button", { name: "Add to cart", exact: true }).click();
  await page.locator("#cart-count").filter({ hasText: /\d/ }).waitFor();
}

export const ADDRESS = {
  "shipTo.name": "Morpheus",
  "shipTo.street": "Main Street 1",
  "shipTo.postcode": "12345",
  "shipTo.city": "Zion",
  "shipTo.country": "Nowhere",
};

/** Fills the form of the checkout; its contact is filled already. */
export async function address(page, texts = ADDRESS) {
  for (const [name, text] of Object.entries(texts)) await page.locator(`[name="${name}"]`).fill(text);
}

/** From the cart of somebody who is signed in to the order's page. Gives the order's id. */
export async function order(page, gateway) {
  await page.goto(`${gateway}/shop/checkout`);
  await headed(page, "Checkout");
  await address(page);
  await page.getByRole("button", { name: "Order", exact: true }).click();
  await headed(page, "Your order");
  return page.url().split("/").pop();
}

/** The state that the order's page shows. */
export const state = (page, text) =>
  page
    .locator(".timeline [aria-current=step]")
    .filter({ hasText: new RegExp(`^${text}`) })
    .waitFor();
