// Files go in, with an account of each line that was refused, and come out.

import { readFileSync } from "node:fs";
import { expect, headed, press, signIn, signedIn, withPages } from "./support.mjs";

const file = (name, text) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(text) });

export async function imports(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const mark = `I-${Date.now()}`;
  await withPages("imports", gateway, async (open) => {
    const page = await open("/admin/import");
    await signIn(page, email, password);
    await headed(page, "Import and export");
    await refusesOthers(page);
    await countsLines(page, mark);
    await says422(page);
    await cancels(page);
    await isNoAnswer(page);
    await breaksOff(page);
    await shows(page, mark);
    await comesOut(page, api);
  });
}

const count = (page, name) => page.locator(`[data-count=${name}]`).innerText();

async function send(page, name, text) {
  await page.locator("main [name=file]").setInputFiles(file(name, text));
  await press(page.locator("main form").first(), "Import");
}

async function refusesOthers(page) {
  await press(page.locator("main form").first(), "Import");
  await page.locator("[data-field=file] .error", { hasText: "This is needed." }).waitFor();
  await send(page, "products.xls", "name,price");
  await page.locator("[data-field=file] .error", { hasText: "must end in .csv" }).waitFor();
}

/** Good and bad lines, as NDJSON and as CSV. */
async function countsLines(page, mark) {
  await send(
    page,
    "goods.ndjson",
    `{"name":"One","price":1,"sku":"${mark}-1"}\n{"name":"","price":2}\nno json\n{"name":"Two","price":2,"sku":"${mark}-2"}\n`,
  );
  await page.locator("[data-count=created]").waitFor();
  expect((await count(page, "created")) === "2" && (await count(page, "failed")) === "2", await page.locator("main").innerText());
  const lines = await page.locator("main tbody tr td:first-child").allInnerTexts();
  expect(lines.join() === "2,3", `lines ${lines}`);
  expect((await page.locator("main tbody tr").first().innerText()).includes("name"), "the error names the field");
  await send(page, "goods.CSV", `name,price,sku\nOne,3,${mark}-1\nThree,x,\n`);
  await page.locator("[data-count=updated]", { hasText: "1" }).waitFor();
  expect((await count(page, "failed")) === "1", "of a CSV file, too");
}

/** A file that is refused as a whole is explained. */
async function says422(page) {
  await send(page, "goods.csv", "name;price\nOne;1\n");
  await page.locator("main .trouble", { hasText: "commas" }).waitFor();
  expect((await page.locator("[data-count=created]").count()) === 0, "there is no result of it");
}

/** Who would leave an import is asked; it can be cancelled while its session is renewed, too. */
async function cancels(page) {
  await page.route("**/products/import", (route) => route.fulfill({ status: 401, json: { status: 401 } }));
  await page.route("**/auth/session/renew", () => {});
  const asked = page.waitForRequest("**/auth/session/renew");
  await send(page, "goods.csv", "name,price\nOne,1\n");
  await asked;
  await press(page.locator("header"), "Sign out");
  await press(page.locator("dialog", { hasText: "The import is under way" }), "Cancel");
  await press(page.locator("main"), "Cancel the import");
  await page.locator("main", { hasText: "The import was cancelled." }).waitFor();
  expect(await page.evaluate(() => document.activeElement.matches("[type=submit]")), "the focus is at the button that began it");
  await page.unroute("**/auth/session/renew");
  await page.unroute("**/products/import");
  // What is renewed is asked for once, and this never comes.
  await page.reload();
  await headed(page, "Import and export");
}

/** Something between the browser and the shop answers. */
async function isNoAnswer(page) {
  const answer = { status: 200, contentType: "text/html", body: "<p>Pay for this network.</p>" };
  await page.route("**/products/import", (route) => route.fulfill(answer));
  await send(page, "goods.csv", "name,price\nOne,1\n");
  await page.locator("main .trouble", { hasText: "The shop does not answer." }).waitFor();
  await page.unroute("**/products/import");
}

/** What is there of an import is said when it ends early; an export that ends early is not saved. */
async function breaksOff(page) {
  const detail = "the products of lines 1 to 5000 are imported";
  await page.route("**/products/import", (route) => route.fulfill({ status: 503, json: { status: 503, detail } }));
  await send(page, "goods.csv", "name,price\nOne,1\n");
  await page.locator("main .trouble", { hasText: "The catalogue is away" }).waitFor();
  await page.locator("main", { hasText: detail }).waitFor();
  await page.unroute("**/products/import");
  await page.evaluate(() => {
    const ask = window.fetch;
    window.fetch = async (...all) => {
      const answer = await ask(...all);
      if (!String(all[0]).endsWith("/products/export")) return answer;
      window.fetch = ask;
      const reader = answer.body.getReader();
      const pull = async (stream) => {
        stream.enqueue((await reader.read()).value);
        stream.error(new TypeError("network error"));
      };
      return new Response(new ReadableStream({ pull }), answer);
    };
  });
  await press(page.locator("main"), "Download CSV");
  await page.locator("main .trouble", { hasText: "The shop does not answer." }).waitFor();
}

/** Lets the page send so many bytes a second, or as many as it can. */
async function slowly(page, uploadThroughput) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
}

/** The bar moves while a file is on its way by a slow line, and it can be cancelled. */
async function shows(page, mark) {
  const long = "x".repeat(4000);
  const lines = Array.from({ length: 200 }, (_, at) =>
    JSON.stringify({ name: `Bulk ${at}`, price: 1, sku: `${mark}-bulk-${at % 10}`, description: long }),
  );
  await slowly(page, 400_000);
  await page.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => {
      const bar = document.querySelector("main progress");
      if (bar) window.seen.push(bar.value);
    }).observe(document.querySelector("main"), { subtree: true, childList: true, attributes: true, characterData: true });
  });
  await send(page, "bulk.jsonl", Array(5).fill(lines.join("\n")).join("\n"));
  await page.locator("main progress").waitFor();
  await press(page.locator("main"), "Cancel the import");
  await page.locator("main", { hasText: "The import was cancelled." }).waitFor();
  await page.evaluate(() => (window.seen = []));
  await send(page, "bulk.jsonl", lines.join("\n"));
  await page.locator("main progress").waitFor();
  await page.locator("[data-count=updated]").waitFor();
  const seen = await page.evaluate(() => window.seen);
  expect(Math.max(...seen) === Buffer.byteLength(lines.join("\n")), `all bytes were counted: ${Math.max(...seen)}`);
  expect(new Set(seen).size > 2, `the bar moved: ${[...new Set(seen)]}`);
  await slowly(page, -1);
}

/** The export is what the API gives. */
async function comesOut(page, api) {
  for (const [button, type, name] of [
    ["Download NDJSON", "application/x-ndjson", "products.ndjson"],
    ["Download CSV", "text/csv", "products.csv"],
  ]) {
    const coming = page.waitForEvent("download");
    await press(page.locator("main"), button);
    const download = await coming;
    expect(download.suggestedFilename() === name, download.suggestedFilename());
    const got = readFileSync(await download.path(), "utf8");
    const { data } = await api("GET", "/products/export", undefined, { accept: type });
    expect(got === data && got.length > 100, `${name} has ${got.length} of ${data.length} characters`);
  }
}
