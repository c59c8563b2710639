// What people wrote is shown as they wrote it.

import { customer, expect, headed, press, signIn, signedIn, withPages } from "./support.mjs";
import { pathsOf, visit } from "./tour.mjs";

/** Markup in everything that people write stays text. */
export async function markup(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=2</script>`;
  const buyer = await customer(gateway, `${evil}`.slice(0, 60));
  const fields = {
    name: evil,
    description: evil,
    category: evil,
    sku: `${evil.slice(0, 30)}${Date.now()}`,
    tags: [evil.slice(0, 40)],
    images: ['https://elsewhere.example/"><script>'],
    attributes: { [evil]: evil },
    stock: 1,
  };
  const words = { order: { shipTo: { [evil.slice(0, 40)]: evil }, contact: evil }, webhook: { description: evil } };
  const { paths, product, clear } = await pathsOf(api, buyer, fields, words);
  await withPages("markup", gateway, async (open) => {
    const page = await open("/admin/");
    await page.route(/\/events\/dead-letters(\?|$)/, (route) =>
      route.fulfill({
        json: [
          {
            id: `a:${evil}`,
            consumer: evil,
            type: evil,
            subject: evil,
            createdAt: "2026-01-01T00:00:00Z",
            attempts: 1,
            reason: evil,
            redriven: false,
            message: { evil },
          },
        ],
      }),
    );
    await signIn(page, email, password);
    await headed(page, "Overview");
    const shows = ["/products", `/products/${product.id}`, ...paths.filter((path) => /^\/(orders|users|webhooks|dead)/.test(path))];
    await visit(page, gateway, paths, async (page, path) => {
      await literal(page, path);
      const values = await page.evaluate(
        () => document.body.innerText + [...document.querySelectorAll("input, textarea")].map((input) => input.value).join(),
      );
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
  await page
    .locator("main [name=file]")
    .setInputFiles({ name: "a.ndjson", mimeType: "text/plain", buffer: Buffer.from(JSON.stringify({ name: "x", price: 1, [evil]: 1 })) });
  await press(page.locator("main form").first(), "Import");
  await page.locator("main td", { hasText: "<img src=x" }).waitFor();
  await literal(page, "/import");
}
