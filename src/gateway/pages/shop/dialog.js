// Asks before something that cannot be undone.

import { make } from "../common/dom.js";
import { t } from "../common/texts.js";

/** Shows `content` in a dialog of its own, which goes when it is closed, or its page is left (`signal`). `closed` says whether it was closed by
 *  a "yes". */
export function dialog(label, content, signal) {
  const box = make("dialog", { "aria-label": label }, content);
  const before = document.activeElement;
  document.body.append(box);
  box.showModal();
  signal.addEventListener("abort", () => box.close(""));
  return {
    box,
    closed: new Promise((resolve) =>
      box.addEventListener("close", () => {
        const { returnValue } = box;
        box.remove();
        if (before?.isConnected) before.focus();
        resolve(returnValue === "yes");
      }),
    ),
  };
}

/** Whether the customer wants `question`, by a button that says `yes`. */
export function confirm(question, yes, signal) {
  const { box, closed } = dialog(question, [make("p", {}, question)], signal);
  box.append(
    make(
      "p",
      { class: "actions" },
      make("button", { type: "button", class: "danger", onclick: () => box.close("yes") }, yes),
      make("button", { type: "button", onclick: () => box.close("") }, t("shop.back")),
    ),
  );
  box.querySelector("button:last-child").focus();
  return closed;
}
