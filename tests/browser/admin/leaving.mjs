// Who would leave what was typed is asked, by whatever way; and what belongs to a page goes with it.

import { expect, headed, press, productOf, signIn, signedIn, withPages } from "./support.mjs";

const TYPED = "Typed, and not saved.";

export async function leaving(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const name = `Leaver ${Date.now()}`;
  const product = await productOf(api, { name });
  await withPages("leaving", gateway, async (open) => {
    const page = await open("/admin/orders");
    await signIn(page, email, password);
    await headed(page, "Orders");
    await page.getByRole("link", { name: "Products" }).click();
    await headed(page, "Products");
    await cell(page, product);
    await page.locator("main").getByRole("link", { name }).click();
    await headed(page, name);
    await page.locator("main [name=description]").fill(TYPED);
    await skips(page);
    await asks(page, product, () => page.evaluate(() => history.go(-2)));
    await asks(page, product, () => page.evaluate(() => history.go(-3)));
    await asks(page, product, () => page.getByRole("link", { name: "Orders" }).click());
    await asks(page, product, () => press(page.locator("header"), "Sign out"));
    await pieces(page, name);
    await page.evaluate(() => history.go(-2));
    // It is asked once for both.
    await press(page.locator("dialog"), "Leave without saving");
    await headed(page, "Products");
    await page.evaluate(() => history.back());
    await headed(page, "Orders");
    await page.evaluate(() => history.go(3));
    await headed(page, name);
    expect((await page.locator("main [name=description]").inputValue()) === "", "what was given up is gone");
    await press(page.locator("main"), "Delete the product");
    await page.locator("dialog", { hasText: "for good" }).waitFor();
    await page.evaluate(() => history.go(-2));
    await headed(page, "Products");
    expect((await page.locator("dialog").count()) === 0, "a question goes with its page");
    await page.evaluate(() => history.go(2));
    await headed(page, name);
    await page.locator("main [name=description]").fill(TYPED);
    await pieces(page, name);
    await press(page.locator("main"), "Delete the product");
    await press(page.locator("dialog"), "Delete the product");
    await headed(page, "Products");
  });
}

/** A number is typed beside the form of the product. */
async function pieces(page, name) {
  await page.getByRole("button", { name: `Stock of ${name}` }).click();
  await page.locator("main [name=stock]").fill("99");
}

/** A price that is typed in the list. */
async function cell(page, product) {
  const value = () => page.getByRole("button", { name: `Price of ${product.name}` });
  await value().click();
  await page.locator("main td [name=price]").fill("1.50");
  await page.getByRole("link", { name: "Orders" }).click();
  await press(page.locator("dialog", { hasText: "Leave without saving?" }), "Cancel");
  await page.locator("main td [name=price]").press("Escape");
  await value().click();
  await page.locator("main td [name=price]").fill("1.50");
  await page.locator("main td [name=price]").press("Enter");
  await page.locator("main td", { hasText: "1.50" }).first().waitFor();
}

/** The link that skips the head of the page leaves nothing. */
async function skips(page) {
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/#main$/);
  expect((await page.locator("dialog").count()) === 0, "nothing is asked");
}

/** `go()` leads away: it is asked whether that is meant, and on Cancel everything is as it was. */
async function asks(page, product, go) {
  await go();
  await press(page.locator("dialog", { hasText: "Leave without saving?" }), "Cancel");
  await page.waitForURL(new RegExp(`/admin/products/${product.id}#main$`));
  await page.locator("dialog").waitFor({ state: "detached" });
  expect((await page.locator("main [name=description]").inputValue()) === TYPED, "what was typed stays");
}
