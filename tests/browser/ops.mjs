// The page for operators in a browser: `node ops.mjs looks|slow|hangs|stopped …`, as tests/it/operation/ops_page.rs runs it.

import { expect, withBrowser } from "./browser.mjs";

/** The row of the table of calls that begins with `name`. */
const row = (page, name) => page.locator("#arrows tr", { hasText: name });

/** Waits until the page has heard from the process twice, so that there are rates. */
const live = (page) => page.locator("#arrows tr td:nth-child(3)", { hasText: "/s" }).first().waitFor();

/** In light and dark and on a telephone it says that all is well, fits, and can be used without a mouse. */
async function looks(management) {
  const faces = { light: { colorScheme: "light" }, dark: { colorScheme: "dark" }, narrow: { viewport: { width: 360, height: 740 } } };
  await withBrowser(async (open) => {
    const papers = [];
    for (const [name, options] of Object.entries(faces)) {
      const page = await open(`${management}/ops`, options);
      await live(page);
      await page.locator("#word", { hasText: "All is well" }).waitFor();
      expect((await page.title()).includes("All is well"), `${name}: the title says how it is`);
      const [wide, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(wide <= there, `${name}: ${wide} pixels of ${there}`);
      expect((await page.locator("#map").isVisible()) === (name !== "narrow"), `${name}: the map is for wide screens`);
      papers.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      await accessible(page, name);
    }
    expect(papers[0] !== papers[1], `light and dark differ: ${papers}`);
  });
}

/** Everything that can be used has a name and is reached with the tabulator; what is focused shows it. */
async function accessible(page, name) {
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, input, svg[role], [role=region], section, table th")]
    .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length || element.ariaLabelledByElements?.length))
    .map((element) => element.outerHTML.slice(0, 80)));
  expect(!unnamed.length, `${name}: without a name: ${unnamed}`);
  const heads = await page.evaluate(() => [...document.querySelectorAll("h1, h2, h3, h4")].map((head) => +head.tagName[1]));
  expect(heads[0] === 1 && heads.every((level, at) => !at || level <= heads[at - 1] + 1), `${name}: headings ${heads}`);
  const wanted = ["a.skip", "#pause", ".scroll", "#id", "#find button"];
  for (const next of wanted) {
    await page.keyboard.press("Tab");
    const [is, outline] = await page.evaluate((next) => [document.activeElement.matches(next), getComputedStyle(document.activeElement).outlineStyle], next);
    expect(is && outline !== "none", `${name}: the tabulator leads to ${next}, with an outline`);
  }
  await page.locator("#pause").press("Enter");
  expect((await page.locator("#pause").getAttribute("aria-pressed")) === "true", `${name}: Enter pauses`);
}

/** A payment that takes two seconds appears with its waterfall and its lines of the log; so does what is asked for by its id. */
async function slow(management, gateway) {
  const post = async (path, body, id = "browser-test") => {
    const headers = { "content-type": "application/json", "x-request-id": id };
    const answer = await fetch(gateway + path, { method: "POST", headers, body: JSON.stringify(body) });
    expect(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
  };
  await withBrowser(async (open) => {
    const page = await open(`${management}/ops`);
    await live(page);
    const product = await post("/products", { name: "Lamp", price: 12 });
    const order = await post("/orders", { userId: "0198c0de-0000-7000-8000-000000000001", items: [{ productId: product.id, quantity: 1 }] });
    await post(`/orders/${order.id}/pay`, { paymentMethod: "slow" }, "slow-payment");
    // It says so for ten seconds.
    await page.locator("#arrows tr.ok", { hasText: "order → payments" }).waitFor();
    const request = page.locator("#traces details", { hasText: "/orders/{id}/pay" });
    await request.waitFor();
    expect((await request.locator(".sign").innerText()).includes("slow"), "it is marked as slow");
    await request.locator("summary").press("Enter");
    const spans = request.locator(".waterfall tbody tr");
    await spans.first().waitFor();
    expect((await spans.count()) >= 3, `${await spans.count()} spans`);
    expect((await request.innerText()).includes("order"), "the order role is in it");
    const widths = await request.locator(".bar rect:not(.rail)").evaluateAll((bars) => bars.map((bar) => +bar.getAttribute("width")));
    expect(Math.max(...widths) > 80, `one bar is nearly the whole: ${widths}`);
    await request.locator("pre", { hasText: "/pay" }).waitFor();
    expect(!(await request.innerText()).includes("null"), await request.innerText());
    await page.locator("#id").fill("slow-payment");
    await page.keyboard.press("Enter");
    await page.locator("#found h3", { hasText: "POST orders got 200" }).waitFor();
    await page.locator("#found pre", { hasText: "/pay" }).waitFor();
  });
}

/** The process `pid` hangs: its arrow turns, too, though its port takes connections. It comes back with it. */
async function hangs(management, pid) {
  await withBrowser(async (open) => {
    const page = await open(`${management}/ops`);
    await live(page);
    process.kill(+pid, "SIGSTOP");
    await page.locator("#arrows tr.down", { hasText: "gateway → product" }).waitFor();
    process.kill(+pid, "SIGCONT");
    await page.locator("#arrows tr.idle", { hasText: "gateway → product" }).waitFor();
    expect((await page.locator("#traces details").count()) === 0, "looking is no failed request");
  });
}

/** The process `pid` is killed: the arrow to it turns within two seconds, though nobody calls it. */
async function stopped(management, pid) {
  await withBrowser(async (open) => {
    const page = await open(`${management}/ops`);
    await live(page);
    const arrow = row(page, "gateway → product");
    await page.locator("#arrows tr.idle", { hasText: "gateway → product" }).waitFor();
    const began = Date.now();
    process.kill(+pid, "SIGKILL");
    await page.locator("#arrows tr.down", { hasText: "gateway → product" }).waitFor();
    const took = Date.now() - began;
    console.log(`the arrow turned after ${took} ms`);
    expect(took <= 2000, `the arrow turned after ${took} ms`);
    // Which of the two is known first is a matter of milliseconds.
    const why = /✕ down: (peers.product is missing|it does not answer)/;
    expect(why.test(await arrow.innerText()), await arrow.innerText());
    await page.locator("#map .arrow.down").first().waitFor();
    await page.locator("#word", { hasText: "Not well" }).waitFor();
    await page.locator("#troubles", { hasText: "gateway → product" }).waitFor();
    expect((await page.locator("#traces details").count()) === 0, "looking is no failed request");
  });
}

const tests = { looks, slow, hangs, stopped };
const [name, ...rest] = process.argv.slice(2);
await tests[name](...rest);
