// What the pages say: texts by key from a file per language, and money, numbers and times as the language writes them.

import { make } from "./dom.js";

const page = document.documentElement;
const assets = new URL("../", import.meta.url);

let texts = {};
let language = "en";
let plurals = new Intl.PluralRules(language);

/** Of the languages that there are, the first that the browser asks for; English if there is none. */
export function choose(offered, wanted) {
  for (const tag of wanted) {
    const exact = offered.find((name) => name.toLowerCase() === tag.toLowerCase());
    const found = exact ?? offered.find((name) => name.toLowerCase() === tag.toLowerCase().split("-")[0]);
    if (found) return found;
  }
  return "en";
}

/** Reads the texts of the browser's language, and writes those that stand in the page already (`data-text`). */
export async function speak() {
  const offered = page.dataset.languages.split(" ");
  const file = choose(offered, navigator.languages);
  // The format of numbers follows the region too: de-CH writes 1’000.
  language = navigator.languages.find((tag) => tag.toLowerCase().split("-")[0] === file.split("-")[0]) ?? file;
  plurals = new Intl.PluralRules(language);
  const found = await read(file).catch(() => null);
  if (!found) return speechless();
  texts = found;
  page.lang = file;
  page.dir = new Intl.Locale(file).getTextInfo?.().direction ?? new Intl.Locale(file).textInfo?.direction ?? "ltr";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}

/** The texts of a language, or null where the shop does not give them. Throws where they do not come, or not whole. */
async function read(file) {
  const answer = await fetch(new URL(`languages/${file}.json`, assets));
  return answer.ok ? answer.json() : null;
}

/** Without texts there is no page: says so in the one language that this file has, and never comes back. */
function speechless() {
  document.querySelector("main h1").textContent = "The shop does not answer. Load this page again.";
  document.querySelector("main").removeAttribute("aria-busy");
  return new Promise(() => {});
}

function find(key) {
  let found = texts;
  for (const part of key.split(".")) found = typeof found === "object" && Object.hasOwn(found, part) ? found[part] : undefined;
  return found;
}

/** Whether there is a text of this key, as for states that a later shop may add. */
export const has = (key) => find(key) !== undefined;

function template(key, values) {
  const found = find(key) ?? key;
  return typeof found === "string" ? found : (found[plurals.select(values.count)] ?? found.other);
}

const PLACE = /\{(\w+)\}/;

/** The text of `key`, as in `shop.cart.empty`, with `values` in its places `{name}`. A text of several forms, as
 *  `{"one": …, "other": …}`, goes by `values.count`. */
export function t(key, values = {}) {
  return template(key, values).split(PLACE).map((part, at) => (at % 2 ? shown(values[part]) : part)).join("");
}

/** The same as a list of texts and elements, where values may be elements. */
export function parts(key, values = {}) {
  return template(key, values).split(PLACE).map((part, at) => (at % 2 ? (values[part] instanceof Node ? values[part] : shown(values[part])) : part));
}

const shown = (value) => (typeof value === "number" ? number(value) : String(value ?? ""));

/** An amount as the API has it, in the shop's currency or `currency`. */
export const money = (amount, currency = page.dataset.currency) =>
  new Intl.NumberFormat(language, { style: "currency", currency }).format(amount);

export const number = (value, options) => new Intl.NumberFormat(language, options).format(value);

/** The decimals of the shop's currency: 2 of EUR, none of JPY. */
export const decimals = () =>
  new Intl.NumberFormat(language, { style: "currency", currency: page.dataset.currency }).resolvedOptions().maximumFractionDigits;

/** A time of the API (RFC 3339) as the reader writes it, in an element that machines can read. */
export function time(text, options = { dateStyle: "medium", timeStyle: "short" }) {
  return make("time", { datetime: text }, new Intl.DateTimeFormat(language, options).format(new Date(text)));
}

/** A day of the API, as in 2026-11-29, which is one of UTC. */
export const day = (text, options = { dateStyle: "medium" }) =>
  new Intl.DateTimeFormat(language, { ...options, timeZone: "UTC" }).format(new Date(`${text}T00:00:00Z`));
