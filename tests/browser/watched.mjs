// Pages that are watched while a test uses them: what they complain of fails it, and a failure leaves a picture and a trace.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, executablePath, expect, FLAGS, installed } from "./browser.mjs";

const axe = installed("axe-core");

const FAILURES = fileURLToPath(new URL("../../target/browser/failures/", import.meta.url));

/** Runs `test(open, context)`, where `open(path, options)` opens a page in a browser of its own (a context), and `open.tab(page, path)`
 *  another tab of the same. `allowed` are complaints that the test provokes; others fail it. */
export async function watched(name, gateway, test, { allowed = [] } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const browser = await chromium.launch({ executablePath, args: [...FLAGS, `--crash-dumps-dir=${profile}`] });
  const complaints = [];
  const contexts = [];
  const complain = (text) => allowed.some((pattern) => pattern.test(text)) || complaints.push(text);
  const watch = async (context, path) => {
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => complain(`${path}: ${error}`));
    // Chromium tells of violations of the policy as errors, too.
    page.on("console", (line) => ["error", "warning"].includes(line.type()) && complain(`${path}: ${line.text()} ${line.location().url}`));
    page.on("request", (request) => {
      const to = new URL(request.url());
      if (!["data:", "blob:"].includes(to.protocol) && to.origin !== new URL(gateway).origin) complain(`${path} asks ${to}`);
    });
    await page.goto(gateway + path);
    return page;
  };
  const open = async (path, options = {}) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, timezoneId: "UTC", locale: "en-GB", ...options });
    await context.tracing.start({ screenshots: true, snapshots: true });
    contexts.push(context);
    return watch(context, path);
  };
  open.tab = (page, path) => watch(page.context(), path);
  try {
    await test(open);
    expect(!complaints.length, complaints.join("\n"));
  } catch (error) {
    await keep(name, contexts);
    throw error;
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** What the pages looked like, and how it came to that (`npx playwright-core show-trace FILE`). */
async function keep(name, contexts) {
  mkdirSync(FAILURES, { recursive: true });
  for (const [at, context] of contexts.entries()) {
    for (const [tab, page] of context.pages().entries()) {
      await page.screenshot({ path: join(FAILURES, `${name}-${at}-${tab}.png`), timeout: 5000 }).catch(() => {});
    }
    await context.tracing.stop({ path: join(FAILURES, `${name}-${at}.zip`) }).catch(() => {});
  }
  console.error(`see ${FAILURES}`);
}

/** Whether axe-core finds nothing wrong with `page`, by the rules of WCAG 2.2 AA and what it calls best practice. */
export async function accessible(page, name) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`).join("; ")}`,
  );
  expect(!told.length, `${name}: ${told.join("\n")}`);
}

/** How much of a page may move by itself, of the screen: what Web Vitals call good ("cumulative layout shift"). */
const MOVES = 0.1;

/** Whether `page`, which has just been loaded by its address, has stayed where it was while its parts came. */
export async function steady(page, name) {
  const moves = await page.evaluate(
    () =>
      new Promise((done) => {
        const found = [];
        const named = ({ node }) => node?.outerHTML?.slice(0, 80) ?? node?.textContent.slice(0, 80);
        const watcher = new PerformanceObserver((list) => {
          for (const { value, hadRecentInput, sources } of list.getEntries()) if (!hadRecentInput) found.push([value, sources.map(named)]);
        });
        watcher.observe({ type: "layout-shift", buffered: true });
        // What was seen before is told in the next frames.
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0, found)));
      }),
  );
  const sum = moves.reduce((all, [value]) => all + value, 0);
  expect(sum <= MOVES, `${name}: it moves by ${sum}: ${JSON.stringify(moves)}`);
}

/** Whether nothing of `page` is wider than the window. */
export async function fits(page, name) {
  const [wide, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  expect(wide <= there, `${name}: ${wide} pixels of ${there}`);
}
