// The account: what the shop knows of a customer, and its end.

import { ask, get, post } from "../common/api.js";
import { make } from "../common/dom.js";
import { button, field, form, mark } from "../common/forms.js";
import { announce, degraded, trouble } from "../common/notices.js";
import { href } from "../common/router.js";
import * as session from "../common/session.js";
import { t, time } from "../common/texts.js";
import { confirm } from "./dialog.js";
import { erasure } from "./erasure.js";
import { customer, home } from "./signed.js";

/** How long a browser may take to save a file, in milliseconds. */
const SAVED = 60_000;

export default async function page({ signal, show }) {
  const account = await customer(signal);
  if (!account) return;
  if (!account.email)
    throw await get("/auth/me").then(
      () => new Error("no account"),
      (error) => error,
    );
  const section = (title, ...content) => make("section", { class: "card" }, make("h2", {}, t(`shop.account.sections.${title}`)), content);
  show(
    t("shop.account.title"),
    make("h1", {}, t("shop.account.title")),
    make("p", { class: "soft" }, t("shop.account.since"), " ", time(account.createdAt, { dateStyle: "long" })),
    make(
      "div",
      { class: "columns" },
      section("profile", profile(account)),
      section("password", password(account)),
      section("data", data()),
      section("sessions", sessions(signal)),
      section("end", erasure(account, signal)),
    ),
  );
}

function profile(account) {
  const submit = async (values, whole) => {
    const changes = {};
    for (const name of ["username", "email"]) if (values[name] !== account[name]) changes[name] = values[name];
    if (changes.email && !values.currentPassword) return missing(whole);
    if (!Object.keys(changes).length) return announce(t("shop.account.same"));
    if (changes.email) changes.currentPassword = values.currentPassword;
    const { data } = await ask("PATCH", "/auth/me", { body: changes }).catch(taken);
    session.changed();
    // The rest of the page stays: something may be typed there.
    Object.assign(account, data);
    whole.querySelector("[name=currentPassword]").value = "";
    announce(t("shop.account.saved"));
  };
  return form({
    submit,
    say: t("shop.save"),
    fields: [
      field("username", t("shop.username"), { value: account.username, autocomplete: "name", required: true, maxlength: 64, dir: "auto" }),
      field("email", t("shop.email"), { value: account.email, type: "email", autocomplete: "email", required: true }),
      field("currentPassword", t("shop.account.current"), {
        type: "password",
        autocomplete: "current-password",
        hint: t("shop.account.currentHint"),
      }),
    ],
  });
}

function missing(whole) {
  mark(whole, "currentPassword", t("common.required"));
  whole.querySelector("[name=currentPassword]").focus();
}

/** The address of another account is said at its field. */
function taken(error) {
  if (error.status === 409) error.errors = [{ field: "email", detail: t("shop.register.taken") }];
  throw error;
}

/** What browsers need to know whose password it is (https://goo.gl/9p2vKq). */
const whose = ({ email }) => make("input", { autocomplete: "username", value: email, hidden: true });

function password(account) {
  const submit = async (values, whole) => {
    const { data } = await ask("PUT", "/auth/me/password", { body: values });
    session.replace(data);
    whole.reset();
    announce(t("shop.account.newPassword"));
  };
  return form({
    submit,
    say: t("shop.account.changePassword"),
    fields: [
      whose(account),
      field("currentPassword", t("shop.account.current"), { type: "password", autocomplete: "current-password", required: true }),
      field("newPassword", t("shop.account.next"), {
        type: "password",
        autocomplete: "new-password",
        required: true,
        minlength: 12,
        hint: t("shop.passwordHint"),
      }),
    ],
  });
}

/** Runs `act` by a button, and says below it what went wrong. */
function action(text, act, attributes) {
  const notice = make("div");
  const run = async () => {
    notice.replaceChildren();
    try {
      await act(notice);
    } catch (error) {
      notice.replaceChildren(trouble(error, run));
    }
  };
  return [make("p", {}, button(text, run, attributes)), notice];
}

function data() {
  return [
    make("p", {}, t("shop.account.dataText")),
    action(t("shop.account.export"), async (notice) => {
      const { data } = await get("/auth/me/export");
      const url = URL.createObjectURL(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }));
      make("a", { href: url, download: "shop-account.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), SAVED);
      if (data.degraded?.length) notice.replaceChildren(degraded(t("shop.account.degraded")));
      else announce(t("shop.account.exported"));
    }),
  ];
}

function sessions(signal) {
  const leave = async () => {
    await session.signOut();
    announce(t("shop.account.left"));
    await home();
  };
  const leaveAll = async () => {
    if (!(await confirm(t("shop.account.everywhereAsk"), t("shop.account.everywhere"), signal))) return;
    await post("/auth/logout-all");
    await session.forget("left");
    announce(t("shop.account.leftAll"));
    await home();
  };
  return [
    make("p", {}, make("a", { href: href("/orders") }, t("shop.orders.title"))),
    action(t("shop.account.leave"), leave),
    action(t("shop.account.everywhere"), leaveAll),
  ];
}
