// A value in a table that can be changed where it stands.

import { make } from "../common/dom.js";
import { button, form, isBusy } from "../common/forms.js";
import { trouble } from "../common/notices.js";
import { leaving } from "../common/router.js";
import { t } from "../common/texts.js";
import { watchOver } from "./unsaved.js";
import { checked } from "./wrong.js";

/** A button that shows a value, and becomes a form when it is pressed. `text()` gives what it shows, `label()` says what it changes,
 *  `begin()` loads what the form needs and gives its fields, `save(values, form)` stores it, and may throw a Problem. Its `draw()` shows
 *  them anew, after a change by something else. */
export function inline({ label, text, begin, save }) {
  const place = make("div", { class: "inline" });
  const opener = button("", open, { class: "value" });
  const draw = () => opener.replaceChildren(make("span", { class: "unseen" }, `${label()}: `), text());
  const close = () => {
    draw();
    place.replaceChildren(opener);
    opener.focus();
  };
  async function open() {
    if (opener.getAttribute("aria-disabled") === "true") return;
    opener.setAttribute("aria-disabled", "true");
    // What went wrong the last time.
    opener.nextElementSibling?.remove();
    try {
      edit(await begin());
    } catch (error) {
      if (error.name !== "AbortError") place.append(trouble(error));
    } finally {
      opener.removeAttribute("aria-disabled");
    }
  }
  function edit(fields) {
    const whole = form({
      fields,
      say: t("admin.save"),
      "aria-label": label(),
      submit: async (values, element) => {
        await checked(element, () => save(values, element));
        close();
      },
    });
    // A save that is under way may be refused, which is told in the form.
    const cancel = () => isBusy(whole) || close();
    whole.querySelector(".actions").append(button(t("admin.cancel"), cancel));
    whole.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
    place.replaceChildren(whole);
    watchOver(whole, leaving());
    const input = whole.querySelector("input");
    input.focus();
    input.select();
  }
  draw();
  place.append(opener);
  return Object.assign(place, { draw });
}
