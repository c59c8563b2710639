// What the parts of admin.mjs share: pages of the administration, the API, and what the pages show.

import { expect } from "../browser.mjs";
import { watched } from "../watched.mjs";

export { expect };

/** An answer of the API that is no success is told by the browser as an error, too; the pages explain it. */
const ANSWERED = /Failed to load resource: (the server responded with a status of|net::ERR_(INTERNET_DISCONNECTED|FAILED|ABORTED))/;

/** Runs `test(open)`, where `open(path, options)` gives a page of a browser of its own, in which nothing moves. */
export const withPages = (part, gateway, test) =>
  watched(
    `admin-${part}`,
    gateway,
    (open) => test(Object.assign((path, options = {}) => open(path, { reducedMotion: "reduce", ...options }), { tab: open.tab })),
    { allowed: [ANSWERED] },
  );

/** The API as somebody uses it without the pages: `ask(method, path, body, headers)` gives `{ status, data, etag, next }`. */
export function client(gateway, token = null) {
  return async (method, path, body, headers = {}) => {
    const isText = typeof body === "string";
    const all = {
      ...(body !== undefined && !isText && { "content-type": "application/json" }),
      ...(token && { authorization: `Bearer ${token}` }),
      ...headers,
    };
    const answer = await fetch(gateway + path, { method, headers: all, body: body === undefined || isText ? body : JSON.stringify(body) });
    const text = await answer.text();
    const isJson = answer.headers.get("content-type")?.includes("json") && !answer.headers.get("content-type").includes("ndjson");
    return { status: answer.status, etag: answer.headers.get("etag"), data: isJson && text ? JSON.parse(text) : text };
  };
}

/** The API with the token of an account. */
export async function signedIn(gateway, email, password) {
  const { status, data } = await client(gateway)("POST", "/auth/login", { email, password });
  expect(status === 200, `login of ${email}: ${status} ${JSON.stringify(data)}`);
  return client(gateway, data.accessToken);
}

export const PASSWORD = "follow the white rabbit";

/** A customer who has registered, with the API as hers. */
export async function customer(gateway, username = "Niobe") {
  const email = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}@example.com`;
  const { status, data } = await client(gateway)("POST", "/auth/register", { username, email, password: PASSWORD });
  expect(status === 201, `register: ${status} ${JSON.stringify(data)}`);
  return { ...data, email, api: await signedIn(gateway, email, PASSWORD) };
}

/** A product that the API has made of `fields`. */
export async function productOf(api, fields = {}) {
  const { status, data } = await api("POST", "/products", { name: "Lamp", price: 49.99, stock: 3, ...fields });
  expect(status === 201, `product: ${status} ${JSON.stringify(data)}`);
  return data;
}

/** An order of one product, placed and, unless `isPaid` is false, paid. */
export async function orderOf(api, product, quantity, { isPaid = true, ...more } = {}) {
  const key = `"${Math.random()}"`;
  const { status, data } = await api(
    "POST",
    "/orders",
    { items: [{ productId: product.id, quantity }], ...more },
    { "idempotency-key": key },
  );
  expect(status === 201, `order: ${status} ${JSON.stringify(data)}`);
  if (!isPaid) return data;
  const paid = await api("POST", `/orders/${data.id}/pay`, { paymentMethod: "ok" });
  expect(paid.status === 200, `payment: ${paid.status}`);
  return paid.data;
}

/** Fills in the form that asks who it is. */
export async function signIn(page, email, password) {
  const form = page.locator("form", { has: page.locator("[name=password]") });
  await form.locator("[name=email]").fill(email);
  await form.locator("[name=password]").fill(password);
  await form.locator("[type=submit]").click();
}

/** Waits for the page whose heading is `text`. */
export const headed = (page, text) => page.locator('main:not([aria-busy="true"]) h1', { hasText: text }).waitFor();

/** Waits until the page has said `text`. */
export const said = (page, text) => page.locator("#said", { hasText: text }).waitFor({ state: "attached" });

/** Waits until what `selector` names has the focus. */
export const focused = (page, selector) => page.waitForFunction((selector) => document.activeElement.matches(selector), selector);

/** Holds the next request of `method` to `pattern`, which `begin()` makes, until `meanwhile()` is over. */
export async function held(page, pattern, method, begin, meanwhile) {
  let release;
  const over = new Promise((resolve) => (release = resolve));
  await page.route(pattern, async (route) => {
    if (route.request().method() === method) await over;
    await route.fallback();
  });
  const asked = page.waitForRequest(pattern);
  await begin();
  await asked;
  await meanwhile();
  release();
}

/** The button of that name in `place`. */
export const press = (place, name, exact = true) => place.getByRole("button", { name, exact }).click();
