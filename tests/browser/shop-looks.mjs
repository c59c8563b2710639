// What the pages of the shop look like, to eyes, keyboards and programs that read them.

import { expect } from "./browser.mjs";
import { Api, headed, order, signIn, state, take, unique } from "./shopper.mjs";
import { accessible as free, fits, steady, watched } from "./watched.mjs";

/** What would run, or break a page, if it were taken for anything but text. */
const MARKUP = `<img src=x onerror="globalThis.ran=1"><script>globalThis.ran=1</script>"'\`{{ran}}\${ran}</bdi>&amp;`;

/** Markup in every field of a product, a name and an address: it is read as it was written, and nothing runs. */
export async function markup(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const own = unique("z");
  const short = `<b>${own}</b>`;
  const product = await admin.product({
    name: `${MARKUP} ${own}`,
    description: `${MARKUP}\njavascript:ran()`,
    category: short,
    tags: [short, "javascript:globalThis.ran=1"],
    sku: short,
    images: [`${gateway}/shop/pictures/x.svg?"><script>globalThis.ran=1</script>`],
    attributes: { [MARKUP]: MARKUP, list: [MARKUP], deep: { [MARKUP]: MARKUP } },
  });
  const customer = await new Api(gateway).customer(MARKUP.slice(0, 64));
  await watched(
    "markup",
    gateway,
    async (open) => {
      const page = await open(`/shop?q=${encodeURIComponent(MARKUP)}&tag=${encodeURIComponent(MARKUP.slice(0, 50))}`);
      await page.locator("[role=status]", { hasText: /Nothing fits|Search for words/ }).waitFor();
      await page.goto(`${gateway}/shop?q=${own}`);
      await page.locator(".product a", { hasText: product.name }).click();
      await headed(page, product.name);
      const main = await page.getByRole("main").innerText();
      for (const text of [product.name, product.description, short, MARKUP, "javascript:globalThis.ran=1"])
        expect(main.includes(text), `the page says ${text}: ${main}`);
      await page.locator(".tags a", { hasText: short }).click();
      await page.locator(".product", { hasText: product.name }).waitFor();
      await page.goto(`${gateway}/shop/sign-in?next=${encodeURIComponent("//javascript:globalThis.ran=1")}`);
      await signIn(page, customer.email);
      await headed(page, "There is no such page");
      await take(page, gateway, product);
      await page.goto(`${gateway}/shop/checkout`);
      await headed(page, "Checkout");
      expect((await page.locator("[name='contact.name']").inputValue()) === customer.username, "the name is in its field");
      for (const field of await page.locator("[name^=shipTo], [name='contact.phone']").all()) await field.fill(MARKUP);
      await page.getByRole("button", { name: "Order", exact: true }).click();
      await headed(page, "Your order");
      const told = await page.getByRole("main").innerText();
      expect(told.split(MARKUP).length >= 7, `the order says where it goes: ${told}`);
      await page.goto(`${gateway}/shop/orders`);
      await page.locator(".entry", { hasText: product.name }).waitFor();
      await page.goto(`${gateway}/shop/account`);
      await page.locator("[name=username]").waitFor();
      await page.goto(`${gateway}/shop/products/%3Cscript%3E`);
      await headed(page, "That did not work");
      await page.goto(`${gateway}/shop/products/%zz`).catch(() => {});
      expect((await page.evaluate(() => globalThis.ran)) === undefined, "nothing has run");
      await admin.ask("DELETE", `/products/${product.id}`);
    },
    { allowed: [/404/, /422/, /400/] },
  );
}

const RTL = "مصباح الطاولة";

const FACES = { light: { colorScheme: "light" }, dark: { colorScheme: "dark", reducedMotion: "reduce" } };

/** axe finds nothing on any page, in light and in dark; nothing is wider than the window, from a small telephone to a wall; names that
 *  are written from right to left are. */
export async function accessible(gateway, email, password) {
  const admin = await new Api(gateway).as(email, password);
  const name = unique(`${RTL} (XL)`);
  const product = await admin.product({
    name,
    description: `${RTL}. ${RTL}.`,
    category: RTL,
    tags: [RTL],
    attributes: { size: "12 cm", long: "x".repeat(300), ["n".repeat(60)]: 1 },
  });
  const gone = await admin.product({ stock: 0 });
  const customer = await new Api(gateway).customer(RTL);
  await watched("accessible", gateway, async (open) => {
    for (const [face, options] of Object.entries(FACES)) {
      const page = await open("/shop/sign-in", options);
      const look = (what) => everywhere(page, `${what} in ${face}`);
      const loaded = async (what) => {
        await steady(page, `${what} in ${face}`);
        await look(what);
      };
      await look("sign-in");
      await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
      await page.locator(".error", { hasText: "needed" }).first().waitFor();
      await look("sign-in with errors");
      await page.goto(`${gateway}/shop/register`);
      await headed(page, "New account");
      await loaded("register");
      await page.goto(`${gateway}/shop/sign-in`);
      await signIn(page, customer.email);
      await page.locator(".product").first().waitFor();
      await look("catalogue");
      await page.goto(`${gateway}/shop?tag=${encodeURIComponent(RTL)}`);
      const link = page.locator(".product a bdi", { hasText: name });
      expect((await link.evaluate((element) => getComputedStyle(element).direction)) === "rtl", "the name runs from right to left");
      await loaded("a tag");
      await page.goto(`${gateway}/shop/products/${gone.id}`);
      await headed(page, gone.name);
      await loaded("sold out");
      await take(page, gateway, product);
      await look("product");
      await page.goto(`${gateway}/shop/cart`);
      await page.locator(".lines .thumb .picture").waitFor();
      await loaded("cart");
      await page.goto(`${gateway}/shop/checkout`);
      await page.locator(".summary .total").waitFor();
      await loaded("checkout");
      await order(page, gateway);
      await look("order to be paid");
      await page.getByRole("button", { name: "Cancel the order" }).click();
      await look("a question");
      await page.getByRole("dialog").getByRole("button", { name: "Back" }).click();
      await page.getByRole("button", { name: "Pay now" }).click();
      await state(page, "Paid");
      await look("paid");
      await page.goto(`${gateway}/shop/orders`);
      await page.locator(".entry").first().waitFor();
      await loaded("orders");
      await page.goto(`${gateway}/shop/account`);
      await headed(page, "Your account");
      await loaded("account");
      await page.getByRole("button", { name: "Erase the account …" }).click();
      await look("erasing");
      await page.goto(`${gateway}/shop/nowhere`);
      await headed(page, "There is no such page");
      await loaded("nowhere");
    }
  });
}

async function everywhere(page, name) {
  await page.locator("main:not([aria-busy])").waitFor();
  // Colours are judged once they have come to rest.
  await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState !== "running"));
  await free(page, name);
  for (const width of [320, 3840]) {
    await page.setViewportSize({ width, height: 900 });
    await fits(page, `${name} at ${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

/** Somebody whose browser asks for German reads German, with its money; nobody reads a key. */
export async function german(gateway, email, password) {
  const product = await (await new Api(gateway).as(email, password)).product();
  await watched("german", gateway, async (open) => {
    const page = await open(`/shop/products/${product.id}`, { locale: "de-DE" });
    await page.getByRole("button", { name: "In den Warenkorb" }).click();
    await page.getByRole("link", { name: "Warenkorb, 1 Stück" }).click();
    await page.locator(".total", { hasText: "24,50 €" }).waitFor();
    expect((await page.evaluate(() => document.documentElement.lang)) === "de", "the page says that it is German");
    for (const path of ["", "/cart", "/sign-in", "/register", "/nowhere"]) {
      await page.goto(`${gateway}/shop${path}`);
      await page.locator("main[aria-busy]").waitFor({ state: "detached" });
      const text = await page.locator("body").innerText();
      expect(!/\b(shop|common)\.[a-z]/i.test(text), `${path} shows a key: ${text}`);
    }
  });
}
