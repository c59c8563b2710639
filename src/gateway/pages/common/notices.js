// What is not as it should be, in words.

import { by, make, say } from "./dom.js";
import { has, t } from "./texts.js";

/** Says something to screen readers and, for a moment, to everybody. */
export function announce(text) {
  by("said").textContent = "";
  by("said").textContent = text;
  const toast = by("toast");
  // It says the same to eyes alone.
  toast.setAttribute("aria-hidden", "true");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => (toast.hidden = true), 6000);
}

function kind(error) {
  if (error.status === undefined) return "unexpected";
  if (error.status === 0) return navigator.onLine ? "unreachable" : "offline";
  if (error.isAway) return "away";
  return has(`common.problem.${error.status}`) ? String(error.status) : "other";
}

/** What is wrong, in a sentence; of a part that is away, which it is. */
function words(name, error) {
  const part = `common.away.${error.part}`;
  return name === "away" && has(part) ? t(part) : t(`common.problem.${name}`, { detail: error.detail, seconds: error.retryAfter ?? 0 });
}

/** A box that tells what went wrong and, where `again` is given, tries again: by a button, or by itself when the shop said
 *  after how long. `errors` are those of fields that the page does not have. */
export function trouble(error, again = null, errors = error.errors ?? []) {
  if (error.status === undefined) console.error(error);
  const name = kind(error);
  const told = make("div", { role: "alert" },
    make("p", { class: "what" }, error.words ?? words(name, error)),
    // The details of the API are for people, in English.
    ["409", "422", "other"].includes(name) && error.detail && make("p", { lang: "en" }, error.detail),
    errors.length > 0 && make("ul", { lang: "en" }, errors.map(({ field, line, detail }) => make("li", {}, `${field ? readable(field) : line}: ${detail}`))),
    error.requestId && !["401", "404", "409", "422"].includes(name) && make("p", { class: "soft" }, t("common.request", { id: error.requestId })));
  const box = make("div", { class: "trouble", tabindex: "-1", "data-kind": name }, told);
  if (again) box.append(make("p", {}, make("button", { type: "button", onclick: again }, t("common.again"))));
  if (error.status === 429) wait(box, error.retryAfter ?? 5, again);
  return box;
}

/** The name of a field that the page does not have, as in `items 1, product id` for `items[0].productId`. */
function readable(field) {
  const counted = field.replace(/\[(\d+)\]/g, (_, at) => ` ${Number(at) + 1}`);
  return counted.replaceAll(".", ", ").replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** Counts down, as long as the box is there; then tries again, or says that it may be tried. Screen readers hear the end alone. */
function wait(box, seconds, again) {
  const end = Date.now() + seconds * 1000;
  const note = make("p", { class: "soft" });
  box.append(note);
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left > 0) return say(note, t(again ? "common.wait" : "common.pause", { count: left }));
    clearInterval(timer);
    if (again) return again();
    say(note, t("common.ready"));
    by("said").textContent = note.textContent;
  };
  const timer = setInterval(() => (box.isConnected ? tick() : clearInterval(timer)), 1000);
  tick();
}

/** A line that something is shown without a part of the shop. */
export const degraded = (text) => make("p", { class: "degraded", role: "status" }, text);

/** Shows above the page whether the browser is offline. */
export function watch() {
  const bar = by("offline");
  const show = () => (bar.hidden = navigator.onLine);
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
}
