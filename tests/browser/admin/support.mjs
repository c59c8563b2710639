// What the parts of admin.mjs share: a browser that keeps evidence of failures, the API, and what the pages show.

import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "../browser.mjs";

export { expect };

const { chromium } = createRequire(new URL("../../../target/browser/", import.meta.url))("playwright-core");
const FAILURES = fileURLToPath(new URL("../../../target/browser/failures/", import.meta.url));
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** An answer of the API that is no success is told by the browser as an error, too; the pages explain it. */
const ANSWERED = /^Failed to load resource: (the server responded with a status of|net::ERR_(INTERNET_DISCONNECTED|FAILED|ABORTED))/;

/** Runs `test(open)`, where `open(path, options)` gives a page of a context of its own. Fails where a page has an error or breaks its policy,
 *  and then leaves a picture and a trace of each page in target/browser/failures. */
export async function withPages(part, gateway, test) {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, `--crash-dumps-dir=${profile}`] });
  const complaints = [];
  const pages = [];
  try {
    await test(async (path, options = {}) => {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, timezoneId: "UTC", locale: "en-US", reducedMotion: "reduce", ...options });
      await context.tracing.start({ screenshots: true, snapshots: true });
      const page = await context.newPage();
      pages.push(page);
      page.setDefaultTimeout(15_000);
      page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
      page.on("console", (line) => {
        if (["error", "warning"].includes(line.type()) && !ANSWERED.test(line.text())) complaints.push(`${page.url()}: ${line.text()}`);
      });
      await page.goto(gateway + path);
      return page;
    }, complaints);
    expect(!complaints.length, complaints.join("\n"));
  } catch (error) {
    await keep(part, pages);
    throw error;
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

async function keep(part, pages) {
  mkdirSync(FAILURES, { recursive: true });
  for (const [at, page] of pages.entries()) {
    const name = join(FAILURES, `admin-${part}-${at}`);
    await page.screenshot({ path: `${name}.png`, fullPage: true }).catch(() => {});
    await page.context().tracing.stop({ path: `${name}.zip` }).catch(() => {});
  }
}

/** The API as somebody uses it without the pages: `ask(method, path, body, headers)` gives `{ status, data, etag, next }`. */
export function client(gateway, token = null) {
  return async (method, path, body, headers = {}) => {
    const isText = typeof body === "string";
    const all = { ...(body !== undefined && !isText && { "content-type": "application/json" }), ...(token && { authorization: `Bearer ${token}` }), ...headers };
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
  const { status, data } = await api("POST", "/orders", { items: [{ productId: product.id, quantity }], ...more }, { "idempotency-key": key });
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

/** The button of that name in `place`. */
export const press = (place, name, exact = true) => place.getByRole("button", { name, exact }).click();
