// Every page can be used by everybody, on every screen.

import * as watched from "../watched.mjs";
import { customer, expect, headed, press, signIn, signedIn, withPages } from "./support.mjs";
import { pathsOf, visit } from "./tour.mjs";

const SCREENS = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  narrow: { viewport: { width: 320, height: 640 } },
  wide: { viewport: { width: 3840, height: 2160 } },
};
const RTL = "مصباح الطاولة";

/** On every page, and in what pages show for a while, in each of SCREENS, or in the one that is named. */
export async function accessible(gateway, email, password, screen) {
  const api = await signedIn(gateway, email, password);
  const fields = {
    name: `${RTL} (XL)`,
    description: RTL,
    category: RTL,
    tags: [RTL],
    images: ["https://elsewhere.example/1.jpg"],
    attributes: { [RTL]: RTL, long: "x".repeat(300) },
  };
  const { paths, product, clear } = await pathsOf(api, await customer(gateway, RTL), fields);
  await withPages("accessible", gateway, async (open) => {
    for (const name of screen in SCREENS ? [screen] : Object.keys(SCREENS)) {
      const page = await open("/admin/", SCREENS[name]);
      await headed(page, "Sign in");
      await press(page.locator("main"), "Sign in");
      await check(page, `${name}: sign-in`);
      await signIn(page, email, password);
      await headed(page, "Overview");
      await visit(page, gateway, paths, async (page, path) => {
        await check(page, `${name}: ${path}`);
        await watched.steady(page, `${name}: ${path}`);
      });
      await moments(page, gateway, api, product, (what) => check(page, `${name}: ${what}`));
    }
  });
  await clear();
  await api("DELETE", `/products/${product.id}`);
}

/** A value that is changed in a table, a dialog, a conflict, an import with errors, and a secret. */
async function moments(page, gateway, api, product, look) {
  await page.goto(`${gateway}/admin/products?q=${encodeURIComponent(RTL)}`);
  await page
    .getByRole("button", { name: `Price of ${product.name}` })
    .first()
    .click();
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
  await press(page.locator("main form"), "Add the webhook");
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
  await targets(page, name);
}

/** What can be pressed is at least 24 pixels wide and high, or apart from others; axe asks for that only when told to. */
async function targets(page, name) {
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: { type: "rule", values: ["target-size"] } }));
  const small = found.violations.flatMap(({ nodes }) => nodes.map(({ html }) => html.slice(0, 120)));
  expect(!small.length, `${name}: small targets: ${small.join("\n")}`);
}
