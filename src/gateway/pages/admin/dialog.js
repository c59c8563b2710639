// Asks before something is done that cannot be taken back.

import { make } from "../common/dom.js";
import { button, form, isBusy } from "../common/forms.js";
import { leaving } from "../common/router.js";
import { t } from "../common/texts.js";

let count = 0;

/** Asks in a dialog, and runs `act(values)` when `say` is pressed. A problem that `act` throws is shown there. Gives whether it was done; it
 *  was not where the page is left, with which the dialog goes. What is under way cannot be cancelled.
 *  `fields` are those of its form, `text` a text or elements. */
export function ask({ title, text, fields = [], say, act }) {
  const id = `dialog-${++count}`;
  return new Promise((done, fail) => {
    let isDone = false;
    let isLeft = false;
    let running = null;
    const whole = form({
      fields,
      say,
      submit: async (values, element) => {
        running = act(values, element);
        await running.finally(() => (running = null));
        isDone = true;
        dialog.close();
      },
    });
    const cancel = button(t("admin.cancel"), () => isBusy(whole) || dialog.close());
    whole.querySelector(".actions").append(cancel);
    const dialog = make("dialog", { "aria-labelledby": id }, make("h2", { id }, title), make("div", {}, text), whole);
    dialog.addEventListener("cancel", (event) => isBusy(whole) && event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      // Chromium closes it at a second Escape all the same: then who asked learns how it went.
      if (running && !isLeft) running.then(() => done(true), fail);
      else done(isDone);
    });
    leaving().addEventListener("abort", () => {
      isLeft = true;
      dialog.close();
    });
    document.body.append(dialog);
    dialog.showModal();
    // The safe answer is the one that Enter gives.
    (whole.querySelector("input, select") ?? cancel).focus();
  });
}

/** Asks, and gives whether the answer was `say`. */
export const confirm = (words) => ask({ ...words, act: async () => {} });
