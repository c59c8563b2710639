// The texts of the pages: `node texts.mjs`, without a browser. Each language has all of them, and each is used.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";

const PAGES = new URL("../../src/gateway/pages/", import.meta.url);
/** What begins the keys that the pages put together, as in `shop.state.${status}`. */
const COMPOSED = [
  "common.problem.",
  "common.away.",
  "common.detail.",
  "shop.sort.",
  "shop.state.",
  "shop.delivery.",
  "shop.pay.methods.",
  "shop.order.columns.",
  "shop.account.sections.",
  "admin.import.count.",
  "admin.orders.did.",
  "admin.orders.do.",
  "admin.orders.sure.",
  "admin.products.field.",
  "admin.products.sort.",
  "admin.state.",
  "admin.users.did.",
  "admin.users.do.",
  "admin.users.label.",
  "admin.users.roles.",
  "admin.users.sure.",
  "admin.webhooks.column.",
  "admin.webhooks.delivery.",
];

const read = (name) => readFileSync(new URL(name, PAGES), "utf8");

/** The texts of a language by key, as lists of their forms. */
function texts(value, prefix = "") {
  return Object.entries(value).flatMap(([key, inner]) => {
    if (typeof inner === "string") return [[prefix + key, [inner]]];
    if ("other" in inner && !("label" in inner) && Object.keys(inner).every((form) => FORMS.includes(form)))
      return [[prefix + key, Object.values(inner)]];
    return texts(inner, `${prefix}${key}.`);
  });
}

/** The categories of plurals (CLDR). */
const FORMS = ["zero", "one", "two", "few", "many", "other"];
const places = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();
const languages = readdirSync(new URL("languages/", PAGES)).map((name) => [name, new Map(texts(JSON.parse(read(`languages/${name}`))))]);
const english = languages.find(([name]) => name === "en.json")[1];

for (const [name, all] of languages) {
  assert.deepEqual([...all.keys()].sort(), [...english.keys()].sort(), `${name} has the keys of en.json`);
  for (const [key, forms] of all) {
    for (const text of forms) {
      assert(text.trim(), `${name}: ${key} is empty`);
      const known = places(english.get(key).join());
      assert(
        places(text).every((place) => known.includes(place)),
        `${name}: ${key} has other places than in English`,
      );
    }
    assert.deepEqual(places(forms.join()), places(english.get(key).join()), `${name}: ${key} lacks a place`);
  }
}

/** What stands between the brackets of each call of `t`, `parts` and `has` in `text`. */
function* calls(text) {
  for (const { index, 0: name } of text.matchAll(/\b(?:t|parts|has)\(/g)) {
    let at = index + name.length;
    for (let depth = 1; depth && at < text.length; at++) depth += { "(": 1, ")": -1 }[text[at]] ?? 0;
    yield text.slice(index, at);
  }
}

const files = readdirSync(PAGES, { recursive: true }).filter((name) => /\.(js|html)$/.test(name));
const used = new Set();
for (const file of files) {
  const text = read(file);
  for (const [, key] of text.matchAll(/data-(?:text|label)="([\w.-]+)"/g)) used.add(key);
  for (const [, key] of text.matchAll(/title: "((?:shop|admin)\.\w+)"/g)) used.add(key);
  for (const call of calls(text)) {
    for (const [, key] of call.matchAll(/"((?:common|shop|admin)\.[\w.-]+)"/g)) used.add(key);
    for (const [, prefix] of call.matchAll(/`((?:common|shop|admin)\.[\w.-]*)\$\{/g)) {
      assert(COMPOSED.includes(prefix), `${file} makes keys of ${prefix}, which COMPOSED of this test lacks`);
    }
  }
}
for (const key of used) assert(english.has(key), `${key} is used, and en.json lacks it`);
const unused = [...english.keys()].filter((key) => !used.has(key) && !COMPOSED.some((prefix) => key.startsWith(prefix)));
assert.deepEqual(unused, [], "texts that nothing uses");
