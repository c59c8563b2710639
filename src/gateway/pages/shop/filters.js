// The filters of the catalogue: fields on the page, and a query in the address and for the API.

import { ask } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { decimals, number, t } from "../common/texts.js";

/** What the catalogue can be asked for; other words of the address are not passed on. */
const NAMES = ["q", "category", "tag", "minPrice", "maxPrice", "inStock", "sort"];
const SORTS = ["price", "-price", "name", "popular"];
/** How long nothing is typed before it is looked for, in milliseconds. */
const PAUSE = 250;
const WIDE = "(min-width: 60rem)";

/** Those of the address that are filters. */
export const known = (query) => Object.fromEntries(NAMES.map((name) => [name, query.get(name)]).filter(([, value]) => value));

/** The orders that there are: by relevance first where words are searched for, else by age. */
function orders(q) {
  const names = q ? ["", "newest", ...SORTS] : ["", ...SORTS];
  return names.map((name) => [name, t(`shop.sort.${name || (q ? "relevance" : "newest")}`)]);
}

function fillOrders(select, q, chosen) {
  const all = orders(q);
  const value = all.some(([name]) => name === chosen) ? chosen : "";
  select.replaceChildren(...all.map(([name, text]) => make("option", { value: name, selected: name === value }, text)));
}

/** A field and its label. The forms' own module does more, and the first view does without it. */
function labelled(name, label, attributes) {
  const input = make("input", { id: name, name, ...attributes });
  const text = make("label", { for: name }, label);
  return attributes.type === "checkbox" ? make("div", { class: "field check" }, input, text) : make("div", { class: "field" }, text, input);
}

/** The form: `changed(query)` gets what is chosen, a moment after the last letter, until `signal` is aborted. `chosen` is what is chosen at
 *  first. */
export function filters(chosen, changed, signal) {
  const search = labelled("q", t("shop.search"), {
    type: "search",
    value: chosen.q,
    maxlength: 200,
    autocomplete: "off",
    enterkeyhint: "search",
  });
  const sort = make("select", { id: "sort", name: "sort" });
  fillOrders(sort, chosen.q, chosen.sort ?? "");
  const order = make("div", { class: "field order" }, make("label", { for: "sort" }, t("shop.sort.label")), sort);
  const categories = make(
    "fieldset",
    { class: "categories" },
    make("legend", {}, t("shop.category")),
    radio("", t("shop.everything"), !chosen.category),
    // It is a filter before the others are there, too.
    chosen.category && radio(chosen.category, own(chosen.category), true),
  );
  const form = make("form", { class: "finder", role: "search", "aria-label": t("shop.find") }, search, order, more(chosen, categories, signal));
  let timer;
  signal.addEventListener("abort", () => clearTimeout(timer));
  const tell = () => {
    clearTimeout(timer);
    const inputs = [...form.querySelectorAll("input")];
    for (const input of inputs) input.setAttribute("aria-invalid", String(!input.validity.valid));
    if (inputs.every(({ validity }) => validity.valid)) changed(values(form));
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell();
  });
  form.addEventListener("input", ({ target }) => {
    clearTimeout(timer);
    if (target.name === "q") fillOrders(sort, target.value.trim(), sort.value);
    timer = setTimeout(tell, ["search", "number"].includes(target.type) ? PAUSE : 0);
  });
  return { form, categories };
}

/** The filters besides the search, open where there is room beside the list. */
function more(chosen, categories, signal) {
  const step = 10 ** -decimals();
  const price = (name, label) => labelled(name, label, { type: "number", min: 0, step, inputmode: "decimal", value: chosen[name] });
  const wide = matchMedia(WIDE);
  const whole = make(
    "details",
    { class: "filters", open: wide.matches },
    make("summary", {}, t("shop.filters")),
    make("div", { class: "range" }, price("minPrice", t("shop.minPrice")), price("maxPrice", t("shop.maxPrice"))),
    labelled("inStock", t("shop.inStock"), { type: "checkbox", value: "true", checked: chosen.inStock === "true" }),
    categories,
  );
  // On a wide screen nothing is there to open them.
  wide.addEventListener("change", () => (whole.open ||= wide.matches), { signal });
  return whole;
}

/** What the fields of `form` say, as the API names it. */
function values(form) {
  const all = Object.fromEntries(new FormData(form));
  // 1e2 is a number, too.
  const price = (name) => all[name] && String(Number(all[name]));
  return { ...all, q: all.q.trim(), minPrice: price("minPrice"), maxPrice: price("maxPrice"), inStock: all.inStock ?? "" };
}

/** The query as the API takes it: without the words whose second letter is still to come (ideographs are words by themselves). */
export function asked(query) {
  const isWord = (word) => !/^[\p{L}\p{N}]$/u.test(word) || /\p{Ideographic}/u.test(word);
  const q = (query.q ?? "").split(/\s+/).filter(isWord).join(" ");
  return { ...query, q, sort: query.sort === "relevance" ? "" : query.sort };
}

function radio(value, text, isChosen, count) {
  const id = `category ${value}`;
  return make(
    "div",
    { class: "choice" },
    make("input", { type: "radio", name: "category", id, value, checked: isChosen }),
    make("label", { for: id }, text, count !== undefined && make("span", { class: "soft" }, ` ${number(count)}`)),
  );
}

/** Adds the shop's categories to `fieldset`. Without them the catalogue is as usable: they stay away, then. */
export async function addCategories(fieldset, signal) {
  try {
    const { data } = await ask("GET", "/categories", { signal, signed: false });
    const [, first] = fieldset.querySelectorAll(".choice");
    const hadFocus = first?.contains(document.activeElement);
    if (first && !data.some(({ name }) => name === first.firstChild.value)) data.unshift({ name: first.firstChild.value });
    // What is chosen may have changed meanwhile.
    const chosen = fieldset.querySelector(":checked").value;
    first?.remove();
    fieldset.append(...data.map(({ name, products }) => radio(name, own(name), name === chosen, products)));
    if (hadFocus) fieldset.querySelector(":checked").focus();
  } catch (error) {
    if (!signal.aborted) fieldset.append(make("p", { class: "soft" }, t("shop.noCategories")));
  }
}
