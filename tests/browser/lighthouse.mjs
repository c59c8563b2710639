// Lighthouse on pages of a demo, for a telephone and for a desktop: `node lighthouse.mjs PROGRAM`. It prints a line for each, and fails
// when one has less than it should.

import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, executablePath, FLAGS } from "./browser.mjs";
import { startDemo } from "./demo.mjs";

// `make lighthouse` installs it there.
const installed = createRequire(new URL("../../target/lighthouse/", import.meta.url));
const { default: lighthouse } = await import(installed.resolve("lighthouse"));
const { default: desktop } = await import(installed.resolve("lighthouse/core/config/desktop-config.js"));

/** What every page should have of 100 in each of the four categories. */
const SCORE = 95;
/** What the first view may take over the wire, in bytes, and until something is painted on this machine, in milliseconds. */
const BYTES = 60_000;
const PAINTED = 300;

const CUSTOMERS = ["/shop/orders", "/shop/account", "/shop/cart"];
const ADMINS = ["/admin", "/admin/products", "/admin/orders", "/admin/users", "/admin/webhooks", "/admin/import"];

/** A port where nothing listens. */
async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Calls `use` with the debugging port of a browser in which `account`, if there is one, has signed in at `path`. */
async function withSession(shop, account, path, use) {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const port = await freePort();
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: [...FLAGS, `--remote-debugging-port=${port}`],
  });
  try {
    if (account) {
      const page = await context.newPage();
      await page.goto(shop + path);
      await page.locator("input[name=email]").fill(account.email);
      await page.locator("input[name=password]").fill(account.password);
      await page.keyboard.press("Enter");
      await page.locator("input[name=password]").waitFor({ state: "detached" });
      await page.close();
    }
    await use(port);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** What Lighthouse finds when it loads `url` with nothing of it in the cache. */
async function load(url, port, config) {
  // Cookies stay, and with them the session.
  const { lhr } = await lighthouse(url, { port, logLevel: "error" }, config);
  if (lhr.runtimeError) throw new Error(lhr.runtimeError.code);
  return lhr;
}

/** The same as `judge` on both devices, in a browser of its own. Chromium loses a trace now and then (NO_NAVSTART), and is of no use then. */
async function judgeAnew(shop, account, path, page, tries = 3) {
  try {
    const wrong = [];
    await withSession(shop, account, path, async (port) => {
      wrong.push(...(await judge(port, shop + page, undefined, "telephone")));
      wrong.push(...(await judge(port, shop + page, desktop, "desktop")));
    });
    return wrong;
  } catch (error) {
    if (tries === 1) throw error;
    console.log(`${page}: ${error.message}, once more`);
    return judgeAnew(shop, account, path, page, tries - 1);
  }
}

/** Judges `url` as a telephone or a desktop shows it; gives what is wrong with it. */
async function judge(port, url, config, device) {
  const lhr = await load(url, port, config);
  const scores = Object.values(lhr.categories).map(({ id, score }) => [id, Math.round(score * 100)]);
  const bytes = lhr.audits["total-byte-weight"].numericValue;
  const { observedFirstContentfulPaint: painted } = lhr.audits.metrics.details.items[0];
  const where = `${new URL(lhr.finalDisplayedUrl).pathname} (${device})`;
  console.log(`${where}: ${scores.map(([id, score]) => `${id} ${score}`).join(", ")}; ${bytes} bytes, painted after ${painted} ms`);
  for (const metric of Object.values(lhr.categories.performance.auditRefs).filter(({ weight }) => weight)) {
    const { score, displayValue } = lhr.audits[metric.id];
    if (score < 0.9) console.log(`  ${metric.id} ${displayValue}`);
  }
  const low = scores.filter(([, score]) => score < SCORE).map(([id, score]) => `${where}: ${id} ${score}, wanted ${SCORE}`);
  if (new URL(lhr.finalDisplayedUrl).pathname !== new URL(url).pathname) low.push(`${url} led to ${lhr.finalDisplayedUrl}`);
  if (new URL(url).pathname === "/shop" && bytes > BYTES) low.push(`${where}: ${bytes} bytes, wanted ${BYTES}`);
  if (painted > PAINTED) low.push(`${where}: painted after ${painted} ms, wanted ${PAINTED}`);
  return low;
}

const { demo, shop, admin, customer } = await startDemo(process.argv[2]);
try {
  const [{ id }] = await (await fetch(`${shop}/products?limit=1`)).json();
  const wrong = [];
  const sessions = [
    [null, "", ["/shop", `/shop/products/${id}`, "/shop/sign-in"]],
    [customer, "/shop/sign-in", CUSTOMERS],
    [admin, "/admin", ADMINS],
  ];
  for (const [account, path, pages] of sessions) {
    for (const page of pages) wrong.push(...(await judgeAnew(shop, account, path, page)));
  }
  console.log(wrong.join("\n"));
  process.exitCode = wrong.length ? 1 : 0;
} finally {
  demo.kill("SIGTERM");
}
