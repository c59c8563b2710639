// Takes the pictures of the page for operators: `node pictures.mjs FOLDER`. They show a fixture and need no process.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";
import { request, state } from "./fixture.mjs";

const PAGE = new URL("../../src/server/ops/page/", import.meta.url);
const KINDS = { html: "text/html", css: "text/css", js: "text/javascript" };
/** A minute and a half of answers, in a moment. */
const ANSWERS = 90;
const [folder] = process.argv.slice(2);

/** Answers as a process would. */
async function stand(page) {
  let asked = 0;
  // The page waits a second between two answers.
  await page.addInitScript(() => { const wait = window.setTimeout; window.setTimeout = (then) => wait(then, 1); });
  await page.route("http://shop.test/**", (route) => {
    const path = new URL(route.request().url()).pathname;
    if (path === "/ops/state") return route.fulfill({ json: state(Math.min(asked++, ANSWERS)) });
    if (path.startsWith("/ops/requests/")) return route.fulfill({ json: request() });
    const name = path === "/ops" ? "ops.html" : path.replace("/ops/", "");
    return route.fulfill({ body: readFileSync(new URL(name, PAGE), "utf8"), contentType: `${KINDS[name.split(".").pop()]}; charset=utf-8` });
  });
}

await withBrowser(async (open) => {
  const last = state(ANSWERS).time.slice(11, 19);
  for (const [name, options] of Object.entries({ "ops-light": {}, "ops-dark": { colorScheme: "dark" } })) {
    const page = await open("http://shop.test/ops", { ...options, viewport: { width: 1120, height: 900 } }, stand);
    await page.locator("#feed", { hasText: last }).waitFor();
    if (name === "ops-dark") {
      await page.locator("#traces summary").first().click();
      await page.locator("#traces pre").waitFor();
      await page.locator("section[aria-labelledby=requests]").screenshot({ path: join(folder, `${name}.png`) });
    } else await page.screenshot({ path: join(folder, `${name}.png`) });
  }
  const page = await open("http://shop.test/ops", { viewport: { width: 360, height: 740 } }, stand);
  await page.locator("#feed", { hasText: last }).waitFor();
  await page.screenshot({ path: join(folder, "ops-narrow.png") });
});
