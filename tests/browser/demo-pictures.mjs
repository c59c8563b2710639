// Takes the pictures of the storefront and the administration, with what `app demo` shows: `node demo-pictures.mjs PROGRAM FOLDER`.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { withBrowser } from "./browser.mjs";

const [program, folder] = process.argv.slice(2);
// Charts draw themselves, but not for those who do not want things to move.
const VIEW = { viewport: { width: 1280, height: 800 }, locale: "en-GB", reducedMotion: "reduce" };

/** Starts the demo, and gives its address and the admin's name and password. */
async function start() {
  const demo = spawn(program, ["demo", "--no-load"], { stdio: ["ignore", "pipe", "inherit"] });
  const told = [];
  for await (const line of createInterface({ input: demo.stdout })) {
    told.push(line);
    if (line.startsWith("Ctrl-C")) break;
  }
  const shop = told.join("\n").match(/http:\S+(?=\/shop)/)[0];
  const [, email, password] = told.find((line) => /admin.*@/.test(line)).match(/(\S+@\S+)\s+password (.+)$/);
  return { demo, shop, email, password };
}

const { demo, shop, email, password } = await start();
try {
  await withBrowser(async (open) => {
    const page = await open(`${shop}/shop?sort=name`, VIEW);
    await page.locator("main:not([aria-busy]) img").first().waitFor();
    await page.waitForLoadState("networkidle");
    await page.screenshot({ path: join(folder, "shop.png") });
    const admin = await open(`${shop}/admin`, VIEW);
    await admin.locator("input[name=email]").fill(email);
    await admin.locator("input[name=password]").fill(password);
    await admin.keyboard.press("Enter");
    await admin.locator("main svg").first().waitFor();
    await admin.waitForLoadState("domcontentloaded");
    await admin.screenshot({ path: join(folder, "admin.png") });
  });
} finally {
  demo.kill("SIGTERM");
}
