// Asks before somebody leaves a page on which something is not saved.

import { go } from "../common/router.js";
import { t } from "../common/texts.js";
import { confirm } from "./dialog.js";

const BASE = document.documentElement.dataset.base;

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

/** Asks with `text` before a link is followed or the document closed, where `isAtRisk()`. */
export function warn(isAtRisk, text, signal) {
  addEventListener("beforeunload", (event) => isAtRisk() && event.preventDefault(), { signal });
  const follow = async (event) => {
    const link = event.target.closest?.("a[href]");
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !isPlain || link.target || !isAtRisk() || !(link.pathname === BASE || link.pathname.startsWith(`${BASE}/`))) return;
    // The router does not see this click.
    event.preventDefault();
    event.stopPropagation();
    const isSure = await confirm({ title: t("admin.unsaved.title"), text, say: t("admin.unsaved.leave") });
    if (isSure) go((link.pathname.slice(BASE.length) || "/") + link.search);
  };
  document.addEventListener("click", follow, { signal, capture: true });
}
