// Forms: a label and an error for each field, and the API's problems where they belong.

import { make } from "./dom.js";
import { t } from "./texts.js";
import { trouble } from "./notices.js";

let count = 0;

/** A field with its label. `attributes` are those of the `input`; `options`, pairs of value and text, make a `select`, `lines` a
 *  `textarea`. Its `name` is the API's, so that errors find it. */
export function field(name, label, { hint, options, lines, value, ...attributes } = {}) {
  const id = `field-${++count}`;
  const described = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(" ");
  const common = { id, name, "aria-describedby": described, ...attributes };
  let input;
  if (options) {
    input = make("select", common, options.map(([key, text]) => make("option", { value: key, selected: key === (value ?? "") }, text)));
  } else if (lines) input = make("textarea", { rows: lines, ...common }, value ?? "");
  else if (attributes.type === "checkbox") input = make("input", { ...common, checked: Boolean(value) });
  else input = make("input", { type: "text", ...common, value });
  const text = make("label", { for: id }, label, attributes.required || attributes.type === "checkbox" ? null : make("span", { class: "optional" }, ` ${t("common.optional")}`));
  const error = make("p", { id: `${id}-error`, class: "error" });
  const note = hint && make("p", { id: `${id}-hint`, class: "hint" }, hint);
  const order = attributes.type === "checkbox" ? [input, text, note, error] : [text, note, input, error];
  return make("div", { class: attributes.type === "checkbox" ? "field check" : "field", "data-field": name }, order);
}

/** A form. `submit(values, form)` gets its values, and may throw a Problem, which the form shows; `say` is the text of its button. */
export function form({ fields, submit, say, ...attributes }) {
  const notice = make("div", { class: "notice" });
  const button = make("button", { type: "submit", class: "primary" }, say);
  const whole = make("form", { novalidate: true, ...attributes }, notice, fields, make("p", { class: "actions" }, button));
  whole.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(whole));
    attempt(whole, button, () => submit(values, whole));
  });
  return whole;
}

/** Whether what `whole`, a form, was sent for is under way. */
export const isBusy = (whole) => whole.querySelector("[type=submit]").getAttribute("aria-disabled") === "true";

/** Runs `act` once, with `button` busy; the problem that it throws is shown in `whole`. */
export async function attempt(whole, button, act) {
  if (button.getAttribute("aria-disabled") === "true") return;
  clear(whole);
  if (!check(whole)) return;
  button.setAttribute("aria-disabled", "true");
  try {
    await act();
  } catch (error) {
    if (error.name !== "AbortError") explain(whole, error);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function clear(whole) {
  for (const error of whole.querySelectorAll(".error")) error.textContent = "";
  for (const input of whole.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  whole.querySelector(".notice")?.replaceChildren();
}

/** How the commonest details of the API begin, and their texts. */
const DETAILS = [["is too easy to guess", "guessable"], ["is not your password", "password"], ["must be an e-mail address", "email"]];

/** Says below a field what is wrong with it. */
export function mark(whole, name, text) {
  return put(whole, name, text, null);
}

/** The same with a detail of the API, which is in English unless it is one of the commonest. */
function tell(whole, name, detail) {
  const [, key] = DETAILS.find(([start]) => detail.startsWith(start)) ?? [];
  return key ? mark(whole, name, t(`common.detail.${key}`)) : put(whole, name, detail, "en");
}

function put(whole, name, text, language) {
  const place = whole.querySelector(`[data-field="${CSS.escape(name)}"]`);
  if (!place) return false;
  const error = place.querySelector(".error");
  error.textContent = text;
  language ? error.setAttribute("lang", language) : error.removeAttribute("lang");
  place.querySelector("input, select, textarea").setAttribute("aria-invalid", "true");
  return true;
}

const isMissing = ({ validity, required, value }) => validity.valueMissing || (validity.valid && required && !value.trim());

/** What the browser itself sees: required fields and those whose type is wrong. Blanks are nothing. */
function check(whole) {
  const wrong = [...whole.querySelectorAll("input, select, textarea")].filter((input) => !input.validity.valid || isMissing(input));
  for (const input of wrong) mark(whole, input.name, isMissing(input) ? t("common.required") : input.validationMessage);
  wrong[0]?.focus();
  return wrong.length === 0;
}

/** Shows a problem: the errors of fields at the fields, as `items[0].quantity` at `items`, the rest above all. */
export function explain(whole, error) {
  const rest = (error.errors ?? []).filter(({ field, detail }) => !tell(whole, field, detail) && !tell(whole, field.split(/[.[]/)[0], detail));
  const first = whole.querySelector("[aria-invalid]");
  if (!first || rest.length) {
    const notice = whole.querySelector(".notice");
    notice?.replaceChildren(trouble(error, null, rest));
  }
  (first ?? whole.querySelector(".trouble"))?.focus();
}

/** A button that does something else than to submit. */
export function button(text, act, attributes = {}) {
  return make("button", { type: "button", onclick: act, ...attributes }, text);
}
