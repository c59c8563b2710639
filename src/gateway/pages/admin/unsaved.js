// Asks before somebody leaves a page on which something is not saved.

import { guard } from "../common/router.js";
import { t } from "../common/texts.js";
import { confirm } from "./dialog.js";

/** What is at risk on a page, by its signal: each has `isAtRisk()` and the `text` of the question. */
const watched = new WeakMap();

/** What a form says, as one text. */
function contents(form) {
  return JSON.stringify(
    [...form.elements]
      .filter(({ type }) => type !== "button" && type !== "submit")
      .map((input) => (["checkbox", "radio"].includes(input.type) ? input.checked : input.value)),
  );
}

/** Watches over what is typed into `form`, until `signal` is aborted. Gives `{ typed, saved }`: `typed()` is what the form says, to be
 *  taken when a save begins, and `saved(typed)` is to be called when that is stored; without it, it is what the form says then. */
export function watchOver(form, signal) {
  let stored = contents(form);
  warn(() => form.isConnected && contents(form) !== stored, t("admin.unsaved.text"), signal);
  return { typed: () => contents(form), saved: (typed = contents(form)) => (stored = typed) };
}

/** Asks with `text` before the page is left or the document closed, where `isAtRisk()`. However much is at risk, it is asked once. */
export function warn(isAtRisk, text, signal) {
  const known = watched.get(signal);
  if (known) return known.push({ isAtRisk, text });
  watched.set(signal, [{ isAtRisk, text }]);
  const first = () => watched.get(signal).find((one) => one.isAtRisk());
  addEventListener("beforeunload", (event) => first() && event.preventDefault(), { signal });
  guard(async () => {
    const one = first();
    return !one || confirm({ title: t("admin.unsaved.title"), text: one.text, say: t("admin.unsaved.leave") });
  }, signal);
}

/** What the page of `signal` is about is gone, and with it what could be saved there. */
export function forgetAll(signal) {
  watched.get(signal)?.splice(0);
}
