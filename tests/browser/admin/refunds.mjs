// An order goes its way, and its pieces come back.

import { customer, expect, focused, headed, orderOf, press, productOf, said, signIn, signedIn, withPages } from "./support.mjs";

export async function refunds(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const buyer = await customer(gateway);
  const product = await productOf(api, { name: "Kettle", price: 20, stock: 5 });
  const stock = async () => (await api("GET", `/products/${product.id}/stock`)).data;
  const order = await orderOf(buyer.api, product, 2, { shipTo: { city: "Zion" }, contact: "+1 555" });
  await withPages("refunds", gateway, async (open) => {
    const page = await open("/admin/orders?status=paid");
    await signIn(page, email, password);
    await headed(page, "Orders");
    await page.locator("tbody tr", { hasText: "Kettle" }).first().getByRole("link").click();
    await headed(page, "Order");
    expect(new URL(page.url()).pathname.endsWith(order.id), "the newest is the first");
    await page.locator("#customer", { hasText: buyer.email }).waitFor();
    const text = await page.locator("main").innerText();
    for (const part of ["Kettle", "€40.00", "Zion", "+1 555", "Niobe", buyer.email]) expect(text.includes(part), `${part} is in ${text}`);
    await press(page.locator("main"), "Mark as fulfilled");
    await said(page, "The order is fulfilled.");
    // The page asks for the order before it shows the state.
    await focused(page, "main .state");
    expect((await stock()).onHand === 3, "two were sold");
    await press(page.locator("main"), "Refund");
    await press(page.locator("dialog"), "Refund");
    await said(page, "The money is refunded.");
    await page.locator("main .badge", { hasText: "refunded" }).waitFor();
    expect((await stock()).onHand === 5, "they are back");
    await withoutRestock(page, gateway, await orderOf(buyer.api, product, 1), stock);
    await meanwhile(page, gateway, api, await orderOf(buyer.api, product, 1, { isPaid: false }));
    await provider(page, gateway, await orderOf(buyer.api, product, 1));
    await live(page, gateway, buyer, await productOf(api, { stock: 5 }), api);
    await counts(page);
  });
}

/** Without the box, the pieces stay gone. */
async function withoutRestock(page, gateway, order, stock) {
  await page.goto(`${gateway}/admin/orders/${order.id}`);
  await press(page.locator("main"), "Refund");
  await page.locator("dialog").getByRole("checkbox").uncheck();
  await press(page.locator("dialog"), "Refund");
  await page.locator("main .badge", { hasText: "refunded" }).waitFor();
  expect((await stock()).onHand === 4, "it is not put back");
}

/** Somebody else cancels the order first, and the page has not heard of it: that is said, and shown. */
async function meanwhile(page, gateway, api, order) {
  await page.route("**/events", (route) => route.fulfill({ status: 503 }));
  await page.goto(`${gateway}/admin/orders/${order.id}`);
  await page.locator("main .badge", { hasText: "placed" }).waitFor();
  await page.locator(".live", { hasText: "Not live" }).waitFor();
  await api("POST", `/orders/${order.id}/cancel`);
  await press(page.locator("main"), "Cancel the order");
  await press(page.locator("dialog"), "Cancel the order");
  await page.locator("main .badge", { hasText: "cancelled" }).waitFor();
  await page.locator("main", { hasText: "Nothing is left to do with this order." }).waitFor();
  await page.locator("main .trouble", { hasText: "This order has changed meanwhile." }).waitFor();
  await page.unroute("**/events");
}

/** What others do shows by itself: in the list, on the page of the order, and in the overview. */
async function live(page, gateway, buyer, product, api) {
  await late(page, gateway, buyer, product);
  const order = await orderOf(buyer.api, product, 1, { isPaid: false });
  await press(page.locator("main p", { hasText: "1 order has changed or is new." }), "Show them");
  await page.locator("main p", { hasText: "1 order has changed or is new." }).waitFor({ state: "detached" });
  expect(await page.evaluate(() => document.activeElement.matches("h1")), "the focus is at the heading of the list");
  const row = page.locator("tbody tr", { has: page.locator(`[data-order="${order.id}"]`) });
  await row.locator(".badge", { hasText: "placed" }).waitFor();
  await page.locator(".live[data-live=true]").waitFor();
  await buyer.api("POST", `/orders/${order.id}/pay`, { paymentMethod: "ok" });
  await row.locator(".badge", { hasText: "paid" }).waitFor();
  await row.getByRole("link").click();
  await page.locator(".live[data-live=true]").waitFor();
  await page.locator("main").getByRole("button", { name: "Refund" }).focus();
  await api("POST", `/orders/${order.id}/fulfil`);
  await page.locator("main .badge", { hasText: "fulfilled" }).waitFor();
  expect(await page.evaluate(() => document.activeElement.matches("main button")), "the focus is not lost");
  await page.goto(`${gateway}/admin/`);
  await page.locator(".live[data-live=true]").waitFor();
  const paid = page.locator("main tr", { has: page.locator("a[href$='status=paid']") }).locator(".number");
  await page.waitForFunction(() => !document.querySelector('main [aria-busy="true"]'));
  const before = (await paid.count()) ? Number((await paid.innerText()).replace(/\D/g, "")) : 0;
  // The page draws itself anew meanwhile, which a press of a key survives, and one of the mouse may not.
  await page.locator("main summary").first().press("Enter");
  await orderOf(buyer.api, product, 1);
  await paid.filter({ hasText: new RegExp(`^${(before + 1).toLocaleString("en-GB")}$`) }).waitFor();
  expect(
    await page
      .locator("main details")
      .first()
      .evaluate((details) => details.open),
    "what was opened stays open",
  );
}

/** There is no line for half an order, and what has not changed is not drawn anew. */
async function counts(page) {
  const day = new Date().toISOString().slice(0, 10);
  await page.route("**/orders/summary?*", (route) => route.fulfill({ json: [{ day, status: "paid", orders: 5, total: 5 }] }));
  await page.reload();
  // A chart that is drawn anew has no lines until its width is known.
  await page.waitForFunction(() => {
    const lines = document.querySelectorAll("main svg")[1]?.querySelectorAll("text[text-anchor=end]") ?? [];
    return [...lines].map(({ textContent }) => textContent).join() === "0,5";
  });
  await page.evaluate(() => (window.kept = document.querySelectorAll("main svg")[1]));
  await press(page.locator("main"), "Refresh");
  await said(page, "This is how it is now.");
  expect(await page.evaluate(() => window.kept.isConnected), "what is the same stays");
  await page.unroute("**/orders/summary?*");
}

/** What happens before the stream is there shows as soon as it is, and leaves the filter as somebody has set it. */
async function late(page, gateway, buyer, product) {
  let begin;
  const held = new Promise((resolve) => (begin = resolve));
  await page.route("**/events", (route) => held.then(() => route.continue()));
  await page.goto(`${gateway}/admin/orders`);
  await headed(page, "Orders");
  await page.locator("main [name=status]").selectOption("paid");
  const { id } = await orderOf(buyer.api, product, 1, { isPaid: false });
  // Its event is out by then: it does not come while the list is asked for.
  await new Promise((done) => setTimeout(done, 500));
  begin();
  await page.locator(`main [data-order="${id}"]`).waitFor();
  expect((await page.locator("main [name=status]").inputValue()) === "paid", "the filter stays");
  await page.locator(".live[data-live=true]").waitFor();
  await page.unroute("**/events");
}

/** The provider refuses: that is said in the dialog, which can be closed. */
async function provider(page, gateway, order) {
  await page.goto(`${gateway}/admin/orders/${order.id}`);
  await page.route("**/refund", (route) =>
    route.fulfill({
      status: 502,
      contentType: "application/problem+json",
      body: '{"type":"/problems/bad-gateway","status":502,"detail":"the charge is disputed"}',
    }),
  );
  await press(page.locator("main"), "Refund");
  await press(page.locator("dialog"), "Refund");
  await page.locator("dialog .trouble", { hasText: "The payment provider refuses this:" }).waitFor();
  expect((await page.locator("dialog .trouble").innerText()).includes("disputed"), "with its reason");
  await press(page.locator("dialog"), "Cancel");
  await page.locator("main .badge", { hasText: "paid" }).waitFor();
  await page.unroute("**/refund");
}
