// Signing in.

import { make } from "../common/dom.js";
import { field, form, mark } from "../common/forms.js";
import { go, href } from "../common/router.js";
import * as session from "../common/session.js";
import { t } from "../common/texts.js";
import { wanted } from "./arrive.js";

export default function page({ query, signal, show }) {
  const next = wanted(query);
  const submit = async ({ email, password }, whole) => {
    try {
      await session.signIn(email, password);
    } catch (error) {
      // A page of another origin gets 403, too.
      const isDisabled = error.status === 403 && error.detail.includes("disabled");
      if (error.status !== 401 && !isDisabled) throw error;
      mark(whole, "password", t(error.status === 401 ? "shop.signIn.wrong" : "shop.signIn.disabled"));
      whole.querySelector("[name=password]").focus();
      return;
    }
    if (!signal.aborted) await go(next, { replace: true });
  };
  const fields = [
    field("email", t("shop.email"), { type: "email", autocomplete: "username", required: true }),
    field("password", t("shop.password"), { type: "password", autocomplete: "current-password", required: true }),
  ];
  show(
    t("shop.signIn.title"),
    make("h1", {}, t("shop.signIn.title")),
    next !== "/" && make("p", { class: "soft" }, t("shop.signIn.why")),
    make(
      "div",
      { class: "card form" },
      form({ fields, submit, say: t("shop.signIn.go") }),
      make(
        "p",
        {},
        t("shop.signIn.new"),
        " ",
        make("a", { href: `${href("/register")}?${new URLSearchParams({ next })}` }, t("shop.register.title")),
      ),
    ),
  );
}
