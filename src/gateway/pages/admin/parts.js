// What many pages are made of.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { ROOT } from "../common/http.js";
import { trouble } from "../common/notices.js";
import { href } from "../common/router.js";
import { changed } from "../common/session.js";
import { t } from "../common/texts.js";
import { redraw } from "./redraw.js";
import { same } from "./same.js";
import { signInForm } from "./sign-in.js";

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value != null && value !== "")).toString();

/** The path of a page with a query, as for go(). */
export const withQuery = (path, values) => (query(values) ? `${path}?${query(values)}` : path);

/** A link to a page of the administration. */
export const link = (path, text, attributes = {}) => make("a", { href: href(path), ...attributes }, text);

export const shopLink = () => make("a", { href: new URL("shop", ROOT).href, class: "button" }, t("admin.shop"));

/** The page of an error, with a way on. */
export function problemPage(error, again) {
  if (error.status === 401) return signInPage();
  // The account may be no admin's any more: the next page asks.
  if (error.status === 403) changed();
  const title = t(error.status === 404 ? "admin.missing.title" : "common.trouble");
  return [make("h1", {}, title), trouble(error, again), make("p", {}, link("/", t("admin.overview.title")))];
}

/** What is shown where nobody is signed in. */
export const signInPage = () => [
  make("h1", {}, t("admin.sign.title")),
  make("p", {}, t("admin.sign.why")),
  make("div", { class: "card small" }, signInForm()),
];

/** A table that scrolls by itself where it is wider than the screen. `columns` are its heads, `rows` elements `tr`. */
export function table(label, columns, rows, attributes = {}) {
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      columns.map((column) => make("th", { scope: "col", class: column.class }, column.text ?? column)),
    ),
  );
  const body = make("tbody", {}, rows);
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    make("table", attributes, make("caption", { class: "unseen" }, label), head, body),
  );
}

export const row = (...cells) =>
  make(
    "tr",
    {},
    cells.map((cell) => (cell?.tagName === "TD" || cell?.tagName === "TH" ? cell : make("td", {}, cell))),
  );
export const cell = (attributes, ...children) => make("td", attributes, ...children);
export const lead = (...children) => make("th", { scope: "row" }, ...children);

/** Links to the first and the next page of a list. `here` is its query, `next` that of the next page or null. */
export function pager(path, here, next) {
  if (!next && !here.cursor) return null;
  return make(
    "nav",
    { class: "actions", "aria-label": t("admin.pages.label") },
    here.cursor && link(withQuery(path, { ...here, cursor: null }), t("admin.pages.first"), { class: "button" }),
    next && link(withQuery(path, { ...here, cursor: next.cursor }), t("admin.pages.next"), { class: "button" }),
  );
}

/** A part of a page that is loaded by itself, so that the others are there while a part of the shop is away. `ask()` gets what it tells, as
 *  JSON, and `draw(data)` makes its content of that. What is the same as before is not drawn again: nothing moves under anybody's hand. */
export function section(title, ask, draw, attributes = {}) {
  const body = make("div", { "aria-busy": "true" }, make("p", { class: "soft" }, t("common.loading")));
  const whole = make("section", { class: "card", ...attributes }, make("h2", {}, title), body);
  let turn = 0;
  /** What is told now; undefined before there is anything, and where something went wrong. */
  let told;
  const fill = (content) => {
    redraw(body, () => body.replaceChildren(...[content].flat().filter(Boolean)));
    // What is drawn once more does not move.
    whole.classList.toggle("first", body.hasAttribute("aria-busy"));
    body.removeAttribute("aria-busy");
  };
  whole.refresh = async () => {
    const mine = ++turn;
    try {
      const data = await ask();
      // What was asked for later may be there earlier.
      if (mine !== turn || same(data, told)) return;
      fill(draw(data));
      told = data;
    } catch (error) {
      if (mine !== turn || error.name === "AbortError") return;
      told = undefined;
      fill(trouble(error, () => whole.refresh()));
    }
  };
  whole.drawn = whole.refresh();
  return whole;
}

/** How long a page waits for its parts, in milliseconds. */
const TOGETHER = 500;

/** Until `parts` of a page are drawn, or that takes too long: what is shown then does not move under anybody's eyes. */
export function drawn(...parts) {
  const late = new Promise((done) => setTimeout(done, TOGETHER));
  return Promise.race([late, Promise.all(parts.map((part) => part.drawn))]);
}

/** A button that does something at once and shows in `place` what went wrong. */
export function action(text, act, place, attributes = {}) {
  const one = button(
    text,
    async () => {
      if (one.getAttribute("aria-disabled") === "true") return;
      one.setAttribute("aria-disabled", "true");
      place.replaceChildren();
      try {
        await act();
      } catch (error) {
        if (error.name === "AbortError") return;
        const box = trouble(error);
        place.replaceChildren(box);
        box.focus();
      } finally {
        one.removeAttribute("aria-disabled");
      }
    },
    attributes,
  );
  return one;
}

/** The same problem with a sentence of the page for it. */
export const worded = (error, words) => Object.assign(error, { words });
