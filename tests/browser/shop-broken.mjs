// What the shop looks like while something is not as it should be.

import { expect } from "./browser.mjs";
import { Api, PASSWORD, address, headed, order, signIn, state, take } from "./shopper.mjs";
import { watched } from "./watched.mjs";

/** The product role hangs, comes back and is killed, as process `pid`: the page says so, and what does not need it stays. */
export async function away(gateway, email, password, pid) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "away",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      page.setDefaultTimeout(40_000);
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      const id = await order(page, gateway);
      await page.goto(`${gateway}/shop`);
      await page.locator(".product").first().waitFor();
      process.kill(+pid, "SIGSTOP");
      // What the gateway has cached already may be told as old.
      await page.getByLabel("Search", { exact: true }).fill(`${product.name} never asked`);
      await page.locator(".trouble", { hasText: "The catalogue is away" }).waitFor();
      expect((await page.locator(".product").count()) > 0, "what was there stays");
      process.kill(+pid, "SIGCONT");
      await page.locator(".trouble button").click();
      await page.locator("[role=status]", { hasText: "Nothing fits" }).waitFor();
      process.kill(+pid, "SIGKILL");
      await page.getByRole("link", { name: "Orders" }).click();
      await page.locator(".entry", { hasText: product.name }).getByRole("link").click();
      await state(page, "To be paid");
      expect(page.url().endsWith(id), "the order is there");
      await page.getByRole("link", { name: "Account" }).click();
      await headed(page, "Your account");
      await page.goto(`${gateway}/shop/products/${"0".repeat(24)}`);
      await page.locator(".trouble", { hasText: "The catalogue is away" }).waitFor();
    },
    { allowed: [/50[0-9]/] },
  );
}

/** A slow network: it says that it loads, and a button that is hit twice orders once. */
export async function slow(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched("slow", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    const wire = await page.context().newCDPSession(page);
    await wire.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 400,
      downloadThroughput: 50_000,
      uploadThroughput: 50_000,
    });
    await page.goto(`${gateway}/shop/checkout`, { waitUntil: "commit" });
    await page.getByRole("heading", { name: "Loading …" }).waitFor();
    await headed(page, "Checkout");
    await address(page);
    await page.getByRole("button", { name: "Order", exact: true }).dblclick();
    await headed(page, "Your order");
    await page.getByRole("button", { name: "Pay now" }).dblclick();
    await state(page, "Paid");
    const orders = (await (await new Api(gateway).as(customer.email, PASSWORD)).ask("GET", "/orders?limit=100")).filter(
      ({ userId }) => userId === customer.id,
    );
    expect(orders.length === 1, `${orders.length} orders`);
  });
}

/** A page whose texts do not come says so, rather than nothing. */
export async function speechless(gateway) {
  await watched(
    "speechless",
    gateway,
    async (open) => {
      const page = await open("/shop/nowhere");
      await headed(page, "There is no such page");
      for (const broken of [(route) => route.abort(), (route) => route.fulfill({ contentType: "application/json", body: '{"common":{' })]) {
        await page.route("**/languages/*.json", broken);
        await page.reload();
        await headed(page, "The shop does not answer. Load this page again.");
      }
    },
    { allowed: [/ERR_FAILED/] },
  );
}

/** A page whose script does not come offers to be loaded again, whatever language that is in. */
export async function scriptless(gateway) {
  await watched(
    "scriptless",
    gateway,
    async (open) => {
      const page = await open("/shop/nowhere");
      await headed(page, "There is no such page");
      await page.route("**/shop/main.js", (route) => route.abort());
      await page.reload();
      const again = page.getByRole("link", { name: "Load this page again" });
      expect(!(await again.isVisible()), "at first it loads");
      await again.waitFor();
      await page.unroute("**/shop/main.js");
      await again.click();
      await headed(page, "There is no such page");
    },
    { allowed: [/ERR_FAILED/] },
  );
}

/** Offline: the page says so, keeps what it has and the cart, and goes on when the network is back. */
export async function offline(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  await watched(
    "offline",
    gateway,
    async (open) => {
      const page = await open(`/shop/products/${product.id}`);
      await headed(page, product.name);
      await page.goto(`${gateway}/shop`);
      await page.locator(".product").first().waitFor();
      await page.context().setOffline(true);
      await page.getByText("You are offline. What you see may be old.").waitFor();
      await page.locator(".product button").first().click();
      await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
      await page.getByLabel("Search", { exact: true }).fill(product.name);
      await page.locator(".trouble", { hasText: "You are offline." }).waitFor();
      await page.context().setOffline(false);
      await page.locator(".trouble button").click();
      await page.locator(".product", { hasText: product.name }).waitFor();
      expect(await page.locator("#offline").isHidden(), "the bar is gone");
      // A page that was never loaded, either.
      await page.context().setOffline(true);
      await page.getByRole("link", { name: "Cart, 1 piece" }).click();
      await page.locator(".trouble", { hasText: "You are offline." }).waitFor();
      await page.context().setOffline(false);
      await page.locator(".trouble button").click();
      await headed(page, "Your cart");
    },
    { allowed: [/ERR_INTERNET_DISCONNECTED/, /dynamically imported/] },
  );
}

/** The stream of events breaks off: the page says that it is not live, and catches up. What cannot be paid any more is said. */
export async function live(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "live",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      await page.route("**/events", (route) => route.abort());
      const id = await order(page, gateway);
      await page.locator(".live", { hasText: "Live updates are away." }).waitFor();
      await admin.ask("POST", `/orders/${id}/cancel`);
      await state(page, "To be paid");
      await page.getByRole("button", { name: "Pay now" }).click();
      await state(page, "Cancelled");
      expect(await page.evaluate(() => document.activeElement !== document.body), "the focus is not lost");
      await take(page, gateway, product);
      const second = await order(page, gateway);
      await page.locator(".live", { hasText: "Live updates are away." }).waitFor();
      await admin.ask("POST", `/orders/${second}/cancel`);
      await page.unroute("**/events");
      await state(page, "Cancelled");
      await page.locator(".live", { hasText: "Live updates are back." }).waitFor();
    },
    { allowed: [/ERR_FAILED/, /409/] },
  );
}

/** A page that nobody looks at leaves its stream, and catches up when somebody does. */
export async function hidden(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched("hidden", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    const look = (hidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    const id = await order(page, gateway);
    await page.locator(".live[data-live=yes]").waitFor({ state: "attached" });
    const left = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/events"));
    await look(true);
    await left;
    await admin.ask("POST", `/orders/${id}/cancel`);
    await state(page, "To be paid");
    await look(false);
    await state(page, "Cancelled");
    expect(await page.locator(".live").isHidden(), "nothing was away");
  });
}

/** A browser whose clock is wrong has the shop's time to pay. A dialog goes with its page. */
export async function skewed(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("skewed", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await page.clock.install({ time: Date.now() + 3_600_000 });
    await page.reload();
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    await order(page, gateway);
    await page.getByText(/It is kept for you for 1[45]:\d\d minutes\./).waitFor();
    await page.getByRole("button", { name: "Cancel the order" }).click();
    await page.getByRole("dialog").waitFor();
    await page.goBack();
    await headed(page, product.name);
    await page.getByRole("dialog").waitFor({ state: "detached" });
  });
}

/** The time to pay runs out while the page is open. */
export async function late(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("late", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await page.clock.install();
    await page.reload();
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    await order(page, gateway);
    await page.getByText(/It is kept for you for 1[45]:\d\d minutes\./).waitFor();
    await page.clock.fastForward("14:10");
    await page.locator("#toast", { hasText: "One minute is left to pay." }).waitFor();
    await page.clock.fastForward("01:00");
    await page.getByText("The time to pay is over.").waitFor();
  });
}
