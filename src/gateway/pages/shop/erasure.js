// Erases the account, when the customer has said it in words.

import { ask } from "../common/api.js";
import { make } from "../common/dom.js";
import { button, field, form, mark } from "../common/forms.js";
import { announce } from "../common/notices.js";
import * as session from "../common/session.js";
import { t } from "../common/texts.js";
import * as cart from "./cart.js";
import * as delivery from "./delivery.js";
import { dialog } from "./dialog.js";
import * as placing from "./placing.js";
import { home } from "./signed.js";

/** What erasing means, and a button that opens its dialog. */
export function erasure(account, signal) {
  return [
    make("p", {}, t("shop.erase.text")),
    make(
      "p",
      {},
      button(t("shop.erase.open"), () => open(account, signal), { class: "danger" }),
    ),
  ];
}

function open(account, signal) {
  const word = t("shop.erase.word");
  const submit = async ({ currentPassword, word: typed }, whole) => {
    if (typed.trim().toLocaleLowerCase() !== word.toLocaleLowerCase()) {
      mark(whole, "word", t("shop.erase.wordWrong", { word }));
      whole.querySelector("[name=word]").focus();
      return;
    }
    await ask("DELETE", "/auth/me", { body: { currentPassword } });
    box.close("");
    await gone(account);
  };
  const whole = form({
    submit,
    say: t("shop.erase.go"),
    fields: [
      make("input", { autocomplete: "username", value: account.email, hidden: true }),
      field("currentPassword", t("shop.account.current"), { type: "password", autocomplete: "current-password", required: true }),
      field("word", t("shop.erase.type", { word }), { autocomplete: "off", required: true }),
    ],
  });
  const { box } = dialog(t("shop.erase.title"), [make("h2", {}, t("shop.erase.title")), make("p", {}, t("shop.erase.text")), whole], signal);
  whole.querySelector(".actions").append(button(t("shop.back"), () => box.close("")));
  whole.querySelector(".primary").classList.add("danger");
}

/** Nothing of the customer stays in this browser. */
async function gone({ id }) {
  for (const part of [cart, delivery, placing]) part.forget(id);
  await session.forget("left");
  announce(t("shop.erase.done"));
  await home();
}
