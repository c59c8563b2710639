// Webhooks: made with a secret that is shown once, tested, given another secret, and deleted.

import { expect, headed, press, said, signIn, signedIn, withPages } from "./support.mjs";

export async function webhooks(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const address = `https://hooks-${Date.now()}.invalid/in`;
  await withPages("webhooks", gateway, async (open) => {
    const page = await open("/admin/webhooks");
    await signIn(page, email, password);
    await headed(page, "Webhooks");
    await page.locator("main [name=url]").fill("https://127.0.0.1/in");
    await press(page.locator("main form"), "Add the webhook");
    await page.locator("[data-field=url] .error", { hasText: /.+/ }).waitFor();
    await page.locator("main [name=url]").fill(` ${address} `);
    await page.locator("main [name=description]").fill("the warehouse");
    await page.getByRole("checkbox", { name: "shop.order.paid" }).check();
    await press(page.locator("main form"), "Add the webhook");
    const first = await secretOf(page);
    await copies(page, first);
    const { id, events } = (await api("GET", "/webhooks")).data.find(({ url }) => url === address);
    expect(events.join() === "shop.order.paid", `events ${events}`);
    await page.getByRole("link", { name: "Open the webhook" }).click();
    await headed(page, "Webhook");
    expect(!(await page.content()).includes(first), "the secret is not shown again");
    await press(page.locator("main"), "Send a test");
    await page.locator("main [data-kind=test]", { hasText: "The test has not arrived." }).waitFor();
    expect((await page.locator("main [data-kind=test]").innerText()).split("\n").length > 1, "the reason is said");
    await press(page.locator("main"), "New secret");
    await press(page.locator("dialog"), "New secret");
    await page.locator("dialog").waitFor({ state: "detached" });
    const second = await secretOf(page);
    expect(second !== first, "it is another one");
    await stays(page, second);
    await arrives(page, gateway, id);
    await deliveries(page);
    await press(page.locator("main"), "Delete the webhook");
    await press(page.locator("dialog"), "Delete the webhook");
    await headed(page, "Webhooks");
    expect((await api("GET", `/webhooks/${id}`)).status === 404, "it is deleted");
  });
}

/** A secret that is shown once stays while other buttons are used. */
async function stays(page, secret) {
  await press(page.locator("main"), "Send a test");
  await page.locator("main [data-kind=test]").waitFor();
  await press(page.locator("main"), "New secret");
  await press(page.locator("dialog"), "Cancel");
  expect((await secretOf(page)) === secret, "it is there still");
}

async function secretOf(page) {
  const shown = page.getByRole("textbox", { name: "Secret" });
  await shown.waitFor();
  const text = await shown.inputValue();
  expect(text.startsWith("whsec_"), text);
  return text;
}

/** Where the browser gives no clipboard, the secret is selected; where it does, it is copied. */
async function copies(page, secret) {
  await page.evaluate(() =>
    Object.defineProperty(navigator, "clipboard", { configurable: true, value: { writeText: () => Promise.reject(new Error("no")) } }),
  );
  await press(page.locator("main"), "Copy");
  await said(page, "The secret is selected");
  const selected = await page.evaluate(() =>
    document.activeElement.value.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd),
  );
  expect(selected === secret, `selected is ${selected}`);
  await page.evaluate(() =>
    Object.defineProperty(navigator, "clipboard", { configurable: true, value: { writeText: async (text) => (window.clip = text) } }),
  );
  await press(page.locator("main"), "Copy");
  await said(page, "The secret is copied.");
  expect((await page.evaluate(() => window.clip)) === secret, "it is what was copied");
}

/** A webhook that was disabled is enabled, and a test arrives: nobody in a test has a public address, so the answers are made here. */
async function arrives(page, gateway, id) {
  const answer = { id, url: "https://hooks.example/in", enabled: false, createdAt: "2026-01-01T00:00:00Z" };
  await page.route(`**/webhooks/${id}`, (route) =>
    route.request().resourceType() === "document" ? route.continue() : route.fulfill({ json: answer }),
  );
  await page.route(`**/webhooks/${id}/enable`, (route) => route.fulfill({ json: { ...answer, enabled: true } }));
  await page.route(`**/webhooks/${id}/test`, (route) => route.fulfill({ json: { delivered: true, httpStatus: 204 } }));
  await page.goto(`${gateway}/admin/webhooks/${id}`);
  await page.locator("main dd", { hasText: "disabled" }).waitFor();
  await press(page.locator("main"), "Enable");
  await page.locator("main dd", { hasText: "sends" }).waitFor();
  expect(await page.evaluate(() => document.activeElement.dataset.act === "test"), "the focus is at the next button");
  await press(page.locator("main"), "Send a test");
  await page.locator("main [role=status]", { hasText: "The test has arrived. Answer: 204" }).waitFor();
  for (const path of ["", "/enable", "/test"]) await page.unroute(`**/webhooks/${id}${path}`);
}

/** The last deliveries, with why they failed, and a webhook that was disabled. */
async function deliveries(page) {
  const all = [
    {
      eventId: "1",
      type: "shop.order.paid",
      subject: "01a2",
      status: "failed",
      attempts: 9,
      httpStatus: 500,
      error: "no luck",
      createdAt: "2026-01-01T00:00:00Z",
      finishedAt: "2026-01-01T00:00:00Z",
    },
  ];
  await page.route("**/deliveries", (route) => route.fulfill({ json: all }));
  // The list may be drawn anew meanwhile, after the test.
  await page.locator("main").getByRole("button", { name: "Refresh", exact: true }).press("Enter");
  const row = page.locator("main tbody tr", { hasText: "no luck" });
  await row.waitFor();
  for (const part of ["failed", "9", "500 no luck"]) expect((await row.innerText()).includes(part), `${part} in ${await row.innerText()}`);
  await page.unroute("**/deliveries");
}
