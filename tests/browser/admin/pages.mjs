// What holds on every page: it can be used by everybody, and shows what people wrote as they wrote it.

import * as watched from "../watched.mjs";
import { customer, expect, headed, orderOf, press, productOf, signIn, signedIn, withPages } from "./support.mjs";

const SCREENS = {
  light: { colorScheme: "light" }, dark: { colorScheme: "dark" },
  narrow: { viewport: { width: 320, height: 640 } }, wide: { viewport: { width: 3840, height: 2160 } },
};
const RTL = "مصباح الطاولة";

/** Loads each of `paths`, and calls `look(page, path)` when it is there. */
async function visit(page, gateway, paths, look) {
  for (const path of paths) {
    await page.goto(`${gateway}/admin${path}`);
    await page.locator('main:not([aria-busy="true"]) h1').waitFor();
    await page.waitForFunction(() => !document.querySelector('main [aria-busy="true"]'));
    await look(page, path);
  }
}

/** The address of every page of a shop that has one of each. */
async function pathsOf(api, buyer, fields = {}, words = {}) {
  const product = await productOf(api, fields);
  const order = await orderOf(buyer.api, product, 1, words.order);
  const { data } = await api("POST", "/webhooks", { url: `https://hooks-${Date.now()}.invalid/in`, ...words.webhook });
  const paths = ["/", "/products", "/products/new", `/products/${product.id}`, "/import", "/orders", `/orders/${order.id}`, "/users", "/webhooks", `/webhooks/${data.id}`, "/dead-letters", "/nowhere"];
  return { paths, product, clear: () => api("DELETE", `/webhooks/${data.id}`) };
}

/** On every page, and in what pages show for a while, in each of SCREENS, or in the one that is named. */
export async function accessible(gateway, email, password, screen) {
  const api = await signedIn(gateway, email, password);
  const fields = { name: `${RTL} (XL)`, description: RTL, category: RTL, tags: [RTL], images: ["https://elsewhere.example/1.jpg"], attributes: { [RTL]: RTL, long: "x".repeat(300) } };
  const { paths, product, clear } = await pathsOf(api, await customer(gateway, RTL), fields);
  await withPages("accessible", gateway, async (open) => {
    for (const name of screen in SCREENS ? [screen] : Object.keys(SCREENS)) {
      const page = await open("/admin/", SCREENS[name]);
      await headed(page, "Sign in");
      await press(page.locator("main"), "Sign in");
      await check(page, `${name}: sign-in`);
      await signIn(page, email, password);
      await headed(page, "Overview");
      await visit(page, gateway, paths, (page, path) => check(page, `${name}: ${path}`));
      await moments(page, gateway, api, product, (what) => check(page, `${name}: ${what}`));
    }
  });
  await clear();
  await api("DELETE", `/products/${product.id}`);
}

/** A value that is changed in a table, a dialog, a conflict, an import with errors, and a secret. */
async function moments(page, gateway, api, product, look) {
  await page.goto(`${gateway}/admin/products`);
  await page.getByRole("button", { name: `Price of ${product.name}` }).first().click();
  await page.locator("main [name=price]").fill("no price");
  await page.locator("main [name=price]").press("Enter");
  await page.locator("main td .error", { hasText: "Write a number" }).waitFor();
  await look("a price that is wrong");
  await page.goto(`${gateway}/admin/products/${product.id}`);
  await headed(page, product.name);
  await api("PATCH", `/products/${product.id}`, { category: `Lamps ${Date.now()}`, price: 1 });
  await page.locator("main [name=category]").fill("Light");
  await press(page.locator("main form.product"), "Save");
  await page.locator("[data-conflict=category]").waitFor();
  await look("a conflict");
  await press(page.locator("main"), "Delete the product");
  await look("a dialog");
  await press(page.locator("dialog"), "Cancel");
  await page.goto(`${gateway}/admin/import`);
  await page.locator("main [name=file]").setInputFiles({ name: "a.ndjson", mimeType: "text/plain", buffer: Buffer.from('{"name":""}') });
  await press(page.locator("main form").first(), "Import");
  await page.locator("[data-count=failed]").waitFor();
  await look("an import with errors");
  await page.goto(`${gateway}/admin/webhooks`);
  await page.locator("main [name=url]").fill(`https://hooks-${Date.now()}.invalid/in`);
  await press(page.locator("main form"), "Make the webhook");
  await page.locator(".secret").waitFor();
  await look("a secret");
  await page.getByRole("link", { name: "Open the webhook" }).click();
  await press(page.locator("main"), "Delete the webhook");
  await press(page.locator("dialog"), "Delete the webhook");
  await headed(page, "Webhooks");
}

/** The page fits, its headings are in order, and axe finds nothing wrong. */
async function check(page, name) {
  await watched.fits(page, name);
  const heads = await page.evaluate(() => [...document.querySelectorAll("main :is(h1, h2, h3, h4)")].map((head) => +head.tagName[1]));
  expect(heads[0] === 1 && heads.every((level, at) => !at || (level > 1 && level <= heads[at - 1] + 1)), `${name}: headings ${heads}`);
  await watched.accessible(page, name);
}

/** Markup in everything that people write stays text. */
export async function markup(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=2</script>`;
  const buyer = await customer(gateway, `${evil}`.slice(0, 60));
  const fields = { name: evil, description: evil, category: evil, sku: `${evil.slice(0, 30)}${Date.now()}`, tags: [evil.slice(0, 40)], images: ['https://elsewhere.example/"><script>'], attributes: { [evil]: evil }, stock: 1 };
  const words = { order: { shipTo: { [evil.slice(0, 40)]: evil }, contact: evil }, webhook: { description: evil } };
  const { paths, product, clear } = await pathsOf(api, buyer, fields, words);
  await withPages("markup", gateway, async (open) => {
    const page = await open("/admin/");
    await page.route(/\/events\/dead-letters(\?|$)/, (route) => route.fulfill({ json: [{ id: `a:${evil}`, consumer: evil, type: evil, subject: evil, createdAt: "2026-01-01T00:00:00Z", attempts: 1, reason: evil, redriven: false, message: { evil } }] }));
    await signIn(page, email, password);
    await headed(page, "Overview");
    const shows = ["/products", `/products/${product.id}`, ...paths.filter((path) => /^\/(orders|users|webhooks|dead)/.test(path))];
    await visit(page, gateway, paths, async (page, path) => {
      await literal(page, path);
      const values = await page.evaluate(() => document.body.innerText + [...document.querySelectorAll("input, textarea")].map((input) => input.value).join());
      if (shows.includes(path)) expect(values.includes("<img src=x"), `${path} shows what was written`);
    });
    await dialogs(page, gateway, product);
    await importErrors(page, gateway, evil);
  });
  await clear();
  await api("DELETE", `/products/${product.id}`);
}

async function literal(page, path) {
  const found = await page.evaluate(() => [window.hit, document.querySelectorAll("main img[src='x'], main script").length]);
  expect(found[0] === undefined && found[1] === 0, `${path}: ${found}`);
}

async function dialogs(page, gateway, product) {
  await page.goto(`${gateway}/admin/products/${product.id}`);
  await press(page.locator("main"), "Delete the product");
  await page.locator("dialog", { hasText: "<img src=x" }).waitFor();
  await literal(page, "the dialog");
  await press(page.locator("dialog"), "Cancel");
}

async function importErrors(page, gateway, evil) {
  await page.goto(`${gateway}/admin/import`);
  await headed(page, "Import and export");
  await page.locator("main [name=file]").setInputFiles({ name: "a.ndjson", mimeType: "text/plain", buffer: Buffer.from(JSON.stringify({ name: "x", price: 1, [evil]: 1 })) });
  await press(page.locator("main form").first(), "Import");
  await page.locator("main td", { hasText: "<img src=x" }).waitFor();
  await literal(page, "/import");
}
