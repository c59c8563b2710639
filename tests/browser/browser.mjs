// Debian's Chromium for the tests of pages, and what they all check.

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Loads a package: `make needs` installs them there; the repository has nothing but their versions. */
export const installed = createRequire(new URL("../../target/browser/", import.meta.url));
export const { chromium } = installed("playwright-core");

/** Which browser it is. */
export const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** How it is started by root, and asks nobody but the shop. */
export const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--font-render-hinting=none"];

/** Ends the test unless `holds`. */
export function expect(holds, why) {
  if (!holds) throw new Error(why);
}

/** Runs `test` with a function that opens `url` with `options`; fails when a page says something is wrong. */
export async function withBrowser(test) {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const browser = await chromium.launch({ executablePath, args: [...FLAGS, `--crash-dumps-dir=${profile}`] });
  const complaints = [];
  try {
    await test(async (url, options = {}, prepare = async () => {}) => {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, timezoneId: "UTC", ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      page.on("pageerror", (error) => complaints.push(`${url}: ${error}`));
      // Chromium tells of violations of the policy as errors, too.
      page.on("console", (line) => { if (["error", "warning"].includes(line.type())) complaints.push(`${url}: ${line.text()}`); });
      page.on("request", (request) => {
        const to = new URL(request.url());
        if (to.protocol !== "data:" && to.origin !== new URL(url).origin) complaints.push(`${url} asks ${to}`);
      });
      await prepare(page);
      await page.goto(url);
      return page;
    }, complaints);
    expect(!complaints.length, complaints.join("\n"));
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}
