// Who may see the administration, and a session that ends.

import { customer, expect, headed, held, orderOf, press, productOf, said, signIn, signedIn, withPages, PASSWORD } from "./support.mjs";

/** A guest signs in where she is; a customer is told that this is not for her; a wrong password is said; so is a role that is gone. */
export async function stranger(gateway, email, password) {
  const one = await customer(gateway);
  await withPages("stranger", gateway, async (open) => {
    const page = await open("/admin/orders?status=paid");
    await headed(page, "Sign in");
    expect(!(await page.locator("header nav").isVisible()), "a guest sees no navigation");
    await signIn(page, one.email, "not the password");
    await page.locator("main .error", { hasText: "The e-mail address or the password is wrong." }).waitFor();
    await signIn(page, one.email, PASSWORD);
    await headed(page, "This is for admins");
    expect((await page.locator("main").innerText()).includes("Niobe"), "it says who is signed in");
    expect(!(await page.locator("header nav").isVisible()), "a customer sees no navigation");
    expect(
      (await page.getByRole("link", { name: "The shop" }).first().getAttribute("href")).endsWith("/shop"),
      "there is a way to the shop",
    );
    await press(page.locator("main"), "Sign in as somebody else");
    await headed(page, "Sign in");
    await signIn(page, email, password);
    await headed(page, "Orders");
    expect(page.url().endsWith("/admin/orders?status=paid"), "it is the page that was asked for");
    await press(page.locator("header"), "Sign out");
    await headed(page, "Sign in");
    await page.reload();
    await headed(page, "Sign in");
  });
  await demoted(gateway, email, password);
}

/** An admin who is none any more is told so. */
async function demoted(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const one = await customer(gateway, "Cypher");
  const roles = (...names) => api("PATCH", `/auth/users/${one.id}`, { roles: names });
  await roles("admin", "customer");
  await withPages("demoted", gateway, async (open) => {
    const page = await open("/admin/orders");
    await signIn(page, one.email, PASSWORD);
    await headed(page, "Orders");
    await roles("customer");
    await page.getByRole("link", { name: "Users" }).click();
    await page.locator("main .trouble", { hasText: "You may not do this." }).waitFor();
    await press(page.locator("main"), "Try again");
    await headed(page, "This is for admins");
  });
}

/** Ends the sessions of an account. Roles in other processes learn of it within `auth.refresh_interval`. */
async function endSessions(api, id) {
  await api("DELETE", `/auth/users/${id}/sessions`);
  for (const path of ["/orders", "/products/export"]) {
    while ((await api("GET", path)).status !== 401) await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The session is ended elsewhere while a product is edited: nothing typed is lost. */
export async function ended(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const me = (await api("GET", "/auth/me")).data;
  const product = await productOf(api, { name: "Table" });
  const order = await orderOf((await customer(gateway)).api, product, 1);
  await withPages("ended", gateway, async (open) => {
    const page = await open(`/admin/products/${product.id}`);
    await signIn(page, email, password);
    await headed(page, "Table");
    await page.locator("main [name=description]").fill("Typed before the end.");
    await endSessions(api, me.id);
    await press(page.locator("main form.product"), "Save");
    await page.locator("dialog", { hasText: "Your session has ended" }).waitFor();
    await signIn(page, email, "not the password");
    await page.locator("dialog .error", { hasText: "wrong" }).waitFor();
    await signIn(page, email, password);
    await said(page, "You are signed in again.");
    expect((await page.locator("main [name=description]").inputValue()) === "Typed before the end.", "it is still there");
    await press(page.locator("main form.product"), "Save");
    await said(page, "Table is saved.");
    const again = await signedIn(gateway, email, password);
    expect((await again("GET", `/products/${product.id}`)).data.description === "Typed before the end.", "it is stored");
    await endSessions(again, me.id);
    await page.getByRole("link", { name: "Orders" }).click();
    await headed(page, "Sign in");
    await signIn(page, email, password);
    await headed(page, "Orders");
    await moves(page, gateway, { ...order, admin: { email, password, id: me.id } });
  });
}

/** Another account signs in in another tab: what was typed stays, and is saved by an admin alone. */
export async function others(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const product = await productOf(api, { name: "Bench" });
  const one = await customer(gateway, "Mouse");
  const two = await customer(gateway, "Tank");
  await api("PATCH", `/auth/users/${two.id}`, { roles: ["admin", "customer"] });
  await withPages("others", gateway, async (open) => {
    const page = await open(`/admin/products/${product.id}`);
    await signIn(page, email, password);
    await headed(page, "Bench");
    const tab = await open.tab(page, "/admin/");
    await headed(tab, "Overview");
    await page.locator("main [name=description]").fill("Typed by Trinity.");
    await arrives(tab, one.email);
    await page.locator("dialog", { hasText: "You are signed in as Mouse, who is no admin of this shop." }).waitFor();
    await signIn(page, one.email, PASSWORD);
    await page.waitForFunction(() => document.querySelector("dialog [name=email]")?.value === "");
    await signIn(page, email, password);
    await page.locator("dialog").waitFor({ state: "detached" });
    await arrives(tab, two.email);
    await said(page, "You are signed in as Tank now.");
    expect((await page.locator("header").innerText()).includes("Tank"), "the page says who it is");
    await press(page.locator("main form.product"), "Save");
    await said(page, "Bench is saved.");
    await press(tab.locator("header"), "Sign out");
    await page.locator("dialog", { hasText: "Your session has ended" }).waitFor();
    await press(page.locator("dialog"), "Leave without saving");
    await headed(page, "Sign in");
    await signIn(page, email, password);
    await headed(page, "Bench");
    await page.getByRole("link", { name: "Back to the products" }).click();
    await headed(page, "Products");
    const begin = () => page.getByRole("link", { name: "New product" }).click();
    await held(page, "**/categories", "GET", begin, async () => {
      await press(tab.locator("header"), "Sign out");
      await headed(page, "Sign in");
    });
  });
  await api("PATCH", `/auth/users/${two.id}`, { roles: ["customer"] });
}

/** Signs in as another account in a page that is there, as the shop's pages in another tab do. */
const arrives = (page, email) =>
  page.evaluate(
    async ([email, password]) => {
      const { signIn } = await import(new URL("../common/session.js", document.querySelector("script[type=module]").src));
      await signIn(email, password);
    },
    [email, PASSWORD],
  );

/** A button whose answer was 401 does it when it is pressed again, and the page is live as before. */
async function moves(page, gateway, { id: order, admin }) {
  const { email, password, id } = admin;
  await page.goto(`${gateway}/admin/orders/${order}`);
  await page.locator(".live[data-live=true]").waitFor();
  await endSessions(await signedIn(gateway, email, password), id);
  // The stream of events may have seen the end first: then the dialog is above the button already.
  await page.getByRole("button", { name: "Mark as fulfilled", includeHidden: true }).evaluate((button) => button.click());
  await page.locator("dialog", { hasText: "Your session has ended" }).waitFor();
  await signIn(page, email, password);
  await said(page, "You are signed in again.");
  await page.locator(".live[data-live=true]").waitFor();
  await press(page.locator("main"), "Mark as fulfilled");
  await page.locator("main .badge", { hasText: "fulfilled" }).waitFor();
}
