// Answers that are lost, and those that say no.

import { expect } from "./browser.mjs";
import { Api, PASSWORD, address, headed, signIn, take, unique } from "./shopper.mjs";
import { watched } from "./watched.mjs";

/** The answer to an order is lost: the next try gets the same order. */
export async function lost(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "lost",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      await page.route("**/orders", async (route) => {
        if (route.request().method() !== "POST") return route.continue();
        await route.fetch();
        await route.abort();
      });
      await page.goto(`${gateway}/shop/checkout`);
      await headed(page, "Checkout");
      await address(page);
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await page.locator(".trouble", { hasText: "The shop does not answer." }).waitFor();
      await page.unroute("**/orders");
      // What is changed after that makes no second order either.
      await page.reload();
      await headed(page, "Checkout");
      await page.locator("[name='shipTo.city']").fill("Nebuchadnezzar");
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await headed(page, "Your order");
      await page.locator("#toast", { hasText: "Your earlier order had arrived after all" }).waitFor();
      await page.getByRole("main").getByText("Zion").waitFor();
      const orders = (await (await new Api(gateway).as(customer.email, PASSWORD)).ask("GET", "/orders?limit=100")).filter(
        ({ userId }) => userId === customer.id,
      );
      expect(orders.length === 1, `${orders.length} orders`);
    },
    { allowed: [/ERR_FAILED/, /422/] },
  );
}

/** An order never arrives, and the customer corrects it: what is ordered then is what stands there, once. */
export async function unsent(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched(
    "unsent",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      const refuse = [(route) => route.abort(), (route) => route.fulfill({ status: 503, json: { status: 503 } })];
      await page.route("**/orders", (route) => {
        const isOrder = route.request().method() === "POST" && refuse.length;
        return isOrder ? refuse.shift()(route) : route.continue();
      });
      await page.goto(`${gateway}/shop/checkout`);
      await headed(page, "Checkout");
      await address(page);
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await page.locator(".trouble", { hasText: "The shop does not answer." }).waitFor();
      await page.locator("[name='shipTo.city']").fill("Nebuchadnezzar");
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await page.locator(".trouble", { hasText: "Orders are away" }).waitFor();
      await page.locator("[name='shipTo.city']").fill("Mobil Ave");
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await headed(page, "Your order");
      await page.getByRole("main").getByText("Mobil Ave").waitFor();
      const orders = await (await new Api(gateway).as(customer.email, PASSWORD)).ask("GET", "/orders?limit=100");
      expect(orders.length === 1, `${orders.length} orders`);
    },
    { allowed: [/ERR_FAILED/, /503/] },
  );
}

/** Too many requests: the page counts down, and goes on by itself. */
export async function limited(gateway, email, password) {
  await (await new Api(gateway).as(email, password)).product();
  await watched(
    "limited",
    gateway,
    async (open) => {
      const page = await open("/shop/nowhere");
      await headed(page, "There is no such page");
      let asked = 0;
      await page.route("**/products?*", (route) => {
        if (asked++) return route.continue();
        return route.fulfill({
          status: 429,
          headers: { "retry-after": "5" },
          json: { type: "/problems/too-many-requests", title: "Too many requests", status: 429 },
        });
      });
      await page.getByRole("link", { name: "To the products" }).click();
      await page.locator(".trouble", { hasText: "Too many requests" }).waitFor();
      await page.locator(".trouble", { hasText: /Trying again in [1-5] seconds? …/ }).waitFor();
      expect((await page.locator("[role=alert]", { hasText: "Trying" }).count()) === 0, "nobody hears each second");
      await page.locator(".product").first().waitFor();
      expect(asked === 2, `${asked} requests`);
      expect((await page.locator(".trouble").count()) === 0, "the trouble is over");
    },
    { allowed: [/429/] },
  );
}

/** What the shop says of a field is said in the page's language where it can be, and an account whose sign-in fails is there. */
export async function refused(gateway, admin, secret) {
  await (await new Api(gateway).as(admin, secret)).product();
  await watched(
    "refused",
    gateway,
    async (open) => {
      const page = await open("/shop/register", { locale: "de" });
      await headed(page, "Neues Konto");
      const fill = async (texts) => {
        for (const [name, text] of Object.entries(texts)) await page.locator(`[name=${name}]`).fill(text);
        await page.locator("[type=submit]").click();
      };
      const email = `${unique("r").replace(" ", "")}@example.com`;
      await fill({ username: "  ", email, password: "aaaaaaaaaaaaaaaa" });
      await page.locator("[data-field=username] .error", { hasText: "wird gebraucht" }).waitFor();
      await fill({ username: "Niobe" });
      await page.locator("[data-field=password] .error", { hasText: "zu leicht zu erraten" }).waitFor();
      await page.route("**/auth/session", (route) => route.fulfill({ status: 503, json: { status: 503 } }));
      await fill({ password: PASSWORD });
      await page.locator(".trouble", { hasText: "Ihr Konto ist da" }).getByRole("link").click();
      await headed(page, "Anmelden");
      await page.unroute("**/auth/session");
      const other = { type: "/problems/forbidden", status: 403, detail: "the request is from a page of another origin" };
      await page.route("**/auth/session", (route) => route.fulfill({ status: 403, json: other }));
      await fill({ email, password: PASSWORD });
      await page.locator(".trouble", { hasText: "Das dürfen Sie nicht." }).waitFor();
      await page.unroute("**/auth/session");
      await fill({ email, password: PASSWORD });
      await page.locator(".product").first().waitFor();
    },
    { allowed: [/422/, /503/, /403/] },
  );
}
