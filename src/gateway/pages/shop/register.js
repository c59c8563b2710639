// A new account.

import { post } from "../common/api.js";
import { make } from "../common/dom.js";
import { field, form, mark } from "../common/forms.js";
import { announce, trouble } from "../common/notices.js";
import { go, href } from "../common/router.js";
import * as session from "../common/session.js";
import { t } from "../common/texts.js";
import { wanted } from "./arrive.js";

export default function page({ query, signal, show }) {
  const next = wanted(query);
  const submit = async (values, whole) => {
    try {
      await post("/auth/register", values, { signed: false });
    } catch (error) {
      if (error.status !== 409) throw error;
      mark(whole, "email", t("shop.register.taken"));
      whole.querySelector("[name=email]").focus();
      return;
    }
    try {
      await session.signIn(values.email, values.password);
    } catch (error) {
      return made(whole, error);
    }
    announce(t("shop.register.done", { name: values.username }));
    if (!signal.aborted) await go(next, { replace: true });
  };
  const signIn = `${href("/sign-in")}?${new URLSearchParams({ next })}`;
  /** The account is there, and signing in did not work. */
  const made = (whole, error) => {
    const box = trouble(Object.assign(error, { words: t("shop.register.made") }));
    box.append(make("p", {}, make("a", { class: "button", href: signIn }, t("shop.signIn.title"))));
    whole.querySelector(".notice").replaceChildren(box);
    box.focus();
  };
  const fields = [
    field("username", t("shop.username"), { autocomplete: "name", required: true, maxlength: 64, dir: "auto" }),
    field("email", t("shop.email"), { type: "email", autocomplete: "username", required: true }),
    field("password", t("shop.password"), {
      type: "password",
      autocomplete: "new-password",
      required: true,
      minlength: 12,
      hint: t("shop.passwordHint"),
    }),
  ];
  show(
    t("shop.register.title"),
    make("h1", {}, t("shop.register.title")),
    make(
      "div",
      { class: "card form" },
      form({ fields, submit, say: t("shop.register.go") }),
      make(
        "p",
        {},
        t("shop.register.known"),
        " ",
        make("a", { href: signIn }, t("shop.signIn.title")),
      ),
    ),
  );
}
