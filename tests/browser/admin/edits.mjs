// An admin makes a product, changes it here and there, meets somebody else's changes, and deletes it.

import { expect, headed, held, press, productOf, said, signIn, signedIn, withPages } from "./support.mjs";

const value = (page, name) => page.locator(`main form.product [name=${name}]`).inputValue();

export async function edits(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const sku = `T-${Date.now()}`;
  await withPages("edits", gateway, async (open) => {
    const page = await open("/admin/products/new");
    await signIn(page, email, password);
    await headed(page, "New product");
    const id = await makes(page, api, sku);
    await changes(page, api, id);
    await meanwhile(page, api, id);
    await attributes(page, api, gateway);
    await page.goto(`${gateway}/admin/products/${id}`);
    await headed(page, "Walnut lamp");
    await inline(page, api, sku, id);
    await conflicts(page, api, id, gateway);
    await agree(page, api, id);
    await renamed(page);
    await taken(page, api, sku);
    await stays(page);
    await ends(page, api, id);
  });
}

/** Fills in every field, wrongly at first. */
async function makes(page, api, sku) {
  await press(page.locator("main"), "Add the product");
  await page.locator("[data-field=name] .error", { hasText: "This is needed." }).waitFor();
  expect(await page.evaluate(() => document.activeElement.name === "name"), "the first wrong field is focused");
  const fill = (name, text) => page.locator(`main [name=${name}]`).fill(text);
  await fill("name", "Walnut lamp");
  for (const price of ["cheap", "1,000", "1.000", "12,500", "1 000", "-1"]) {
    await fill("price", price);
    await press(page.locator("main"), "Add the product");
    await page.locator("[data-field=price] .error", { hasText: "Write a number" }).waitFor();
    await fill("price", "");
    await press(page.locator("main"), "Add the product");
    await page.locator("[data-field=price] .error", { hasText: "This is needed." }).waitFor();
  }
  await fill("price", "49,90");
  await fill("description", "It glows.\nSoftly.");
  await fill("category", "Lighting");
  await fill("sku", sku);
  await fill("tags", "warm\noak");
  await fill("stock", "+3");
  await press(page.locator("main"), "Add the product");
  await page.locator("[data-field=stock] .error", { hasText: "without a sign" }).waitFor();
  await fill("stock", "7");
  await press(page.locator("main"), "Add a picture");
  await page.getByLabel("Address of the picture").fill("https://elsewhere.example/one.jpg");
  await press(page.locator("main"), "Add a picture");
  await page.locator(".rows li", { hasText: "This page may not load pictures from there." }).waitFor();
  await page.getByLabel("Address of the picture").nth(1).fill("elsewhere.example/two.jpg");
  await press(page.locator("main"), "Add the product");
  await page.locator("[data-field=images] .error", { hasText: "must be an http:// or https:// URL" }).waitFor();
  const icon = await page.locator("link[rel=icon]").evaluate((link) => link.href);
  await page.getByLabel("Address of the picture").nth(1).fill(icon);
  await page.locator(".preview img").waitFor();
  await page.getByRole("button", { name: "Move up" }).nth(1).click();
  await press(page.locator("main"), "Add an attribute");
  await page.getByLabel("Name of the attribute").fill("watts");
  await page.getByLabel("Kind of the value").selectOption("json");
  await page.getByLabel("Value of the attribute").fill("5");
  await press(page.locator("main"), "Add the product");
  await headed(page, "Walnut lamp");
  expect((await page.locator("nav a[aria-current=true]").allInnerTexts()).join() === "Products", "the navigation says where it is");
  const id = new URL(page.url()).pathname.split("/").pop();
  const { data } = await api("GET", `/products/${id}`);
  const { name, price, description, category, tags, images, attributes } = data;
  const wanted = {
    name: "Walnut lamp",
    price: 49.9,
    description: "It glows.\nSoftly.",
    category: "Lighting",
    tags: ["warm", "oak"],
    images: [icon, "https://elsewhere.example/one.jpg"],
    attributes: { watts: 5 },
  };
  expect(JSON.stringify({ name, price, description, category, tags, images, attributes }) === JSON.stringify(wanted), JSON.stringify(data));
  expect((await api("GET", `/products/${id}/stock`)).data.onHand === 7, "its stock is stored");
  return id;
}

/** What is emptied is removed, and what is not touched stays. */
async function changes(page, api, id) {
  await page.locator("main [name=description]").fill("");
  await page.locator("main [name=tags]").fill("warm");
  await press(page.locator("main form.product"), "Save");
  await said(page, "Walnut lamp is saved.");
  const { data } = await api("GET", `/products/${id}`);
  expect(!("description" in data) && data.tags.join() === "warm" && data.attributes.watts === 5, JSON.stringify(data));
  await press(page.locator("main form.product"), "Save");
  await said(page, "There is nothing to save.");
}

/** What is typed while a save is under way is not saved by it. */
async function meanwhile(page, api, id) {
  const form = page.locator("main form.product");
  await form.locator("[name=description]").fill("Typed before.");
  const later = () => form.locator("[name=description]").fill("Typed meanwhile.");
  await held(page, `**/products/${id}`, "PATCH", () => press(form, "Save"), later);
  await said(page, "Walnut lamp is saved.");
  expect((await api("GET", `/products/${id}`)).data.description === "Typed before.", "what was there is stored");
  await page.locator("main").getByRole("link", { name: "Back to the products" }).click();
  await press(page.locator("dialog", { hasText: "Leave without saving?" }), "Cancel");
  await form.locator("[name=description]").fill("");
  await page.evaluate(() => (document.getElementById("said").textContent = ""));
  await press(form, "Save");
  await said(page, "Walnut lamp is saved.");
}

/** A patch can keep a null of an attribute, and cannot write one; the ends of lines are no change. */
async function attributes(page, api, gateway) {
  const { id } = await productOf(api, { name: "Nulls", description: "one\r\ntwo", attributes: { size: { x: null, y: 1 } } });
  await page.goto(`${gateway}/admin/products/${id}`);
  await headed(page, "Nulls");
  const form = page.locator("main form.product");
  await press(form, "Save");
  await said(page, "There is nothing to save.");
  for (const [text, words] of [['{"x":1,"y":null}', "size has a null"], ['{"x":null,"y":1e400}', "too large"]]) {
    await page.getByLabel("Value of the attribute").fill(text);
    await press(form, "Save");
    await page.locator("[data-field=attributes] .error", { hasText: words }).waitFor();
  }
  await page.getByLabel("Value of the attribute").fill('{"x":null,"y":[null]}');
  await press(form, "Save");
  await said(page, "Nulls is saved.");
  const { data } = await api("GET", `/products/${id}`);
  expect(JSON.stringify(data.attributes.size) === '{"x":null,"y":[null]}', JSON.stringify(data));
  await api("DELETE", `/products/${id}`);
}

/** Stock and price are changed in the list. */
async function inline(page, api, sku, id) {
  await page.locator("main").getByRole("link", { name: "Back to the products" }).click();
  await headed(page, "Products");
  await page.locator("main [name=q]").fill("%");
  await press(page.locator("main form"), "Show");
  await page.locator("main .trouble", { hasText: "must have a word" }).waitFor();
  await page.locator("main [name=q]").fill(" walnut ");
  await press(page.locator("main form"), "Show");
  await page.waitForURL(/q=\+walnut/);
  // The list until now stays until the new one is there.
  await headed(page, "Products");
  const row = page.locator("tbody tr", { hasText: sku });
  const stock = row.getByRole("button", { name: "Stock of Walnut lamp" });
  await stock.click();
  await row.locator("[name=stock]").fill("+5");
  const typed = row.locator("[name=stock]");
  await held(page, `**/products/${id}/stock`, "PATCH", () => typed.press("Enter"), async () => {
    await typed.press("Escape");
    await press(row, "Cancel");
    expect(await typed.isVisible(), "a save that is under way is not cancelled");
  });
  await said(page, "Stock of Walnut lamp: 12.");
  expect(await stock.evaluate((button) => button === document.activeElement), "the focus is back where it was");
  await stock.click();
  await row.locator("[name=stock]").fill("-20");
  await row.locator("[name=stock]").press("Enter");
  await row.locator(".error", { hasText: "there are 12 on hand" }).waitFor();
  await row.locator("[name=stock]").press("Escape");
  expect((await api("GET", `/products/${id}/stock`)).data.onHand === 12, "a refused change changes nothing");
  await stock.click();
  await row.locator("[name=stock]").fill("");
  await row.locator("[name=stock]").press("Enter");
  await said(page, "not counted");
  await row.getByRole("button", { name: "Price of Walnut lamp" }).click();
  await row.locator("[name=price]").waitFor();
  await api("PATCH", `/products/${id}`, { price: 60 });
  await row.locator("[name=price]").fill("1,055");
  await row.locator("[name=price]").press("Enter");
  await row.locator(".error", { hasText: "as in 12.50." }).waitFor();
  await row.locator("[name=price]").fill("55");
  await row.locator("[name=price]").press("Enter");
  await row.locator(".error", { hasText: "It costs €60.00 now" }).waitFor();
  expect((await row.locator("[name=price]").inputValue()) === "55", "what was typed stays");
  await row.locator("[name=price]").press("Enter");
  await said(page, "Walnut lamp costs €55.00 now.");
  expect((await api("GET", `/products/${id}`)).data.price === 55, "the price is stored");
  await row.getByRole("button", { name: "Price of Walnut lamp" }).click();
  await row.locator("[name=price]").fill("56");
  await runsOut(api, id);
  await row.locator("[name=price]").press("Enter");
  await said(page, "Walnut lamp costs €56.00 now.");
}

/** Somebody buys the last piece: whether a product is in stock is part of its version, too. */
async function runsOut(api, id) {
  const version = async () => (await api("GET", `/products/${id}`)).etag;
  const before = await version();
  const { data } = await api("GET", `/products/${id}/stock`);
  await api("PATCH", `/products/${id}/stock`, { onHand: data.onHand === 0 ? 1 : 0 });
  expect((await version()) !== before, "the product has another version");
}

/** Somebody else saves meanwhile: once mine wins, once theirs. */
async function conflicts(page, api, id, gateway) {
  await page.goto(`${gateway}/admin/products/${id}`);
  await headed(page, "Walnut lamp");
  await page.locator("main [name=name]").fill("Oak lamp");
  await page.locator("main [name=category]").fill("Light");
  await api("PATCH", `/products/${id}`, { name: "Elm lamp", description: "Elm." });
  await press(page.locator("main form.product"), "Save");
  const box = page.locator("main [data-kind='412']");
  await box.locator("[data-conflict=name]", { hasText: "Elm lamp" }).waitFor();
  expect((await box.locator("[data-conflict=name]").innerText()).includes("Oak lamp"), "mine stands beside it");
  expect((await value(page, "name")) === "Oak lamp", "what was typed stays");
  await page.locator("main [name=sku]").fill("");
  await page.locator("main [name=category]").fill("Lights");
  await page.locator("main [name=description]").fill("Elm, it was.");
  await box.locator("[data-conflict=description]", { hasText: "Elm, it was." }).waitFor();
  await box.locator("[data-conflict=description]").getByRole("radio").first().check();
  await press(box, "Save what is chosen");
  await said(page, "Oak lamp is saved.");
  let { data } = await api("GET", `/products/${id}`);
  expect(data.name === "Oak lamp" && data.category === "Lights" && data.description === "Elm." && !data.sku, JSON.stringify(data));

  await page.locator("main [name=category]").fill("Lamps");
  await runsOut(api, id);
  const stored = page.waitForResponse((answer) => answer.request().method() === "PATCH" && answer.ok());
  await press(page.locator("main form.product"), "Save");
  await stored;
  expect((await api("GET", `/products/${id}`)).data.category === "Lamps", "the stock alone is no conflict");

  await page.locator("main [name=name]").fill("Ash lamp");
  await api("PATCH", `/products/${id}`, { name: "Fir lamp" });
  await press(page.locator("main form.product"), "Save");
  await box.locator("[data-conflict=name]").getByRole("radio").first().check();
  // The button of the form saves what is chosen, too.
  await press(page.locator("main form.product"), "Save");
  await headed(page, "Fir lamp");
  expect((await value(page, "name")) === "Fir lamp", "the form shows theirs");
  ({ data } = await api("GET", `/products/${id}`));
  expect(data.name === "Fir lamp", JSON.stringify(data));
  await page.locator("main [name=price]").fill("1");
  await press(page.locator("main form.product"), "Save");
  await said(page, "Fir lamp is saved.");
}

/** Somebody else has made the same change: there is nothing to choose. */
async function agree(page, api, id) {
  await page.locator("main [name=category]").fill("Shades");
  await api("PATCH", `/products/${id}`, { category: "Shades" });
  await press(page.locator("main form.product"), "Save");
  await said(page, "The form shows what is stored now.");
  expect((await page.locator("main [data-kind='412']").count()) === 0, "there is no conflict");
}

/** All parts of the page have the new name. */
async function renamed(page) {
  expect((await page.title()).startsWith("Fir lamp"), await page.title());
  await page.getByRole("button", { name: "Stock of Fir lamp" }).waitFor();
  await press(page.locator("main"), "Delete the product");
  await page.locator("dialog", { hasText: "Fir lamp" }).waitFor();
  await press(page.locator("dialog"), "Cancel");
}

/** A SKU that another product has is said at its field. */
async function taken(page, api, sku) {
  const other = await productOf(api, { sku: `${sku}-other` });
  await page.locator("main [name=sku]").fill(other.sku);
  await press(page.locator("main form.product"), "Save");
  await page.locator("[data-field=sku] .error", { hasText: "Another product has this SKU." }).waitFor();
}

/** Who would leave what was typed is asked. */
async function stays(page) {
  await page.locator("main").getByRole("link", { name: "Back to the products" }).click();
  await press(page.locator("dialog", { hasText: "Leave without saving?" }), "Cancel");
  await page.locator("main [data-field=sku] [aria-invalid]").waitFor();
}

async function ends(page, api, id) {
  await press(page.locator("main"), "Delete the product");
  await press(page.locator("dialog"), "Cancel");
  expect((await api("GET", `/products/${id}`)).status === 200, "Cancel deletes nothing");
  await press(page.locator("main"), "Delete the product");
  const escape = async () => {
    await page.keyboard.press("Escape");
    await press(page.locator("dialog"), "Cancel");
    expect(await page.locator("dialog").isVisible(), "what is under way is not cancelled");
    // Chromium closes a dialog at the second in a row.
    for (const key of ["Escape", "Escape"]) await page.keyboard.press(key);
  };
  await held(page, `**/products/${id}`, "DELETE", () => press(page.locator("dialog"), "Delete the product"), escape);
  await headed(page, "Products");
  expect((await api("GET", `/products/${id}`)).status === 404, "it is deleted");
}
