// One page at a time: shows that of the address, without loading the document again.

import { by } from "./dom.js";
import { Problem } from "./http.js";
import { t } from "./texts.js";

let app;
let leave = new AbortController();
/** The address of what is shown, without its fragment. */
let shown = "";
/** Which of the entries of this application's history is shown, so that a step of the browser's buttons can be taken back. */
let at = 0;
const guards = new Set();
let isAsking = false;

/** The signal that is aborted when the page that is shown now is left. */
export const leaving = () => leave.signal;

/** Calls `ask()` before the page is left by a link, by go() or by the browser's buttons, until `signal` is aborted. It says whether the
 *  page may be left, as a promise. */
export function guard(ask, signal) {
  guards.add(ask);
  signal.addEventListener("abort", () => guards.delete(ask));
}

/** Whether somebody is to be asked before this page is left. */
export const isGuarded = () => guards.size > 0;

/** Whether this page may be left. */
export async function mayLeave() {
  for (const ask of [...guards]) if (!(await ask())) return false;
  return true;
}

function enter(url) {
  history.pushState({ at: ++at }, "", url);
  return render();
}

/** A step by the browser's buttons, or to another part of the same page, as by the link that skips its head. */
async function step() {
  // The browser has made the entry of such a part itself.
  const isNew = history.state?.at === undefined;
  if (isNew) history.replaceState({ at: at + 1 }, "");
  if (address() === shown) at = history.state.at;
  else if (!guards.size) arrive();
  else if (!isAsking) {
    isAsking = true;
    const isFree = await mayLeave().finally(() => (isAsking = false));
    // Another step may have led back here meanwhile.
    if (address() !== shown) isFree ? arrive() : history.go(at - history.state.at);
  }
}

function arrive() {
  at = history.state.at;
  render({ back: true });
}

const address = () => location.pathname + location.search;

function pattern(path) {
  return new RegExp(`^${path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
}

/** The address of a page, as in `/products/1`. */
export const href = (path) => app.base + (path === "/" ? "" : path);

/** Goes to a page of this application. */
export async function go(path, { replace = false } = {}) {
  if (guards.size && !(await mayLeave())) return;
  if (!replace) return enter(href(path));
  history.replaceState({ at }, "", href(path));
  return render();
}

/** Changes the query of the address and leaves the page as it is. Empty values go. */
export function refine(query) {
  const kept = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const text = new URLSearchParams(kept).toString();
  history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : ""));
  shown = address();
}

/** The path of this page within the application, with its query. */
export const here = () => (location.pathname.slice(app.base.length) || "/") + location.search;

function find(path) {
  for (const [matcher, load] of app.routes) {
    const found = matcher.exec(path);
    if (found) {
      const params = Object.entries(found.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]);
      return { load, params: Object.fromEntries(params) };
    }
  }
  return { load: app.missing, params: {} };
}

/** The module of a page. The network may be gone, or the page may have a mistake, which the browser tells. */
function load(found) {
  return found.load().catch((error) => {
    console.warn(error);
    throw new Problem(0);
  });
}

/** Gives the document the title of a page. */
export const entitle = (title) => (document.title = `${title} · ${t(app.title)}`);

/** Shows the page of the address, again if it is there already. `back` says that the browser's buttons led here: the page
 *  may then show its old place. */
export async function render({ focus = true, back = false } = {}) {
  shown = address();
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  let path = location.pathname.slice(app.base.length).replace(/\/$/, "") || "/";
  let found;
  try {
    found = find(path);
  } catch {
    found = { load: app.missing, params: {} }; // %zz
  }
  const main = by("main");
  main.setAttribute("aria-busy", "true");
  /** Fills the page. It may be called again, with more. */
  const show = (title, ...content) => {
    if (signal.aborted) return;
    const isFirst = main.getAttribute("aria-busy") === "true";
    entitle(title);
    main.replaceChildren(...content.flat(Infinity).filter(Boolean));
    main.removeAttribute("aria-busy");
    if (!isFirst) return;
    by("said").textContent = title;
    if (focus) {
      if (!back) scrollTo(0, 0);
      const heading = main.querySelector("h1");
      heading?.setAttribute("tabindex", "-1");
      heading?.focus({ preventScroll: true });
    }
  };
  for (const link of document.querySelectorAll("nav a[href]")) {
    const isHere = link.pathname === location.pathname;
    const isAbove = location.pathname.startsWith(`${link.pathname}/`);
    isHere || isAbove ? link.setAttribute("aria-current", isHere ? "page" : "true") : link.removeAttribute("aria-current");
  }
  const view = { ...found, path, query: new URLSearchParams(location.search), signal, show, back };
  try {
    const page = await load(found);
    if (!signal.aborted) await page.default(view);
  } catch (error) {
    if (!signal.aborted) show(t("common.trouble"), app.trouble(error, () => render()));
  }
}

async function follow(url) {
  if (!guards.size || (await mayLeave())) enter(url);
}

/** Begins. `routes` are pairs of a path, as in `/products/:id`, and a function that loads the module of its page, whose default
 *  export takes `{ params, query, path, signal, show, back }`; `missing` loads that of an unknown address; `trouble(error, again)` makes the page
 *  of an error; `title` is the key of the application's name. `data-base` of the document says where the application is. */
export function start({ routes, missing, trouble, title }) {
  const base = document.documentElement.dataset.base;
  app = { base, missing, trouble, title, routes: routes.map(([path, load]) => [pattern(path), load]) };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const isOther = event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.defaultPrevented;
    if (!link || isOther || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname === location.pathname && link.hash) return;
    if (link.pathname !== base && !link.pathname.startsWith(`${base}/`)) return;
    event.preventDefault();
    follow(link.href);
  });
  addEventListener("popstate", step);
  at = history.state?.at ?? 0;
  history.replaceState({ at }, "");
  return render({ focus: false });
}
