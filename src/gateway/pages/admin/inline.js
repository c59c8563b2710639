// A value in a table that can be changed where it stands.

import { make } from "../common/dom.js";
import { button, form } from "../common/forms.js";
import { leaving } from "../common/router.js";
import { t } from "../common/texts.js";
import { watchOver } from "./unsaved.js";
import { checked } from "./wrong.js";

/** A button that shows a value, and becomes a form when it is pressed. `text()` gives what it shows, `label` says what it changes,
 *  `begin()` loads what the form needs and gives its fields, `save(values, form)` stores it, and may throw a Problem. */
export function inline({ label, text, begin, save }) {
  const place = make("div", { class: "inline" });
  const opener = button("", open, { class: "value" });
  const draw = () => {
    opener.replaceChildren(make("span", { class: "unseen" }, `${label}: `), text());
    place.replaceChildren(opener);
  };
  const close = () => {
    draw();
    opener.focus();
  };
  async function open() {
    if (opener.getAttribute("aria-disabled") === "true") return;
    opener.setAttribute("aria-disabled", "true");
    try {
      edit(await begin());
    } catch (error) {
      if (error.name !== "AbortError") place.append(make("p", { class: "error", role: "alert" }, error.detail || t("common.trouble")));
    } finally {
      opener.removeAttribute("aria-disabled");
    }
  }
  function edit(fields) {
    const whole = form({
      fields,
      say: t("admin.save"),
      "aria-label": label,
      submit: async (values, element) => {
        await checked(element, () => save(values, element));
        close();
      },
    });
    whole.querySelector(".actions").append(button(t("admin.cancel"), close));
    whole.addEventListener("keydown", (event) => event.key === "Escape" && close());
    place.replaceChildren(whole);
    watchOver(whole, leaving());
    const input = whole.querySelector("input");
    input.focus();
    input.select();
  }
  draw();
  return Object.assign(place, { draw });
}
