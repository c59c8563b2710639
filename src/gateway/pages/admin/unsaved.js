// Asks before somebody leaves a page on which something is not saved.

import { guard } from "../common/router.js";
import { t } from "../common/texts.js";
import { confirm } from "./dialog.js";

/** What a form says, as one text. */
function contents(form) {
  return JSON.stringify(
    [...form.elements]
      .filter(({ type }) => type !== "button" && type !== "submit")
      .map((input) => (["checkbox", "radio"].includes(input.type) ? input.checked : input.value)),
  );
}

/** Watches over what is typed into `form`, until `signal` is aborted. Gives a function to call when it is saved. */
export function watchOver(form, signal) {
  let saved = contents(form);
  warn(() => form.isConnected && contents(form) !== saved, t("admin.unsaved.text"), signal);
  return () => (saved = contents(form));
}

/** Asks with `text` before the page is left or the document closed, where `isAtRisk()`. */
export function warn(isAtRisk, text, signal) {
  addEventListener("beforeunload", (event) => isAtRisk() && event.preventDefault(), { signal });
  guard(async () => !isAtRisk() || confirm({ title: t("admin.unsaved.title"), text, say: t("admin.unsaved.leave") }), signal);
}
