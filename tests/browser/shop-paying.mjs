// Payments and orders that do not go smoothly at once, and the provider's card field.

import { expect } from "./browser.mjs";
import { Api, address, headed, order, signIn, state, take } from "./shopper.mjs";
import { watched } from "./watched.mjs";

/** A declined payment says so and may be tried again. */
export async function declined(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product();
  const customer = await new Api(gateway).customer();
  await watched(
    "declined",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      await order(page, gateway);
      await page.getByLabel("A card that is declined").check();
      await page.getByRole("button", { name: "Pay now" }).click();
      await page.locator(".pay .trouble", { hasText: "The payment was declined" }).waitFor();
      await state(page, "To be paid");
      await page.getByLabel("A card that is accepted").check();
      await page.getByRole("button", { name: "Pay now" }).click();
      await state(page, "Paid");
    },
    { allowed: [/402/] },
  );
}

/** Others are faster: the checkout says what is left, and orders that. */
export async function short(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const product = await admin.product({ stock: 5 });
  const customer = await new Api(gateway).customer();
  await watched(
    "short",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await page.goto(`${gateway}/shop/products/${product.id}`);
      await page.getByRole("spinbutton", { name: "Pieces" }).fill("4");
      await page.getByRole("button", { name: "Add to cart", exact: true }).click();
      await page.getByRole("link", { name: "Cart, 4 pieces" }).click();
      await page.getByRole("link", { name: "To the checkout" }).click();
      await headed(page, "Checkout");
      await address(page);
      await admin.ask("PATCH", `/products/${product.id}/stock`, { onHand: 3 });
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await page.locator(".trouble", { hasText: `${product.name}: 3 pieces are left, you want 4` }).waitFor();
      await page.getByRole("button", { name: "Take what there is" }).click();
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await state(page, "To be paid");
      await page.locator("table", { hasText: "3 ×" }).waitFor();
      await page.getByRole("button", { name: "Cancel the order" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Cancel the order" }).click();
      await state(page, "Cancelled");
    },
    { allowed: [/409/] },
  );
}

/** An address is remembered only if the customer says so, and forgotten when not any more. */
export async function remembers(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("remembers", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    const city = page.locator("[name='shipTo.city']");
    for (const [before, remember] of [
      ["", false],
      ["", true],
      ["Zion", false],
      ["", false],
    ]) {
      await take(page, gateway, product);
      await page.goto(`${gateway}/shop/checkout`);
      await headed(page, "Checkout");
      expect((await city.inputValue()) === before, `the field has ${await city.inputValue()}`);
      await page.getByLabel("Remember this in this browser").setChecked(remember);
      await address(page);
      // What is typed survives a page that is loaded again.
      await page.reload();
      await headed(page, "Checkout");
      expect((await city.inputValue()) === "Zion", "what was typed is there");
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await headed(page, "Your order");
    }
  });
}

/** With Stripe: its script is loaded for the payment alone, the bank asks, and the order is paid. Stripe itself is played. */
export async function stripe(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched(
    "stripe",
    gateway,
    async (open) => {
      const page = await open("/shop/sign-in");
      const scripts = [];
      // The gateway would name these if it had a key.
      await page.route("**/shop/**", async (route) => {
        if (route.request().resourceType() !== "document") return route.continue();
        const answer = await route.fetch();
        const headers = answer.headers();
        headers["content-security-policy"] = headers["content-security-policy"].replace(
          "script-src 'self'",
          "script-src 'self' https://js.stripe.com",
        );
        await route.fulfill({
          response: answer,
          headers,
          body: (await answer.text()).replace('data-stripe=""', 'data-stripe="pk_test_1"'),
        });
      });
      await page.route("https://js.stripe.com/**", (route) => {
        scripts.push(route.request().url());
        return route.fulfill({ contentType: "text/javascript", headers: { "access-control-allow-origin": "*" }, body: STRIPE });
      });
      await page.reload();
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await take(page, gateway, product);
      await order(page, gateway);
      await page.getByText("card field of pk_test_1").waitFor();
      expect(scripts.join() === "https://js.stripe.com/v3/", `${scripts}`);
      let asked = 0;
      await page.route("**/pay", (route) => {
        // The sandbox takes the name of a card that the bank has agreed to.
        if (asked++ > 3) return route.continue({ postData: JSON.stringify({ paymentMethod: "ok" }) });
        if (asked === 4) return route.fulfill({ status: 409, headers: { "retry-after": "1" }, json: { status: 409 } });
        return route.fulfill({ status: 202, json: { clientSecret: `pi_1_secret_${asked}` } });
      });
      // Somebody who gives up may try again; a bank may ask twice; and another tab may be at it.
      await page.getByRole("button", { name: "Pay now" }).click();
      await page.locator(".pay .trouble", { hasText: "The payment was declined." }).waitFor();
      await page.getByRole("button", { name: "Pay now" }).click();
      await state(page, "Paid");
      const told = await page.evaluate(() => globalThis.told);
      expect(told === "card,pi_1_secret_1,pi_1_secret_2,pi_1_secret_3", told);
    },
    { allowed: [/asks https:\/\/js\.stripe\.com\/v3\/$/, /409/] },
  );
}

const STRIPE = `globalThis.told = "";
globalThis.Stripe = (key) => ({
  elements: () => ({ create: (type) => ({ mount: (place) => { told += type; place.textContent = "card field of " + key; } }) }),
  createPaymentMethod: async () => ({ paymentMethod: { id: "pm_1" } }),
  handleNextAction: async ({ clientSecret }) => {
    told += "," + clientSecret;
    const status = clientSecret.endsWith("1") ? "requires_payment_method" : "requires_confirmation";
    return { paymentIntent: { payment_method: null, status } };
  },
});`;
