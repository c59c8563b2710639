// Dead letters, as the API would tell of them: a shop that works has none, so the answers are made here.

import { expect, headed, press, said, signIn, withPages } from "./support.mjs";

const letter = (at, more = {}) => ({
  id: `user.recent_orders:01a22491-0000-7000-9a00-00000000000${at}`,
  consumer: "user.recent_orders",
  type: "shop.order.paid",
  subject: `order-${at}`,
  createdAt: "2026-01-01T00:00:00Z",
  attempts: 3,
  reason: "data: invalid type",
  redriven: false,
  message: { specversion: "1.0", data: { total: at } },
  ...more,
});

export async function letters(gateway, email, password) {
  await withPages("letters", gateway, async (open) => {
    const page = await open("/admin/");
    const calls = await answer(page);
    await signIn(page, email, password);
    await page.getByRole("link", { name: "2 events or more could not be delivered" }).press("Enter");
    await headed(page, "Dead letters");
    const first = page.locator("main .letters > li").first();
    await first.locator("summary").click();
    expect((await first.locator("pre").innerText()).includes('\n  "data": {'), "the message is laid out");
    await press(first, "Redrive");
    await first.locator(".trouble", { hasText: "Nobody takes events at the moment" }).waitFor();
    await press(first, "Redrive");
    await said(page, "It is given to its consumer again.");
    await first.locator("p", { hasText: "on its way to its consumer again" }).waitFor();
    await press(first, "Drop it");
    await press(page.locator("dialog"), "Cancel");
    expect(!calls.includes("DELETE"), "Cancel drops nothing");
    await press(first, "Drop it");
    await press(page.locator("dialog"), "Drop it");
    await said(page, "It is dropped.");
    expect((await page.locator("main .letters > li").count()) === 1, "the other is there");
    expect(calls.join() === "POST,POST,DELETE", `calls ${calls}`);
    await press(first, "Drop it");
    await press(page.locator("dialog"), "Drop it");
    await page.locator("main .letters > li").nth(1).waitFor();
    expect(!(await page.getByText("There are none.").isVisible()), "the next page of the list is here now");
    await page.getByRole("link", { name: "Next page" }).click();
    await page.locator("main", { hasText: "There are none." }).waitFor();
    await page.getByRole("link", { name: "First page" }).waitFor();
  });
}

/** Answers for the API: two letters, more behind a cursor, and nobody who takes the first redrive. */
async function answer(page) {
  const calls = [];
  await page.route(/\/events\/dead-letters(\?|\/|$)/, (route) => {
    const method = route.request().method();
    const url = new URL(route.request().url());
    if (method === "GET" && url.searchParams.get("cursor")) return route.fulfill({ json: [] });
    if (method === "GET")
      return route.fulfill({
        json: [letter(1), letter(2, { type: undefined, subject: undefined, message: "no event" })],
        headers: { link: '</events/dead-letters?cursor=more>; rel="next"' },
      });
    calls.push(method);
    expect(decodeURIComponent(url.pathname).includes(letter(calls.length < 4 ? 1 : 2).id), url.pathname);
    if (method === "DELETE") return route.fulfill({ status: 204 });
    if (calls.length === 1)
      return route.fulfill({ status: 409, json: { type: "/problems/conflict", status: 409, detail: "nobody takes events" } });
    return route.fulfill({ status: 202, body: "" });
  });
  return calls;
}
