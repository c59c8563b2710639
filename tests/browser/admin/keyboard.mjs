// A product is made and changed without a mouse.

import { expect, headed, said, signedIn, withPages } from "./support.mjs";

/** Presses the tabulator until `selector` has the focus, which must be visible on the way. */
async function tabTo(page, selector) {
  for (let count = 0; count < 120; count += 1) {
    await page.keyboard.press("Tab");
    const [is, isShown] = await page.evaluate((wanted) => {
      const element = document.activeElement;
      return [element.matches(wanted), element === document.body || getComputedStyle(element).outlineStyle !== "none"];
    }, selector);
    expect(isShown, `the focus is visible on the way to ${selector}`);
    if (is) return;
  }
  throw new Error(`the tabulator does not lead to ${selector}`);
}

export async function keyboard(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  await withPages("keyboard", gateway, async (open) => {
    const page = await open("/admin/products");
    const type = (text) => page.keyboard.type(text);
    await page.locator("[name=password]").waitFor();
    await tabTo(page, "[name=email]");
    await type(email);
    await tabTo(page, "[name=password]");
    await type(password);
    await page.keyboard.press("Enter");
    await headed(page, "Products");
    await tabTo(page, "a[href$='/products/new']");
    await page.keyboard.press("Enter");
    await headed(page, "New product");
    await tabTo(page, "[name=name]");
    await type("Keyed lamp");
    await tabTo(page, "[name=price]");
    await type("12");
    await tabTo(page, "[data-field=attributes] > p > button");
    await page.keyboard.press("Enter");
    expect(await page.evaluate(() => document.activeElement.matches("[data-field=attributes] input")), "a new row has the focus");
    await type("colour");
    await tabTo(page, "[data-field=attributes] input:nth-of-type(2)");
    await type("blue");
    await tabTo(page, "main [type=submit]");
    await page.keyboard.press("Enter");
    await headed(page, "Keyed lamp");
    const id = new URL(page.url()).pathname.split("/").pop();
    await tabTo(page, "[name=description]");
    await type("By keys alone.");
    await tabTo(page, "main [type=submit]");
    await page.keyboard.press("Enter");
    await said(page, "Keyed lamp is saved.");
    await tabTo(page, ".inline .value");
    await page.keyboard.press("Enter");
    await page.locator("[name=stock]").waitFor();
    await type("9");
    await page.keyboard.press("Enter");
    await said(page, "Stock of Keyed lamp: 9.");
    const { data } = await api("GET", `/products/${id}`);
    expect(data.description === "By keys alone." && data.attributes.colour === "blue", JSON.stringify(data));
    await tabTo(page, "main .danger");
    await page.keyboard.press("Enter");
    await page.locator("dialog").waitFor();
    await page.keyboard.press("Escape");
    expect(await page.evaluate(() => document.activeElement.matches("main .danger")), "the focus is back at the button");
    expect((await api("GET", `/products/${id}`)).status === 200, "Escape deletes nothing");
  });
}
