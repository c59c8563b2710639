// A secret that is shown once.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";

/** A box with the secret and a button that copies it; `more` stands below. */
export function secret(text, ...more) {
  const shown = make("input", {
    id: "secret",
    readonly: true,
    value: text,
    dir: "ltr",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "secret-note",
  });
  const copy = button(t("admin.secret.copy"), async () => {
    const isDone = await copied(shown);
    announce(t(isDone ? "admin.secret.copied" : "admin.secret.byHand"));
  });
  return make(
    "section",
    { class: "degraded secret", "aria-label": t("admin.secret.title") },
    make("label", { for: "secret" }, t("admin.secret.title")),
    make("div", { class: "actions" }, shown, copy),
    make("p", { id: "secret-note" }, t("admin.secret.once")),
    more.length > 0 && make("p", {}, more),
  );
}

/** Browsers give the clipboard to pages of HTTPS alone, and ask; elsewhere the text is selected, for Ctrl+C. */
async function copied(input) {
  try {
    await navigator.clipboard.writeText(input.value);
    return true;
  } catch {
    input.focus();
    input.select();
    return false;
  }
}
