// Takes the pictures of the storefront and the administration, with what `app demo` shows: `node demo-pictures.mjs PROGRAM FOLDER`.

import { join } from "node:path";
import { withBrowser } from "./browser.mjs";
import { startDemo } from "./demo.mjs";

const [program, folder] = process.argv.slice(2);
// Charts draw themselves, but not for those who do not want things to move.
const VIEW = { viewport: { width: 1280, height: 800 }, locale: "en-GB", reducedMotion: "reduce" };

const { demo, shop, admin: account } = await startDemo(program);
try {
  await withBrowser(async (open) => {
    const page = await open(`${shop}/shop?sort=name`, VIEW);
    await page.locator("main:not([aria-busy]) img").first().waitFor();
    await page.waitForLoadState("networkidle");
    await page.screenshot({ path: join(folder, "shop.png") });
    const admin = await open(`${shop}/admin`, VIEW);
    await admin.locator("input[name=email]").fill(account.email);
    await admin.locator("input[name=password]").fill(account.password);
    await admin.keyboard.press("Enter");
    await admin.locator("main svg").first().waitFor();
    await admin.waitForLoadState("domcontentloaded");
    await admin.screenshot({ path: join(folder, "admin.png") });
  });
} finally {
  demo.kill("SIGTERM");
}
