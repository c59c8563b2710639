// Tabs of one browser that do not agree at once: other accounts, late answers, and what a browser does not keep.

import { expect } from "./browser.mjs";
import { Api, PASSWORD, address, headed, patient, signIn, take } from "./shopper.mjs";
import { watched } from "./watched.mjs";

/** Another customer signs in in another tab: what the first tab shows and orders is that customer's from then on. */
export async function another(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const [morpheus, niobe] = [await new Api(gateway).customer("Morpheus"), await new Api(gateway).customer("Niobe")];
  await watched("another", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, morpheus.email);
    await page.locator(".product").first().waitFor();
    await take(page, gateway, product);
    await page.goto(`${gateway}/shop/account`);
    await headed(page, "Your account");
    const second = await open.tab(page, "/shop/sign-in");
    await signIn(second, niobe.email);
    await second.locator(".product").first().waitFor();
    await page.waitForFunction((name) => document.querySelector("[name=username]")?.value === name, "Niobe");
    await page.locator("#toast", { hasText: "Another account is signed in" }).waitFor();
    await page.getByRole("link", { name: "Cart", exact: true }).waitFor();
    await take(page, gateway, product);
    await page.goto(`${gateway}/shop/checkout`);
    await headed(page, "Checkout");
    await second.goto(`${gateway}/shop/sign-in`);
    await signIn(second, morpheus.email);
    await page.waitForFunction((name) => document.querySelector("[name='contact.name']")?.value === name, "Morpheus");
    await page.getByRole("link", { name: "Cart, 1 piece" }).waitFor();
    // The one signs out before the other signs in: what was typed at the checkout is gone.
    await second.goto(`${gateway}/shop/account`);
    await second.getByRole("main").getByRole("button", { name: "Sign out", exact: true }).click();
    await headed(page, "Sign in");
    await second.goto(`${gateway}/shop/sign-in`);
    await signIn(second, niobe.email);
    await second.locator(".product").first().waitFor();
    await page.goto(`${gateway}/shop/checkout`);
    await page.waitForFunction((name) => document.querySelector("[name='contact.name']")?.value === name, "Niobe");
  });
}

/** A tab does not hear that another customer has signed in: what it was to change of the first is not changed of the other. */
export async function unheard(gateway, email, password) {
  await (await new Api(gateway).as(email, password)).product();
  const [morpheus, niobe] = [await new Api(gateway).customer("Morpheus"), await new Api(gateway).customer("Niobe")];
  await watched("unheard", gateway, async (open) => {
    const page = await open("/shop/sign-in?next=/account");
    // Its tokens are to be renewed before each request.
    await page.route(/auth\/session/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), expiresIn: 0 } });
    });
    await signIn(page, morpheus.email);
    await headed(page, "Your account");
    const second = await open.tab(page, "/shop/nowhere");
    await second.addInitScript(() => (BroadcastChannel.prototype.postMessage = () => {}));
    await second.goto(`${gateway}/shop/sign-in`);
    await signIn(second, niobe.email);
    await second.locator(".product").first().waitFor();
    await page.locator("[name=username]").fill("Cypher");
    await page.getByRole("button", { name: "Save" }).click();
    await page.locator("#toast", { hasText: "Another account is signed in" }).waitFor();
    await page.waitForFunction((name) => document.querySelector("[name=username]")?.value === name, "Niobe");
    for (const { email, username } of [morpheus, niobe]) {
      const told = await (await new Api(gateway).as(email, PASSWORD)).ask("GET", "/auth/me");
      expect(told.username === username, `${username} is ${told.username}`);
    }
  });
}

/** Somebody signs out while the session is being renewed: the late answer does not sign anybody in. */
export async function renewal(gateway, email, password) {
  await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("renewal", gateway, async (open) => {
    const page = await open("/shop/sign-in");
    await signIn(page, customer.email);
    await page.locator(".product").first().waitFor();
    const second = await open.tab(page, "/shop/nowhere");
    let [release, isAsked] = [null, null];
    const asked = new Promise((resolve) => (isAsked = resolve));
    await second.route("**/auth/session/renew", async (route) => {
      const answer = await route.fetch();
      isAsked();
      await new Promise((resolve) => (release = resolve));
      await route.fulfill({ response: answer });
    });
    await second.waitForFunction(() => localStorage.getItem("/shop.signed-in"));
    await second.getByRole("link", { name: "Account" }).click();
    await asked;
    await page.getByRole("link", { name: "Account" }).click();
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    release();
    await page.locator("#toast", { hasText: "You are signed out." }).waitFor();
    await headed(second, "Sign in");
    expect(await second.locator("#ended").isHidden(), "no session has ended elsewhere");
    await page.reload();
    await page.getByRole("link", { name: "Account" }).click();
    await headed(page, "Sign in");
  });
}

/** A browser that does not keep the cookie, as of a shop without TLS: a second tab has the session of the first, and one that
 *  cannot renew it ends no other. */
export async function plain(gateway) {
  const customer = await new Api(gateway).customer();
  await watched(
    "plain",
    gateway,
    async (open) => {
      const page = await open("/shop/nowhere");
      await page.context().addInitScript(() => Object.defineProperty(globalThis, "isSecureContext", { value: false }));
      await page.context().addInitScript(() => Object.defineProperty(navigator, "locks", { value: undefined }));
      await page.context().addInitScript(patient);
      await page.context().route("**/auth/session/renew", (route) =>
        route.fulfill({ status: 401, json: { type: "/problems/unauthorized", title: "Authentication required", status: 401 } }),
      );
      await page.goto(`${gateway}/shop/sign-in?next=/account`);
      await signIn(page, customer.email);
      await headed(page, "Your account");
      const second = await open.tab(page, "/shop/account");
      await headed(second, "Your account");
      // A tab that the others do not hear has no session; theirs goes on.
      await second.addInitScript(() => (globalThis.BroadcastChannel.prototype.addEventListener = () => {}));
      await second.addInitScript(() => Object.defineProperty(BroadcastChannel.prototype, "onmessage", { set() {} }));
      // What it removes the first tab, whose session it is not, puts back at once.
      await second.addInitScript(() => (Storage.prototype.removeItem = () => {}));
      await second.reload();
      await headed(second, "Sign in");
      await page.getByRole("link", { name: "Your orders" }).click();
      await headed(page, "Your orders");
    },
    { allowed: [/401/] },
  );
}

/** A browser that keeps nothing of a page, because somebody has forbidden it: one can shop until the page is closed. */
export async function blocked(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  const customer = await new Api(gateway).customer();
  await watched("blocked", gateway, async (open) => {
    const page = await open("/shop/nowhere");
    await page.context().addInitScript(() => {
      const refuse = { get: () => { throw new DOMException("no", "SecurityError"); } };
      for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(globalThis, name, refuse);
      navigator.locks.request = async () => refuse.get();
    });
    await take(page, gateway, product);
    await page.getByRole("link", { name: "Cart, 1 piece" }).click();
    await page.getByRole("link", { name: "To the checkout" }).click();
    await signIn(page, customer.email);
    await headed(page, "Checkout");
    await address(page);
    await page.getByRole("button", { name: "Order", exact: true }).click();
    await headed(page, "Your order");
    await page.getByRole("link", { name: "Cart", exact: true }).waitFor();
  });
}
