// Asks before something is done that cannot be taken back.

import { make } from "../common/dom.js";
import { button, form } from "../common/forms.js";
import { leaving } from "../common/router.js";
import { t } from "../common/texts.js";

let count = 0;

/** Asks in a dialog, and runs `act(values)` when `say` is pressed. A problem that `act` throws is shown there. Gives whether it was done; it
 *  was not where the page is left, with which the dialog goes.
 *  `fields` are those of its form, `text` a text or elements. */
export function ask({ title, text, fields = [], say, act }) {
  const id = `dialog-${++count}`;
  return new Promise((done) => {
    let isDone = false;
    const whole = form({
      fields,
      say,
      submit: async (values, element) => {
        await act(values, element);
        isDone = true;
        dialog.close();
      },
    });
    const cancel = button(t("admin.cancel"), () => dialog.close());
    whole.querySelector(".actions").append(cancel);
    const dialog = make("dialog", { "aria-labelledby": id }, make("h2", { id }, title), make("div", {}, text), whole);
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(isDone);
    });
    leaving().addEventListener("abort", () => dialog.close());
    document.body.append(dialog);
    dialog.showModal();
    // The safe answer is the one that Enter gives.
    (whole.querySelector("input, select") ?? cancel).focus();
  });
}

/** Asks, and gives whether the answer was `say`. */
export const confirm = (words) => ask({ ...words, act: async () => {} });
